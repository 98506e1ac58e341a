"""In the place of a decoder pool: tasks run at once, in the tests' own process."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager


class PoolHere(AbstractContextManager):
    """Of `music_genre.isolation.DecoderPool` what the programs use."""

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
