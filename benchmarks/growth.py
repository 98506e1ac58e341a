"""What it costs as things grow: the length of a track, windows in a batch, clips in a dataset.

    python benchmarks/growth.py                          # prints three tables
    python benchmarks/growth.py --picture growth.png     # and draws them

Each point is measured in a process of its own, so that the peak memory is its own. Tracks and
batches are heard by a net of DistilHuBERT's architecture with random weights, in windows of 5 s;
clips, of 1.5 s, are prepared from a zip by `data_prep`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as app.py has it
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RATE = 16_000  # hertz
WINDOW_SECONDS = 5
CLIP_SECONDS = 1.5
SIZES = {  # by what grows; the unit of its size and of its cost
    "length": ((1, 5, 30, 60, 180, 600, 1800, 3600), "s", "second of audio"),
    "batch": ((1, 2, 4, 8, 16, 32, 64), "windows", "window"),
    "clips": ((100, 1000, 10_000), "clips", "clip"),
}


def length(folder: Path, seconds: int) -> float:
    """Seconds to classify a waveform of that many seconds."""
    from benchmarks.serving import music
    from music_genre import GenreClassifier

    classifier, waveform = GenreClassifier(folder / "model"), music(seconds)
    return best_of_two(lambda: classifier(waveform, RATE))


def batch(folder: Path, n: int) -> float:
    """Seconds for that many windows in one pass."""
    from benchmarks.serving import music
    from music_genre import GenreClassifier, windows

    net = GenreClassifier(folder / "model")
    cuts = windows.cut(music(n * WINDOW_SECONDS), WINDOW_SECONDS * RATE)
    return best_of_two(lambda: net.window_probabilities(cuts))


def clips(folder: Path, n: int) -> float:
    """Seconds to make a dataset of a zip with that many clips."""
    from data_prep.prepare import prepare

    start = time.perf_counter()
    prepare([folder / f"{n}.zip"], folder / f"dataset-{n}", split="random")
    return time.perf_counter() - start


def best_of_two(way: Callable[[], object]) -> float:
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        way()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure_here(what: str, folder: Path, size: int) -> dict[str, float]:
    seconds = {"length": length, "batch": batch, "clips": clips}[what](folder, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"size": size, "seconds": seconds, "each": 1000 * seconds / size, "peak": peak}


def measure_apart(what: str, folder: Path, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", what, str(folder), str(size)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        sys.exit(f"{what} {size} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def print_table(what: str, points: list[dict[str, float]]) -> None:
    _, unit, each = SIZES[what]
    print(f"\n| {what} | seconds | ms a {each} | peak memory, GB |\n| ---: | ---: | ---: | ---: |")
    for point in points:
        print(
            f"| {point['size']:,} {unit} | {point['seconds']:.2f} | {point['each']:.1f} "
            f"| {point['peak']:.2f} |",
            flush=True,
        )


def draw(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Left axes the cost of each second, window or clip, which stays; right axes the memory."""
    from matplotlib.figure import Figure

    from music_genre.evaluation.plots import BLUE, ORANGE

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, (what, points) in zip(figure.subplots(1, len(results)), results.items(), strict=True):
        _, unit, each = SIZES[what]
        sizes = [point["size"] for point in points]
        memory = axes.twinx()
        axes.plot(sizes, [point["each"] for point in points], "o-", color=BLUE)
        memory.plot(sizes, [point["peak"] for point in points], "s--", color=ORANGE)
        axes.set(xscale="log", xlabel=f"{what}, {unit}", ylim=(0, None))
        axes.set_ylabel(f"ms a {each}", color=BLUE)
        memory.set_ylim(0, 1.25 * max(point["peak"] for point in points))
        memory.set_ylabel("peak memory, GB", color=ORANGE)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--most", type=int, default=10_000, help="leave larger sizes out")
    parser.add_argument("--picture", type=Path, help="where to draw them")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, folder, size = arguments.one
        print(json.dumps(measure_here(what, Path(folder), int(size))))
        return
    from benchmarks.models import save_distilhubert
    from data_prep.synthetic import write_archive

    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_distilhubert(folder / "model", WINDOW_SECONDS)
        for what in arguments.what:
            sizes = [size for size in SIZES[what][0] if size <= arguments.most]
            if what == "clips":
                for n in sizes:
                    write_archive(folder / f"{n}.zip", n // 10, CLIP_SECONDS)
            results[what] = [measure_apart(what, folder, size) for size in sizes]
            print_table(what, results[what])
    if arguments.picture:
        draw(results, arguments.picture)


if __name__ == "__main__":
    main()
