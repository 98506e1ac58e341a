"""Decode untrusted files in separate processes: a crash, a hang or a bomb costs only one file.

    with DecoderPool(num_processes=4) as pool:
        future = pool.schedule(decode, args=["song.mp3", 16_000], timeout=60)
        waveform, lost_seconds = result(future)

The pool is pebble's: if a task's process dies or takes too long, only that task fails, and the pool
starts another process. Each process is spawned and imports the main program, so a program that
makes a pool needs `if __name__ == "__main__":` and should import torch only after that line.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from music_genre.audio import AudioError
from music_genre.errors import InputError

MAX_MEMORY = 3 * 2**30  # bytes on top of an idle process; a file of MAX_SECONDS needs most of it
MIN_AHEAD = 8  # calls; outcomes come in order, so a long file keeps the ones behind it waiting
SIGNALS = {-one.value: one.name for one in signal.Signals}  # by the process's exit code
OUTSIDE_SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")  # the OOM killer sends the first


class DecoderError(AudioError):
    """The process that decoded a file is gone. `is_temporary`: it may not be the file's fault."""

    def __init__(self, reason: str, is_temporary: bool = False) -> None:
        super().__init__(reason)
        self.is_temporary = is_temporary


class DecoderPool:
    """Processes with a memory limit, started with the first task.

    pebble closes a pool if one of its processes ends while it waits. The next task then gets a new
    pool, because the page or a scan may run for days.
    """

    def __init__(self, num_processes: int) -> None:
        self.num_processes = num_processes
        self._lock = threading.Lock()
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        context = multiprocessing.get_context("spawn")
        return ProcessPool(self.num_processes, initializer=_limit_process, context=context)

    def schedule(self, function: Callable, args: Iterable[Any], timeout: float) -> Future:
        """Run a function in a process; the timeout, in seconds, starts when the function does.

        The timeout also ends the wait for a process that has ended silently.
        """
        with self._lock:
            if not self._pool.active:
                self._pool.stop()
                self._pool.join()
                self._pool = self._new_pool()
            return self._pool.schedule(function, args=args, timeout=timeout)

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.stop()
        self._pool.join()


def result(future: Future) -> Any:
    """Wait for a task of the pool, and return the result of its function.

    Raises:
        DecoderError: its process crashed, took too long or needed too much memory, or a decoder
            has a bug.
        InputError, OSError: what the function raises.
    """
    try:
        return future.result()
    except TimeoutError as error:
        raise DecoderError("decoding it took too long", is_temporary=True) from error
    except MemoryError as error:
        raise DecoderError("decoding it needs too much memory") from error
    except ProcessExpired as error:
        how = SIGNALS.get(error.exitcode, f"exit code {error.exitcode}")
        if how in OUTSIDE_SIGNALS:
            reason = f"its decoder was ended from outside ({how})"
            raise DecoderError(reason, is_temporary=True) from error
        raise DecoderError(f"its decoder crashed ({how})") from error
    except BrokenProcessPool as error:
        reason = "its decoder was ended from outside, or could not be started"
        raise DecoderError(reason, is_temporary=True) from error
    except (InputError, OSError, CancelledError):
        raise
    except Exception as error:
        raise DecoderError(f"it cannot be decoded ({type(error).__name__}: {error})") from error


def run_in_pool(
    pool: DecoderPool, function: Callable, calls: Iterable[tuple[Any, tuple]], timeout: float
) -> Iterator[tuple[Any, Any]]:
    """Call a function in the pool, only a few calls ahead: each may hold a file in memory.

    A call whose process ended is repeated once, alone, after the others: a process that ends also
    loses the result that it had just finished, so another file may have been the cause.

    `calls` are pairs of a key and arguments. Yields each key, with what was returned or raised.
    """
    n_ahead = max(MIN_AHEAD, pool.num_processes)
    again = []
    for call, outcome in _run(pool, function, calls, timeout, n_ahead):
        if isinstance(outcome, DecoderError):
            again.append(call)
        else:
            yield call[0], outcome
    for (key, _), outcome in _run(pool, function, again, timeout, n_ahead=0):
        yield key, outcome


def _run(
    pool: DecoderPool, function: Callable, calls: Iterable, timeout: float, n_ahead: int
) -> Iterator[tuple[tuple, Any]]:
    pending: deque[tuple[tuple, Future]] = deque()
    for call in calls:
        pending.append((call, pool.schedule(function, args=call[1], timeout=timeout)))
        if len(pending) > n_ahead:
            yield _first_outcome(pending)
    while pending:
        yield _first_outcome(pending)


def _first_outcome(pending: deque[tuple[tuple, Future]]) -> tuple[tuple, Any]:
    call, future = pending.popleft()
    try:
        return call, result(future)
    except (InputError, OSError) as error:
        return call, error


def _limit_process() -> None:
    """Prepare a new process: limit its memory, write no core dumps, leave Ctrl-C to the parent.

    Decoding has a lower priority than the net, whose threads wait for each other in busy loops and
    so occupy the cores.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(10)
    with suppress(ImportError, OSError, ValueError):  # Windows and macOS lack such limits
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        for name, value in (("RLIMIT_AS", used + MAX_MEMORY), ("RLIMIT_CORE", 0)):
            kind = getattr(resource, name)
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
