"""A stand-in for a decoder pool that runs tasks immediately, in the tests' own process."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager


class PoolHere(AbstractContextManager):
    """The part of `music_genre.isolation.DecoderPool` that the programs use."""

    def __init__(self, num_processes: int) -> None:
        self.num_processes = num_processes

    def schedule(self, function: Callable, args: tuple, timeout: float) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def __exit__(self, *_: object) -> None: ...
