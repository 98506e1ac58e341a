"""How long it takes until `--help`, a wrong argument, or the page is answered.

    python benchmarks/start_up.py --model runs/quickstart

Source of the last paragraph of "Growth and start-up" in docs/speed.md. The page is measured beside
the imports that it needs, alternating, each in a new process.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ROOT, print_head, print_row, spread
from benchmarks.page_client import serving

IMPORTS = "import torch, transformers, gradio"
COMMANDS = {
    "train_hf.py --help": ["train_hf.py", "--help"],
    "train_hf.py, a wrong option": ["train_hf.py", "--learning_rat", "1"],
    "train_hf.py, no such file": ["train_hf.py", "nowhere.json"],
    "python -m data_prep --help": ["-m", "data_prep", "--help"],
    "python -m music_genre.library --help": ["-m", "music_genre.library", "--help"],
    "python -m music_genre.publishing --help": ["-m", "music_genre.publishing", "--help"],
    "python -m baselines --help": ["-m", "baselines", "--help"],
    "app.py --help": ["app.py", "--help"],
    IMPORTS: ["-c", IMPORTS],
}


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True)
    return time.perf_counter() - start


def seconds_to_page(model: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with serving(model, Path(folder)):
            return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model's folder")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in (*COMMANDS, "app.py, ready")}
    for _ in range(arguments.runs):
        for name, command in COMMANDS.items():
            seconds[name].append(seconds_of(command))
        seconds["app.py, ready"].append(seconds_to_page(str(arguments.model.resolve())))
    print(f"medians of {arguments.runs} runs (extremes)")
    print_head("", "seconds")
    for name, times in seconds.items():
        print_row(f"`{name}`", spread(times, ".2f"))


if __name__ == "__main__":
    main()
