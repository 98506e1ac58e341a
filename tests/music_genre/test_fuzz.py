"""A short run of the decoders' fuzzer; fuzz_decoders.py, run by itself, makes long ones."""

import subprocess
import sys


def test_mutated_files_end_in_sound_or_a_sentence(root):
    result = subprocess.run(
        [sys.executable, root / "tests" / "music_genre" / "fuzz_decoders.py", "--n", "200"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "200 files: " in result.stdout
    assert "'sound': " in result.stdout and "'a sentence': " in result.stdout
    assert result.stderr == ""
