"""Call functions on files in decoder processes, a few at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import joblib

from music_genre.isolation import DecoderError, DecoderPool, result

MAX_SECONDS = 60.0  # that one file may take


def run_in_pool(
    pool: DecoderPool, function: Callable, calls: Iterable[tuple[Any, tuple]]
) -> Iterator[tuple[Any, Any]]:
    """Call a function in the pool, for a few calls at a time: each may hold a file in memory.

    A call whose process ended is made once more after the others, alone: a process that ends takes
    along what it had just finished, so it may have been the fault of another file.

    Args:
        calls: a key and the arguments of each.

    Yields:
        The key of each call, and what the function returned, or the exception that it raised.
    """
    n_ahead = 2 * joblib.cpu_count()
    pending: deque[tuple[Any, tuple, Future]] = deque()
    again: list[tuple[Any, tuple]] = []

    def outcomes(n_left: int) -> Iterator[tuple[Any, Any]]:
        while len(pending) > n_left:
            key, arguments, future = pending.popleft()
            outcome = _outcome(future)
            if isinstance(outcome, DecoderError):
                again.append((key, arguments))
            else:
                yield key, outcome

    for key, arguments in calls:
        future = pool.schedule(function, args=arguments, timeout=MAX_SECONDS)
        pending.append((key, arguments, future))
        yield from outcomes(n_ahead)
    yield from outcomes(0)
    for key, arguments in again:
        yield key, _outcome(pool.schedule(function, args=arguments, timeout=MAX_SECONDS))


def _outcome(future: Future) -> Any:
    try:
        return result(future)
    except Exception as error:
        return error
