"""How long one waits: for `--help`, for a wrong argument, and for the page.

    python benchmarks/start_up.py --model runs/quickstart

The page is beside the imports that it cannot do without, alternating, each in a new process.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page_client import ROOT, serving

IMPORTS = "import torch, transformers, gradio"
ANSWERS = {  # command lines that do no work
    "train_hf.py --help": ["train_hf.py", "--help"],
    "train_hf.py, a wrong option": ["train_hf.py", "--learning_rat", "1"],
    "train_hf.py, no such file": ["train_hf.py", "nowhere.json"],
    "python -m data_prep --help": ["-m", "data_prep", "--help"],
    "python -m music_genre.library --help": ["-m", "music_genre.library", "--help"],
    "python -m music_genre.publishing --help": ["-m", "music_genre.publishing", "--help"],
    "python -m baselines --help": ["-m", "baselines", "--help"],
    "app.py --help": ["app.py", "--help"],
}


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True)
    return time.perf_counter() - start


def seconds_to_page(model: str) -> float:
    """Until the page answers."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with serving(model, Path(folder)):
            return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a model's folder")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    model = str(Path(arguments.model).resolve())
    seconds: dict[str, list[float]] = {name: [] for name in (*ANSWERS, IMPORTS, "app.py, ready")}
    for _ in range(arguments.runs):
        for name, command in ANSWERS.items():
            seconds[name].append(seconds_of(command))
        seconds[IMPORTS].append(seconds_of(["-c", IMPORTS]))
        seconds["app.py, ready"].append(seconds_to_page(model))
    print(f"medians of {arguments.runs} (extremes)\n| | seconds |\n| --- | ---: |")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| `{name}` | {median:.2f} ({min(times):.2f} to {max(times):.2f}) |")


if __name__ == "__main__":
    main()
