"""Killed at random moments, the preparation leaves the finished dataset or none; then it is whole.

The suite kills it a few times; for many: python tests/data_prep/test_interrupted.py 50
"""

import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_prep.prepare import prepare, read_preparation


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder)}".encode() + path.read_bytes())
    return total.hexdigest()


def start(root: Path, archive: Path, output_dir: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "data_prep", str(archive), "--split", "random"]
    return subprocess.Popen(
        [*command, "--output_dir", str(output_dir)],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_and_repeat(root: Path, archive: Path, folder: Path, n_kills: int) -> int:
    """Returns how many kills struck before the dataset was finished."""
    prepare([archive], folder / "whole", split="random")
    expected = digest(folder / "whole")
    began = time.monotonic()
    start(root, archive, folder / "timed").wait()
    duration = time.monotonic() - began
    n_struck = 0
    for i in range(n_kills):
        output_dir = folder / f"out{i}"
        process = start(root, archive, output_dir)
        # The last third is where it writes; before it, it mostly imports.
        time.sleep(duration * random.Random(i).uniform(0.4, 1.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_struck += process.returncode == -signal.SIGKILL
        if output_dir.exists():
            assert read_preparation(output_dir), "what bears the dataset's name is finished"
            assert digest(output_dir) == expected
        prepare([archive], output_dir, split="random")
        assert digest(output_dir) == expected
        left = {path.name for path in folder.iterdir()} - {"whole", "timed", f"out{i}"}
        assert all(name.startswith("out") for name in left), "the killed run's leavings are gone"
    return n_struck


def test_killed_at_random_moments(root, archive, tmp_path):
    assert kill_and_repeat(root, archive, tmp_path, n_kills=4) > 0


if __name__ == "__main__":
    from data_prep.synthetic import write_archive

    with tempfile.TemporaryDirectory() as folder:
        write_archive(Path(folder, "small.zip"), clips_per_genre=6, seconds=2.0)
        Path(folder, "runs").mkdir()
        n = int(sys.argv[1])
        here = Path(__file__).resolve().parents[2]
        struck = kill_and_repeat(here, Path(folder, "small.zip"), Path(folder, "runs"), n)
        print(f"{n} kills, {struck} before the end: every second run gave the same bytes")
