"""Read the files of a library in isolated processes, some files ahead of the model.

    for file, decoded in decode_files(files, 16_000):
        ...

Nothing here imports torch or pyarrow, so that the processes stay small.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np

from music_genre import audio
from music_genre.errors import InputError
from music_genre.isolation import DecoderError, DecoderPool, result
from music_genre.library.object_store import read_object

TIMEOUT = 300  # seconds a file may take; a network drive may be waking up
MAX_FILES_AHEAD = 64
MAX_BYTES_AHEAD = 64 * 2**20  # of files, which are compressed; as many as processes may be more
MAX_BYTES_DECODED = 512 * 2**20  # of waveforms that wait for the model
MIN_SECONDS = 0.1  # below a tenth of a second nothing is music


class File(NamedTuple):
    path: str  # below the root, as text: the key of its row
    location: str  # on this machine, or in `store`
    size: int  # bytes
    version: int  # see files.py
    known: dict[str, Any] | None = None  # its last row, if the size was the same then
    store: str | None = None  # the URL of the object store that has it


def sha256_of(source: bytes | str | Path) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decode_file(
    file: File, sampling_rate: int, seconds: float | None = None
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Decode a file, or `seconds` from its middle, unless its bytes are those of its last row.

    Returns:
        Columns of its row, and the waveform: float32, shape (samples,). Of the same bytes, the last
        row and None. The duration of a file that was decoded in part is what its header claims.

    Raises:
        AudioError: it cannot be used, or is too short or silent.
        OSError: it cannot be read.
    """
    source = read_object(file.store, file.location) if file.store else file.location
    sha256 = sha256_of(source)
    if file.known and file.known["sha256"] == sha256:
        return file.known | {"is_same": True}, None
    claimed = audio.measure(source) if seconds else None
    start = max(0.0, (claimed - seconds) / 2) if seconds else 0.0
    waveform, lost_seconds = audio.decode(source, sampling_rate, start, seconds)
    decoded_seconds = len(waveform) / sampling_rate
    if decoded_seconds < MIN_SECONDS:
        raise audio.AudioError(f"it is shorter than {MIN_SECONDS:g} s")
    is_whole = not start and decoded_seconds < (seconds or math.inf)
    if audio.is_silent(waveform, sampling_rate):
        raise audio.AudioError("it is silent" if is_whole else "its middle is silent")
    columns = {
        "sha256": sha256,
        "duration": round(decoded_seconds if is_whole else claimed, 3),
        "seconds_processed": round(decoded_seconds, 3),
        "lost_seconds": round(lost_seconds, 3),
    }
    return columns, waveform


def decode_files(
    files: Iterable[File], sampling_rate: int, seconds: float | None = None
) -> Iterator[tuple[File, tuple | InputError]]:
    """What `decode_file` returns of each file, or why nothing, in the order they get ready."""
    return in_processes(decode_file, ((file, (file, sampling_rate, seconds)) for file in files))


def in_processes(
    function: Callable, tasks: Iterable[tuple[File, tuple]]
) -> Iterator[tuple[File, Any | InputError]]:
    """What a function returns for each file, as they get ready; errors are values as well.

    Args:
        tasks: files, and the arguments of the function.
    """
    num_processes = joblib.cpu_count()
    pending: dict[Future, File] = {}
    with DecoderPool(num_processes) as pool:
        for file, arguments in tasks:
            pending[pool.schedule(function, args=arguments, timeout=TIMEOUT)] = file
            while _is_enough(pending, num_processes):
                yield from _ready(pending)
        while pending:
            yield from _ready(pending)


def _is_enough(pending: dict[Future, File], num_processes: int) -> bool:
    if len(pending) >= MAX_FILES_AHEAD or sum(map(_decoded_bytes, pending)) >= MAX_BYTES_DECODED:
        return True
    n_bytes = sum(file.size for file in pending.values())
    return n_bytes >= MAX_BYTES_AHEAD and len(pending) > num_processes


def _decoded_bytes(future: Future) -> int:
    is_decoded = future.done() and not future.exception()
    return sum(getattr(part, "nbytes", 0) for part in future.result()) if is_decoded else 0


def _ready(pending: dict[Future, File]) -> Iterator[tuple[File, Any | InputError]]:
    done = wait(pending, return_when=FIRST_COMPLETED).done
    while done:
        future = done.pop()  # which holds a waveform
        yield pending.pop(future), outcome(future)


def outcome(future: Future) -> Any | InputError:
    """What a process returned, or why there is nothing."""
    try:
        return result(future)
    except InputError as error:
        return error
    except OSError as error:
        return DecoderError(f"it cannot be read: {error.strerror or error}", is_temporary=True)
