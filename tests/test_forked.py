"""A forked process is what python would have started, but for the packages that it has imported."""

import signal
import subprocess
import sys

import pytest

from tests import forked

STATE = """
import json, os, sys
from huggingface_hub import constants

main = sys.modules["__main__"]
print(json.dumps([
    sys.argv, sys.path, os.getcwd(), dict(os.environ), __name__, main.__dict__ is globals(),
    constants.ENDPOINT, constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE,
    [name for name in sys.modules if name.split(".")[0] in ("music_genre", "tests", "train_hf")],
]))
print("an error", file=sys.stderr)
os.write(2, b"from below")
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("command", [["-c", STATE], ["-m", "state"], ["folder/state.py"]])
def test_it_is_what_python_would_have_started(command, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, "/of/the/tests"])  # as setuptools appends its own
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "state.py").write_text(STATE)
    environment = {
        "PYTHONPATH": f"{tmp_path / 'folder'}:/nowhere",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "LC_CTYPE": "C.UTF-8",  # python adds it where no locale is named
    }
    command = [*command, "7", "--name=a b"]
    forked_one = forked.run(command, environment, tmp_path)
    other = subprocess.run(
        [sys.executable, *command], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert forked_one.stdout == other.stdout
    assert forked_one.stderr == other.stderr == "an error\nfrom below"
    assert forked_one.returncode == other.returncode == 7


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("pass", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise SystemExit('a sentence')", 1, "a sentence\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'the end')", 0, "the end"),
    ],
)
def test_it_ends_as_python_does(code, exit_code, said):
    result = forked.run(["-c", code])
    assert result.returncode == exit_code
    assert result.stderr.endswith(said)


def test_one_that_takes_too_long_is_killed():
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(["-c", "import time; time.sleep(600)"], timeout=0.1)
