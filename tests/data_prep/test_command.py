"""The command line: what it prints and how it fails."""

import re
import subprocess
import sys

import pytest

from data_prep.__main__ import main
from tests.commands import run_here
from tests.data_prep.archives import make_zip


def test_the_command_prints_counts_and_leakage(root, tmp_path, archive):
    options = [archive, "--output_dir", tmp_path / "out", "--split", "random"]
    result = subprocess.run(
        [sys.executable, "-m", "data_prep", *map(str, options)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "60 audio files in, 60 kept" in result.stdout
    assert "course-comparable" in result.stdout
    assert "Leakage:" in result.stdout


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: make_zip(p, {"holiday.txt": b"sun"}), "holds no audio file"),
        (lambda p: p.write_bytes(b""), "is not a zip"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(tmp_path, make, sentence):
    path = tmp_path / "given.zip"
    make(path)
    result = run_here(main, path, "--output_dir", tmp_path / "out")
    assert result.returncode == 2
    message = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(message) == 1
    assert re.search(sentence, message[0])
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_download_without_network_says_what_to_do(tmp_path):
    result = run_here(main, "--download", "--output_dir", tmp_path / "out")
    assert result.returncode == 2
    assert "kaggle.com/datasets/" in result.stderr
    assert "Traceback" not in result.stderr
