"""Compare `GenreClassifier` with `pipeline("audio-classification")`, on a clip and a song.

    python benchmarks/serving.py     # DistilHuBERT's architecture, random weights

Source of the table "Serving" in docs/speed.md. All variants run in one process, alternating, on the
same array and with the same number of threads.
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
import torch
from transformers import pipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import parser_of, print_head, print_row, save_distilhubert, spread
from data_prep.synthetic import synthesise
from music_genre import GenreClassifier
from music_genre.precision import fast_precision
from music_genre.windows import cut

CLIP_SECONDS = 30


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--model", help="a folder or an id; default: DistilHuBERT's architecture")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--song_seconds", type=int, default=600)
    return parser.parse_args()


def compare(model: str, arguments: argparse.Namespace) -> None:
    classifiers = {"fp32": GenreClassifier(model, precision="fp32")}
    device, rate = classifiers["fp32"].device, classifiers["fp32"].sampling_rate
    fast, _ = fast_precision(device)
    if fast not in classifiers:
        classifiers[fast] = GenreClassifier(model, precision=fast)
    peer = pipeline("audio-classification", model=model, top_k=None, device=device)
    clip = synthesise("jazz", 7, CLIP_SECONDS, rate)
    song = np.resize(clip, arguments.song_seconds * rate)
    window = int(classifiers["fp32"].window_seconds * rate)

    def ask_peer(waveform: np.ndarray) -> list[dict]:
        return peer({"raw": waveform, "sampling_rate": rate})

    clip_calls = {"pipeline, one pass": lambda: ask_peer(clip)}
    song_calls = {
        "pipeline, window by window": lambda: [ask_peer(part) for part in cut(song, window)]
    }
    for precision, classifier in classifiers.items():
        clip_calls[f"ours, {precision}"] = lambda c=classifier: c(clip, rate)
        song_calls[f"ours, {precision}"] = lambda c=classifier: c(song, rate)
    print(f"{torch.get_num_threads()} threads, medians of {arguments.runs} rounds (extremes)")
    print_head("", "seconds", "times as fast")
    print_rows(f"{CLIP_SECONDS} s", clip_calls, arguments.runs)
    print_rows(f"{arguments.song_seconds} s", song_calls, arguments.runs)


def print_rows(what: str, variants: dict[str, Callable[[], object]], runs: int) -> None:
    """Time each variant `runs` times, in turn, after one round of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for i in range(runs + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            if i:
                seconds[name].append(time.perf_counter() - start)
    peer_seconds = statistics.median(next(iter(seconds.values())))
    for name, times in seconds.items():
        ratio = peer_seconds / statistics.median(times)
        print_row(f"{what}: {name}", spread(times, ".3g"), f"{ratio:.2f}")


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments.model or str(save_distilhubert(Path(folder))), arguments)


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
