"""Files are decoded in the tests' own process, which takes less time than starting others.

test_crashes.py and test_command.py use real ones.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest


class NoPool:
    """Calls each function at once."""

    def schedule(self, function: Callable, args: tuple, timeout: float) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def stop(self) -> None:
        pass


@contextmanager
def no_pool(num_processes: int) -> Iterator[NoPool]:
    """In place of `decoder_pool`."""
    yield NoPool()


@pytest.fixture(autouse=True)
def decoders_here(monkeypatch):
    for module in ("decoding", "sources.tagged_files"):
        monkeypatch.setattr(f"data_prep.{module}.decoder_pool", no_pool)
