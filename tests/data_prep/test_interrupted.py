"""Killed at any step, the preparation leaves the finished dataset, the old one, or none.

    python tests/data_prep/test_interrupted.py  # at every step; the suite takes some

A step is a file operation in the folder that it writes to. The process kills itself there, so each
kill strikes; the next run must give the same bytes as one that was never killed.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_prep import decoding
from data_prep.prepare import prepare
from tests.data_prep.archives import make_zip, three_of_each
from tests.pool_here import PoolHere

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder)}".encode() + path.read_bytes())
    return total.hexdigest()


def run_and_kill(archive: Path, output_dir: Path, seed: int, kill_at: int | None) -> int:
    """Prepare in a forked process that kills itself at a step.

    Returns the number of steps, if it was not killed; -1 if it was.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        n_steps = 0

        def count(event: str, arguments: tuple) -> None:
            nonlocal n_steps
            path = str(arguments[0]) if event in EVENTS else ""
            if path.startswith(str(output_dir.parent)) and "archive" not in path:
                if n_steps == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                n_steps += 1

        code = 1
        try:
            decoding.DecoderPool = PoolHere  # each step is one of this process
            sys.addaudithook(count)
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                prepare([archive], output_dir, overwrite=True, split="random", seed=seed)
            os.write(writer, str(n_steps).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (0 if kill_at is None else -signal.SIGKILL), code
    return int(answer) if answer else -1


def kill_and_repeat(archive: Path, folder: Path, every: int) -> int:
    """Kill a first preparation and one that replaces a dataset. Returns how many kills struck."""
    expected = []
    for seed in (0, 1):
        run_and_kill(archive, folder / f"whole{seed}" / "out", seed, None)
        expected.append(digest(folder / f"whole{seed}" / "out"))
    n_struck = 0
    for replaces in (False, True):

        def start(name: str, replaces: bool = replaces) -> Path:
            output_dir = folder / f"{name}-{replaces}" / "out"
            if replaces:
                shutil.copytree(folder / "whole1" / "out", output_dir)  # as seed 1 leaves it
            return output_dir

        n_steps = run_and_kill(archive, start("count"), 0, None)
        # The last steps, where folders are renamed and removed, and a sample of those before.
        for step in sorted({*range(0, n_steps, every), *range(n_steps - 8, n_steps)}):
            output_dir = start(str(step))
            n_struck += run_and_kill(archive, output_dir, 0, kill_at=step) == -1
            if output_dir.exists():
                assert digest(output_dir) in expected, "what has the dataset's name is finished"
            run_and_kill(archive, output_dir, 0, None)
            assert digest(output_dir) == expected[0]
            assert [p.name for p in output_dir.parent.iterdir()] == ["out"], "nothing else is left"
    return n_struck


def test_killed_at_any_step(root, tmp_path):
    archive = make_zip(tmp_path / "archive.zip", three_of_each())
    result = subprocess.run(
        [sys.executable, root / "tests" / "data_prep" / "test_interrupted.py", archive, "60"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["kills"] > 15


if __name__ == "__main__":
    from data_prep.synthetic import write_archive

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary).resolve()
        if sys.argv[1:]:
            given, step = Path(sys.argv[1]), int(sys.argv[2])
        else:
            given, step = work / "archive.zip", 1
            write_archive(given, clips_per_genre=3, seconds=1.0)
        print(json.dumps({"kills": kill_and_repeat(given, work / "runs", step)}))
