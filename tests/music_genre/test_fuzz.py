"""A short run of the decoders' fuzzer; fuzz_decoders.py, run by itself, makes long ones."""

import subprocess
import sys


def test_damaged_files_give_what_ffmpeg_gives(root):
    script = root / "tests" / "music_genre" / "fuzz_decoders.py"
    command = [sys.executable, script, "--mutations", "6"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("100.0% of 6") == 13
    assert result.stderr == ""
