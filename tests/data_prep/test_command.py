"""The command line: what it prints and how it fails."""

import re
import subprocess
import sys

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
    assert "course-comparable: train 40, validation 10, test 10." in result.stdout
    assert "Leakage:" in result.stdout


def test_wrong_input_is_one_sentence_and_exit_code_2(tmp_path):
    """Also a download without network, and a table that is not there."""
    empty = make_zip(tmp_path / "given.zip", {"holiday.txt": b"sun"})
    for source, sentence in (
        (empty, "holds no audio file"),
        (tmp_path / "none.csv", "No such file or directory: .*none.csv"),
        ("--download", "kaggle.com/datasets/"),
    ):
        result = run_here(main, source, "--output_dir", tmp_path / "out")
        assert result.returncode == 2
        (message,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert re.search(sentence, message)
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()
