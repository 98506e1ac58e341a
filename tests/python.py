"""Run Python as a process, in the repository's folder unless another one is given."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(
    command: Sequence[object],
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    timeout: float = 240,
) -> subprocess.CompletedProcess:
    """What `python COMMAND` prints, and its exit code, which is negative after a signal."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        cwd=folder,
        timeout=timeout,
        capture_output=True,
        text=True,
    )
