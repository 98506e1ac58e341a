"""Run commands in this process, which saves seconds of imports for each."""

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import datasets.config
from huggingface_hub import close_session, constants


def run_here(
    main: Callable[[], None], *arguments: object, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """What a process with these arguments would print, and its exit code."""
    argv = [main.__module__, *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", argv),
        client_of(os.environ if environment is None else environment),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


@contextmanager
def client_of(environment: dict[str, str]) -> Iterator[None]:
    """Make the Hub's client use this environment, which it reads only when it is imported."""
    try:
        with mock.patch.dict(os.environ, environment, clear=True):
            importlib.reload(constants)
            close_session()
            with mock.patch.multiple(
                datasets.config,
                HF_ENDPOINT=constants.ENDPOINT,
                HF_HUB_OFFLINE=constants.HF_HUB_OFFLINE,
                HF_DATASETS_CACHE=Path(constants.HF_HOME, "datasets"),
            ):
                yield
    finally:
        importlib.reload(constants)
        close_session()
