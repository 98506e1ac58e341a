"""Decode one file of a library, in an isolated process (music_genre.isolation).

Nothing here imports torch or pyarrow, so that the processes stay small.
"""

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from music_genre import audio
from music_genre.library.object_store import read_object

TIMEOUT = 300  # seconds a file may take; a network drive may be waking up
MIN_SECONDS = 0.1  # nothing shorter is music


class File(NamedTuple):
    path: str  # below the root, as text; the key of the file's row
    location: str  # on this machine, or in `store`
    size: int  # bytes
    version: int  # see files.py
    known: dict[str, Any] | None = None  # the file's last row, if its size is the same
    store: str | None = None  # the URL of the object store that holds the file


def sha256_of(source: bytes | str | Path) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decode_file(
    file: File, sampling_rate: int, seconds: float | None = None
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Decode a file, or `seconds` from its middle, unless it is unchanged since its last row.

    Returns:
        Columns of its row, and the waveform: float32, shape (samples,). If its bytes are unchanged,
        the last row and None. The duration of a partly decoded file is what its header claims.

    Raises:
        AudioError: the file cannot be used, or is too short or silent.
        OSError: the file cannot be read.
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
