"""Scans that are killed, in one process and in two, continue to the same table."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from music_genre.library import scan as scanning

# Runs the command, and kills process RANK as soon as it has written n rows.
KILLER = """
import os, signal, sys
from music_genre.library import __main__, table

rank, n_left = sys.argv.pop(1), int(sys.argv.pop(1))
append = table.RowWriter.append

def append_and_die(self, row):
    global n_left
    append(self, row)
    n_left -= 1
    if n_left == 0 and os.environ.get("RANK", "0") == rank:
        os.kill(os.getpid(), signal.SIGKILL)

table.RowWriter.append = append_and_die
__main__.main()
"""
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--main_process_port", "0"]  # any free one


def run(root: Path, command: list) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )


def arguments(model: Path, music: Path, output: Path) -> list:
    return [music, "--model", model, "--output", output, "--device", "cpu"]


def paths_with_a_row(output: Path) -> list[str]:
    """Of every row on the disk, in any order."""
    parts = Path(f"{output}.parts").glob("*.jsonl")
    return [json.loads(line)["path"] for part in parts for line in part.read_text().splitlines()]


def test_a_killed_scan_continues_and_the_table_is_the_same(tiny_classifier, music, root, tmp_path):
    killer, output, whole = tmp_path / "killer.py", tmp_path / "killed.csv", tmp_path / "whole.csv"
    killer.write_text(KILLER)
    n_files = len(scanning.find_files([music]))
    result = run(root, [killer, 0, 5, *arguments(tiny_classifier, music, output)])
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    assert not output.exists()
    assert len(paths_with_a_row(output)) == 5, "the rows that were written are kept"
    for table in (output, whole):
        result = run(root, ["-m", "music_genre.library", *arguments(tiny_classifier, music, table)])
        assert result.returncode == 0, result.stderr[-3000:]
    assert output.read_bytes() == whole.read_bytes()
    assert len(paths_with_a_row(output)) == n_files, "no file was processed twice"


def assert_same(table: Path, other: Path) -> None:
    """The same rows; probabilities up to the rounding of another number of threads."""
    with table.open(newline="") as one, other.open(newline="") as two:
        for a, b in zip(csv.DictReader(one), csv.DictReader(two), strict=True):
            for key, value in a.items():
                if value != b[key]:
                    assert float(value) == pytest.approx(float(b[key]), abs=2e-6), key


def test_one_of_two_processes_is_killed_and_two_continue(
    classifier, tiny_classifier, music, root, tmp_path
):
    killer, output, alone = tmp_path / "killer.py", tmp_path / "two.csv", tmp_path / "alone.csv"
    killer.write_text(KILLER)
    options = arguments(tiny_classifier, music, output)
    result = run(root, [*LAUNCH, killer, 1, 1, *options])
    assert result.returncode
    assert "-9" in result.stderr, "the launcher saw process 1 killed"
    assert not output.exists()
    kept = paths_with_a_row(output)
    assert any("-1-" in part.name for part in Path(f"{output}.parts").glob("*.jsonl"))
    assert len(kept) >= 1
    result = run(root, [*LAUNCH, "-m", "music_genre.library", *options])
    assert result.returncode == 0, result.stderr[-3000:]
    assert sorted(paths_with_a_row(output)) == sorted(f.path for f in scanning.find_files([music]))
    scanning.scan(classifier, [music], alone)
    assert_same(alone, output)
