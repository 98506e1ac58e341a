"""The command line: what it prints and how it fails."""

import re
import subprocess
import sys

from data_prep.__main__ import main
from tests.commands import run_here
from tests.data_prep.archives import make_zip, manifest


def test_the_command_prepares_the_real_sample(root, tmp_path, real_archive):
    """With decoder processes; it prints counts and leakage."""
    out = tmp_path / "out"
    result = subprocess.run(
        [sys.executable, "-m", "data_prep", real_archive, "--output_dir", out, "--split", "random"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "100 audio files in, 100 kept (50 minutes), 0 left out" in result.stdout
    assert "course-comparable: train 80, validation 10, test 10." in result.stdout
    assert "Leakage: the artist of 9 of 10 test tracks is known" in result.stdout
    seconds = [float(row["seconds"]) for row in manifest(out).values()]
    assert min(seconds) > 29.8 and max(seconds) < 30.7


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
