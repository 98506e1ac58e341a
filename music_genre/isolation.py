"""Decode strangers' files in processes of their own: a crash, a hang or a bomb costs one file.

    with decoder_pool(num_processes=4) as pool:
        future = pool.schedule(decode, args=["song.mp3", 16_000], timeout=60)
        waveform, lost_seconds = result(future)

The pool is pebble's: a task whose process dies or takes too long fails alone, and the pool starts
another process. Processes are spawned, so a program that makes a pool needs
`if __name__ == "__main__":`, and should import torch after it: each process imports the program.
"""

import multiprocessing
import signal
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from music_genre.audio import AudioError

MAX_MEMORY = 3 * 2**30  # bytes, beside what an idle process has; a file of MAX_SECONDS needs most
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)  # the OOM killer sends the first


class DecoderError(AudioError):
    """The process that decoded a file is gone. `is_temporary`: it may not be the file's fault."""

    def __init__(self, reason: str, is_temporary: bool = False) -> None:
        super().__init__(reason)
        self.is_temporary = is_temporary


def decoder_pool(num_processes: int) -> ProcessPool:
    """Processes with a limit of memory, each started when it is first needed."""
    context = multiprocessing.get_context("spawn")
    return ProcessPool(num_processes, initializer=_limit_process, context=context)


def result(future: Future) -> Any:
    """Wait for a task of the pool; returns and raises what its function does.

    Raises:
        DecoderError: its process crashed, took too long or needed too much memory.
    """
    try:
        return future.result()
    except TimeoutError as error:
        raise DecoderError("decoding it took too long", is_temporary=True) from error
    except MemoryError as error:
        raise DecoderError("decoding it needs too much memory") from error
    except ProcessExpired as error:
        code = error.exitcode or 0
        how = f"exit code {code}"
        if code < 0:
            with suppress(ValueError):
                how = signal.Signals(-code).name
        is_from_outside = -code in FROM_OUTSIDE
        what = "was ended from outside" if is_from_outside else "crashed"
        raise DecoderError(f"its decoder {what} ({how})", is_from_outside) from error


def _limit_process() -> None:
    """In a new process: bounded memory, no core dumps; Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ImportError, OSError, ValueError):  # Windows and macOS know no such limits
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        for name, value in (("RLIMIT_AS", used + MAX_MEMORY), ("RLIMIT_CORE", 0)):
            kind = getattr(resource, name)
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
