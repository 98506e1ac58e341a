"""How long it takes until `--help`, a wrong argument, a first answer or the page is there.

    python benchmarks/start_up.py --model runs/quickstart

Source of the table of start-up in docs/speed.md. Each is a new process, in turn, with the imports
that the others need beside them. Peak memory is that of the process; the page's is what it has when
it is ready.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.inputs import music
from benchmarks.measuring import ROOT, print_head, print_row, spread
from benchmarks.page_client import serving
from music_genre.old_audio import SAMPLING_RATE

IMPORTS = "import torch, transformers, gradio"
COMMANDS = {
    "train_hf.py --help": ["train_hf.py", "--help"],
    "train_hf.py, a wrong option": ["train_hf.py", "--learning_rat", "1"],
    "train_hf.py, no such file": ["train_hf.py", "nowhere.json"],
    "python -m data_prep --help": ["-m", "data_prep", "--help"],
    "python -m music_genre --help": ["-m", "music_genre", "--help"],
    "python -m music_genre.publishing --help": ["-m", "music_genre.publishing", "--help"],
    "python -m baselines --help": ["-m", "baselines", "--help"],
    "app.py --help": ["app.py", "--help"],
    IMPORTS: ["-c", IMPORTS],
    "from music_genre import GenreClassifier": ["-c", "from music_genre import GenreClassifier"],
    "music-genre classify, 12 s": ["-m", "music_genre", "classify", "{song}", "--model", "{model}"],
    "music-genre scan, one file of 12 s": [
        "-m", "music_genre", "scan", "{song}", "--model", "{model}", "--output", "{table}",
    ],
}  # fmt: skip
# By a small process: memory at the peak counts from the fork on, which copies what starts it.
LAUNCH = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([process.returncode, time.perf_counter() - start, usage.ru_maxrss / 2**20]))
"""
WRONG = {"train_hf.py, a wrong option", "train_hf.py, no such file"}
PAGE = "app.py, ready"


def measure(command: list[str], exit_code: int) -> tuple[float, float]:
    """Seconds of a process, and its peak memory in GB."""
    launcher = [sys.executable, "-c", LAUNCH, sys.executable, *command]
    printed = subprocess.run(launcher, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ended_with, seconds, gigabytes = json.loads(printed)
    if ended_with != exit_code:
        sys.exit(f"{' '.join(command)} ended with {ended_with}, not {exit_code}.")
    return seconds, gigabytes


def measure_page(model: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with serving(model, Path(folder)) as server:
            return time.perf_counter() - start, server.resident()[0] / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model's folder")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    model = str(arguments.model.resolve())
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in (*COMMANDS, PAGE)}
    for _ in range(arguments.runs):
        for name, command in COMMANDS.items():
            with tempfile.TemporaryDirectory() as folder:
                song, table = Path(folder, "song.wav"), Path(folder, "table.csv")
                soundfile.write(song, music(12.0), SAMPLING_RATE)
                filled = [part.format(song=song, model=model, table=table) for part in command]
                results[name].append(measure(filled, 2 if name in WRONG else 0))
        results[PAGE].append(measure_page(model))
    print(f"medians of {arguments.runs} runs (extremes)")
    print_head("", "seconds", "peak memory, GB")
    for name, runs in results.items():
        seconds, gigabytes = zip(*runs, strict=True)
        print_row(f"`{name}`", spread(seconds, ".2f"), f"{statistics.median(gigabytes):.2f}")


if __name__ == "__main__":
    main()
