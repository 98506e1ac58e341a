"""`GenreClassifier` beside `pipeline("audio-classification")`: a clip, a song, and the limit.

    python benchmarks/serving.py     # DistilHuBERT's architecture, random weights

All in one process, alternating, on the same array and with the same number of threads. The limit is
arithmetic: products of large matrices, in the same rounds, with as many floating point operations
as transformers' own pass over the same windows has by torch's counter.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.models import RATE, operations, products, save_distilhubert


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder or an id; default: made here")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--song_seconds", type=int, default=600)
    return parser.parse_args()


def music(seconds: float) -> np.ndarray:
    """Synthesised, repeated where it is long; float32 at 16 kHz."""
    from data_prep.synthetic import synthesise

    return np.resize(synthesise("jazz", 7, min(seconds, 30.0), RATE), int(seconds * RATE))


def alternate(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(runs + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if i:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def print_rows(what: str, seconds: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    of_peer = next(iter(medians.values()))
    for name, times in seconds.items():
        limit = medians.get(name.replace("ours", "the limit")) if "ours" in name else None
        print(
            f"| {what}: {name} | {medians[name]:.3g} ({min(times):.3g} to {max(times):.3g}) "
            f"| {of_peer / medians[name]:.2f} | {f'{medians[name] / limit:.2f}' if limit else ''} |"
        )


def compare(model: str, arguments: argparse.Namespace) -> None:
    import torch
    from transformers import pipeline

    from music_genre import GenreClassifier
    from music_genre.kernels.precision import DTYPES, fast_precision
    from music_genre.windows import cut

    classifiers = {"fp32": GenreClassifier(model, precision="fp32")}
    device = classifiers["fp32"].device
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, for the convolutions of a GPU, too
    peer = pipeline("audio-classification", model=model, top_k=None, device=device)
    fast, _ = fast_precision(device)
    classifiers[fast] = GenreClassifier(model, precision=fast)
    clip, song = music(30.0), music(arguments.song_seconds)
    window_seconds = classifiers["fp32"].window_seconds
    window = int(window_seconds * RATE)
    n_operations = operations(model, window_seconds)[1] * len(cut(clip, window))

    def ask_peer(waveform: np.ndarray) -> list:
        return peer({"raw": waveform, "sampling_rate": RATE})

    of_clip: dict[str, Callable[[], object]] = {"pipeline, one pass": lambda: ask_peer(clip)}
    of_song: dict[str, Callable[[], object]] = {
        "pipeline, window by window": lambda: [ask_peer(part) for part in cut(song, window)]
    }
    for precision, classifier in classifiers.items():
        of_clip[f"ours, {precision}"] = lambda c=classifier: c(clip, RATE)
        limit, n_done = products(n_operations, DTYPES[precision], device)
        of_clip[f"the limit, {precision}"] = limit
        if abs(n_done / n_operations - 1) > 0.05:
            sys.exit("This model is too small to be measured against products of large matrices.")
        of_song[f"ours, {precision}"] = lambda c=classifier: c(song, RATE)
    print(f"{torch.get_num_threads()} threads, medians of {arguments.runs} rounds (extremes)")
    print("| | seconds | times as fast | times the limit |")
    print("| --- | ---: | ---: | ---: |")
    for what, of_ways in {"30 s": of_clip, f"{arguments.song_seconds} s": of_song}.items():
        print_rows(what, alternate(of_ways, arguments.runs))
    answers = {name: classifier(clip, RATE) for name, classifier in classifiers.items()}
    windows = [ask_peer(part) for part in cut(clip, window)]
    of_peer = {
        label: np.mean([{a["label"]: a["score"] for a in one}[label] for one in windows])
        for label in answers["fp32"].probabilities
    }
    for name, answer in answers.items():
        difference = max(abs(of_peer[g] - p) for g, p in answer.probabilities.items())
        print(f"{name}: largest difference of a probability from the pipeline's {difference:.1e}")


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments.model or save_distilhubert(Path(folder)), arguments)


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
