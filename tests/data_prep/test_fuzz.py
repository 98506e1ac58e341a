"""A short run of the archive fuzzer; fuzz_archives.py, run by itself, makes long ones."""

import subprocess
import sys


def test_damaged_archives_end_in_a_dataset_or_a_sentence(root):
    result = subprocess.run(
        [sys.executable, root / "tests" / "data_prep" / "fuzz_archives.py", "--n", "12"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout
    memory = float(result.stdout.split("peak memory ")[1].split(" MB")[0])
    assert memory < 1500
    assert "'dataset'" in result.stdout and "'sentence'" in result.stdout
