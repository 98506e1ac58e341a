"""Python processes that need not import torch and transformers again, which takes five seconds.

    result = forked.run(["-m", "music_genre", "scan", music, "--model", model])

Each is forked from a server of the standard library that has imported those packages and nothing of
this project. Otherwise it is a process as any other: it has its own environment, folder, output,
signals and exit code, and imports the project anew. Use `subprocess` where the start of Python
itself is tested: imports, options of the interpreter, variables that libraries read when they load.
"""

import atexit
import functools
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = [
    "accelerate",
    "datasets",
    "matplotlib.figure",
    "scipy.optimize",
    "sklearn.linear_model",
    "torchaudio",
    "transformers.pipelines",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.hubert.modeling_hubert",
    "transformers.models.wav2vec2.feature_extraction_wav2vec2",
]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(PRELOADED)


def run(
    command: Sequence[object],
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    timeout: float = 240,
) -> subprocess.CompletedProcess:
    """What `python COMMAND` prints, and its exit code; that of a signal is negative.

    Raises:
        subprocess.TimeoutExpired: and the process is killed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        out, err = Path(temporary, "out"), Path(temporary, "err")
        process = start(command, out, err, environment, folder)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(
            command, process.exitcode, out.read_text(), err.read_text()
        )


def start(
    command: Sequence[object],
    out: Path,
    err: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> BaseProcess:
    """`python COMMAND` in a process that goes on, and writes what it prints into the files."""
    variables = dict(os.environ if environment is None else environment)
    process = SERVER.Process(
        target=_become,
        name="MainProcess",
        args=([str(part) for part in command], variables, own_paths(), folder, out, err),
    )
    process.start()
    return process


@functools.cache
def own_paths() -> list[str]:
    """Python's own, without PYTHONPATH; tests, and packages they import, add to those here."""
    code = "import sys; print(*sys.path[1:], sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-c", code], env={}, check=True, capture_output=True, text=True
    )
    return result.stdout.splitlines()


def _become(
    command: list[str], variables: dict[str, str], paths: list[str], folder: Path, *files: Path
) -> None:
    """The forked process, from its first line to its last."""
    gc.freeze()  # looking through all that the server imported is no work of this process
    for descriptor, file in zip((1, 2), files, strict=True):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(folder)

    import torch

    from tests.commands import client_of  # what it imports is here already

    if "OMP_NUM_THREADS" in variables:  # read when torch was loaded
        torch.set_num_threads(int(variables["OMP_NUM_THREADS"]))
    with client_of(variables):
        try:
            _execute(command, variables, paths)
        finally:
            atexit._run_exitfuncs()


def _execute(command: list[str], variables: dict[str, str], paths: list[str]) -> None:
    """As python takes its arguments: -c CODE, -m MODULE or a SCRIPT, and their own."""
    kind, *rest = command
    first = {"-c": "", "-m": os.getcwd()}.get(kind, os.path.dirname(os.path.realpath(kind)))
    given = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [first, *given, *paths]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]  # found anew, along the path of this process
    if kind == "-c":
        code, sys.argv = rest[0], ["-c", *rest[1:]]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(kind, run_name="__main__")
