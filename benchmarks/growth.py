"""What it costs as things grow: the length of a track, windows in a batch, clips in a dataset.

    python benchmarks/growth.py                          # prints three tables
    python benchmarks/growth.py --picture growth.png     # and plots them

Source of docs/growth.png and of "Growth and start-up" in docs/speed.md. Each point is measured in a
process of its own, so that the peak memory is its own. Tracks and batches are classified by a net
of DistilHuBERT's architecture with random weights, in windows of 5 s; clips of 1.5 s are prepared
from a zip by `data_prep`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.inputs import music, save_distilhubert
from benchmarks.measuring import peak_gigabytes, print_head, print_row, run_apart
from data_prep.prepare import prepare
from data_prep.synthetic import write_archive
from music_genre import GenreClassifier, windows
from music_genre.audio import SAMPLING_RATE
from music_genre.evaluation.plots import BLUE, ORANGE

WINDOW_SECONDS = 5.0
CLIP_SECONDS = 1.5
SIZES = {  # by what grows; the unit of its size and of its cost
    "length": ((1, 5, 30, 60, 180, 600, 1800, 3600), "s", "second of audio"),
    "batch": ((1, 2, 4, 8, 16, 32, 64), "windows", "window"),
    "clips": ((100, 1000, 10_000), "clips", "clip"),
}


def length(folder: Path, seconds: int) -> float:
    """Seconds to classify a waveform of that many seconds."""
    net, waveform = GenreClassifier(folder / "model"), music(seconds)
    return best_of_two(lambda: net(waveform, SAMPLING_RATE))


def batch(folder: Path, n: int) -> float:
    """Seconds for that many windows in one pass."""
    net = GenreClassifier(folder / "model")
    window = int(net.window_seconds * SAMPLING_RATE)
    cuts = windows.cut(music(n * net.window_seconds), window)
    return best_of_two(lambda: net.window_probabilities(cuts))


def clips(folder: Path, n: int) -> float:
    """Seconds to make a dataset of a zip with that many clips."""
    start = time.perf_counter()
    prepare([folder / f"{n}.zip"], folder / f"dataset-{n}", split="random")
    return time.perf_counter() - start


MEASURES: dict[str, Callable[[Path, int], float]] = {
    "length": length,
    "batch": batch,
    "clips": clips,
}


def best_of_two(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(what: str, folder: Path, size: int) -> dict[str, float]:
    seconds = MEASURES[what](folder, size)
    return {
        "size": size,
        "seconds": seconds,
        "each": 1e3 * seconds / size,
        "peak": peak_gigabytes(),
    }


def measure_all(what: str, folder: Path, largest: int) -> list[dict[str, float]]:
    """Measure the sizes up to `largest`, and at least the smallest."""
    sizes, unit, each = SIZES[what]
    print()
    print_head(what, "seconds", f"ms a {each}", "peak memory, GB")
    points = []
    for size in [size for size in sizes if size <= max(largest, sizes[0])]:
        if what == "clips":
            write_archive(folder / f"{size}.zip", size // 10, CLIP_SECONDS)
        point = run_apart(__file__, "--one", what, folder, size)
        print_row(
            f"{size:,} {unit}",
            f"{point['seconds']:.2f}",
            f"{point['each']:.1f}",
            f"{point['peak']:.2f}",
        )
        points.append(point)
    return points


def plot(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Left axes: the cost of each second, window or clip. Right axes: the peak memory."""
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
    parser.add_argument("--model", type=Path, help="default: DistilHuBERT's architecture")
    parser.add_argument("--largest", type=int, default=10_000, help="leave larger sizes out")
    parser.add_argument("--picture", type=Path, help="where to plot the tables")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, folder, size = arguments.one
        print(json.dumps(measure(what, Path(folder), int(size))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.model:
            (folder / "model").symlink_to(arguments.model.resolve())
        else:
            save_distilhubert(folder / "model", WINDOW_SECONDS)
        results = {what: measure_all(what, folder, arguments.largest) for what in SIZES}
    if arguments.picture:
        plot(results, arguments.picture)


if __name__ == "__main__":
    main()
