"""What it costs as things grow: to serve, prepare, fit a linear probe, train and scan.

    python benchmarks/growth.py                          # prints six tables
    python benchmarks/growth.py --picture growth.png     # and plots them

Source of docs/growth.png and of "Growth and start-up" in docs/speed.md. Each point is measured in a
process of its own, so that the peak memory is its own. Tracks and batches are classified by a net
of DistilHuBERT's architecture with random weights, in windows of 5 s. Datasets and libraries have
clips of 1.5 s, and the nets that are trained on them, and scan them, are the quickstart's, so that
it shows if something beside the net grows faster than the work.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_hf
from benchmarks.inputs import music, save_distilhubert, save_random
from benchmarks.measuring import ROOT, peak_gigabytes, print_head, print_row, run_apart
from data_prep.prepare import prepare
from data_prep.synthetic import write_archive
from music_genre import GenreClassifier, windows
from music_genre.evaluation.plots import BLUE, ORANGE
from music_genre.library.scan import scan
from music_genre.old_audio import SAMPLING_RATE
from music_genre.training.arguments import parse_arguments

WINDOW_SECONDS = 5.0
CLIP_SECONDS = 1.5
SIZES = {  # by what is done; the unit of its size and of its cost
    "track": ((1, 5, 30, 60, 180, 600, 1800, 3600), "s", "second of audio"),
    "batch": ((1, 2, 4, 8, 16, 32, 64), "windows", "window"),
    "prepare": ((100, 1000, 10_000), "clips", "clip"),
    "probe": ((100, 300, 1000, 3000), "clips", "clip"),
    "train": ((100, 300, 1000, 3000), "clips", "clip"),
    "scan": ((100, 300, 1000, 3000), "files", "file"),
}


def track(folder: Path, seconds: int) -> float:
    """Seconds to classify a waveform of that many seconds."""
    net, waveform = GenreClassifier(folder / "model"), music(seconds)
    return best_of_two(lambda: net(waveform, SAMPLING_RATE))


def batch(folder: Path, n: int) -> float:
    """Seconds for that many windows in one pass."""
    net = GenreClassifier(folder / "model")
    window = int(net.window_seconds * SAMPLING_RATE)
    cuts = windows.cut(music(n * net.window_seconds), window)
    return best_of_two(lambda: net.window_probabilities(cuts))


def prepare_clips(folder: Path, n: int) -> float:
    """Seconds to make a dataset of a zip with that many clips."""
    return seconds_of(lambda: _prepare(folder, n))


def probe(folder: Path, n: int) -> float:
    """Seconds from a dataset of that many clips to a linear probe: scored, written, with a card."""
    return _train(folder, n, "--num_train_epochs", "0")


def train(folder: Path, n: int) -> float:
    """Seconds of a run of one epoch, without a linear probe."""
    return _train(folder, n, "--num_train_epochs", "1", "--linear_probe", "False")


def scan_files(folder: Path, n: int) -> float:
    """Seconds to scan a folder with that many files."""
    with zipfile.ZipFile(folder / f"{n}.zip") as archive:
        archive.extractall(folder / "music")
    classifier = GenreClassifier(folder / "tiny")
    return seconds_of(lambda: scan(classifier, [folder / "music"], folder / "genres.csv"))


def _prepare(folder: Path, n: int) -> Path:
    dataset = folder / f"dataset-{n}"
    prepare([folder / f"{n}.zip"], dataset, split="random")
    return dataset


def _train(folder: Path, n: int, *options: str) -> float:
    given = {
        "dataset": _prepare(folder, n), "model_name_or_path": folder / "tiny",
        "output_dir": folder / "run", "window_seconds": 1, "per_device_train_batch_size": 16,
        "spec_augment": False, "precision": "fp32", "disable_tqdm": True,
    }  # fmt: skip
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    arguments = parse_arguments([*flags, *options])
    with redirect_stdout(sys.stderr):  # the figures are the last line
        return seconds_of(lambda: train_hf.run(*arguments))


MEASURES: dict[str, Callable[[Path, int], float]] = {
    "track": track, "batch": batch, "prepare": prepare_clips, "probe": probe, "train": train,
    "scan": scan_files,
}  # fmt: skip


def seconds_of(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def best_of_two(action: Callable[[], object]) -> float:
    return min(seconds_of(action) for _ in range(2))


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
        archive = folder / f"{size}.zip"
        if each in ("clip", "file") and not archive.exists():
            write_archive(archive, size // 10, CLIP_SECONDS)
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
    """Left axes: the cost of each second, window, clip or file. Right axes: the peak memory."""
    n_rows = math.ceil(len(results) / 3)
    figure = Figure(figsize=(11, 3.2 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, min(3, len(results)), squeeze=False).flat
    for axes, (what, points) in zip(panels, results.items(), strict=False):
        _, unit, each = SIZES[what]
        sizes = [point["size"] for point in points]
        memory = axes.twinx()
        axes.plot(sizes, [point["each"] for point in points], "o-", color=BLUE)
        memory.plot(sizes, [point["peak"] for point in points], "s--", color=ORANGE)
        axes.set(xscale="log", title=what, xlabel=unit, ylim=(0, None))
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
        save_random(ROOT / "configs" / "tiny-hubert", folder / "tiny")
        results = {what: measure_all(what, folder, arguments.largest) for what in SIZES}
    if arguments.picture:
        plot(results, arguments.picture)


if __name__ == "__main__":
    main()
