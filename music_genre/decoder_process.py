"""The process in which decoder_pool.py has files decoded: whatever a file does to it ends here.

Requests come on standard input, a line of JSON each: {"path", "seconds"}, and then [start,
seconds], the arguments of `AudioFile.blocks`, or null. Replies go to standard output: lines of
JSON, and after {"samples": n} as many float32. It ends when its input does, and imports no torch,
which would take seconds and gigabytes.
"""

import io
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from music_genre.audio_files import AudioError, open_audio

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

OUT_OF_MEMORY = 77  # exit status
SLOWEST = 5  # seconds of sound that a second of the processor decodes, at least


def main() -> None:
    replies, nowhere = os.fdopen(os.dup(1), "wb"), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what a native library prints is no reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_AS", int(sys.argv[1]))
    _send(replies, is_ready=True)
    os.dup2(nowhere, 2)  # until here a person needs to see what is wrong
    with suppress(BrokenPipeError, StopIteration):  # the parent has gone
        serve(sys.stdin.buffer, replies)


def serve(requests: io.BufferedReader, replies: BinaryIO) -> None:
    for line in requests:
        request, reply = json.loads(line), {"is_end": True}
        try:
            for answer, block in _decode(request["path"], request["seconds"], requests):
                _send(replies, block, **answer)
        except BrokenPipeError:
            raise
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except AudioError as error:
            if isinstance(error.__cause__, MemoryError):  # FFmpeg's is one
                os._exit(OUT_OF_MEMORY)
            reply = {"error": str(error)}
        except OSError as error:
            reply = {"errno": error.errno, "strerror": error.strerror or str(error)}
        except Exception as error:  # whatever a decoder raises for a broken file
            reply = {"error": f"it cannot be decoded ({type(error).__name__}: {error})"}
        _send(replies, **reply)


def _decode(
    path: str, seconds: float, requests: io.BufferedReader
) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """Yield the replies about one file, and the samples that follow each."""
    began = time.process_time()
    _limit_cpu(began + seconds)
    with open_audio(path) as file:
        yield {"sampling_rate": file.sampling_rate, "duration": file.duration}, None
        part = json.loads(next(requests))
        if part is None:
            return
        sound = part[0]  # seconds, passed over or decoded
        _limit_cpu(began + seconds + sound / SLOWEST)
        for block in file.blocks(*part):
            yield {"samples": len(block)}, block
            sound += len(block) / file.sampling_rate
            _limit_cpu(began + seconds + sound / SLOWEST)


def _send(replies: BinaryIO, block: np.ndarray | None = None, **reply: Any) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    if block is not None:
        replies.write(np.ascontiguousarray(block, np.float32).view(np.uint8))
    replies.flush()


def _limit(name: str, value: int) -> None:
    """A limit of the system, where it has one of that name and lets it be set."""
    with suppress(AttributeError, ValueError, OSError):
        kind = getattr(resource, name)
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _limit_cpu(seconds: float) -> None:
    """End the process by SIGXCPU when it has taken so much processor time since its start.

    It holds inside native code too, and when the parent is no longer there to end it.
    """
    _limit("RLIMIT_CPU", math.ceil(min(seconds, 1e9)))
