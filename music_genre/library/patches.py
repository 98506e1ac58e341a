"""How to make a file from its tagged copy again, byte for byte, in a few hundred bytes.

Tags lie before the audio, behind it, or both, and what lies behind a tag that grew is moved. A
patch is a JSON object: the original is the tagged copy without `skip` bytes after the first `head`,
or with `insert` zeros there, and over that `patches`: [offset in the original, bytes in base64].
"""

import base64
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

MAX_PATCH = 2**20  # bytes of a file that a tag may change, beside what it moves
BLOCK = 2**24  # bytes compared at a time
NEAR = 64  # bytes; changes that are closer are stored as one


class PatchError(ValueError):
    """The files differ too much."""


def make_patch(original: str, tagged: str) -> dict[str, Any]:
    """The patch that makes `original` from `tagged`.

    Raises:
        PatchError: they differ in more than MAX_PATCH bytes.
    """
    a, b = _map(original), _map(tagged)
    grown = len(b) - len(a)
    patch = {"head": _n_common(a, b), "skip": max(0, grown), "insert": max(0, -grown)}
    patches, offset, n_bytes = [], 0, 0
    for block in _moved_back(b, patch):
        for start, end in _differences(a[offset : offset + len(block)], block):
            data = a[offset + start : offset + end].tobytes()
            patches.append([offset + start, base64.b64encode(data).decode()])
            n_bytes += len(data)
            if n_bytes > MAX_PATCH:
                raise PatchError(f"{original} and {tagged} differ in over {MAX_PATCH:,} bytes")
        offset += len(block)
    return patch | {"patches": patches}


def apply_patch(tagged: str, patch: dict[str, Any]) -> Iterator[bytes]:
    """Yield the original in blocks."""
    patches = [(offset, base64.b64decode(text)) for offset, text in patch["patches"]]
    at = 0
    for moved in _moved_back(_map(tagged), patch):
        block = bytearray(moved)
        for offset, data in patches:
            first, last = max(offset, at), min(offset + len(data), at + len(block))
            if first < last:
                block[first - at : last - at] = data[first - offset : last - offset]
        yield bytes(block)
        at += len(block)


def _map(path: str) -> np.ndarray:
    """A file's bytes, uint8, read only where they are used."""
    return np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.zeros(0, np.uint8)


def _moved_back(tagged: np.ndarray, patch: dict[str, Any]) -> Iterator[np.ndarray]:
    """The tagged copy with all that lies behind the tag at its old place, in blocks; uint8."""
    head = patch["head"]
    inserted = np.zeros(patch["insert"], np.uint8)
    for part in (tagged[:head], inserted, tagged[head + patch["skip"] :]):
        for start in range(0, len(part), BLOCK):
            yield part[start : start + BLOCK]


def _n_common(a: np.ndarray, b: np.ndarray) -> int:
    """How many bytes at the beginning are equal."""
    n = min(len(a), len(b))
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        differs = a[start:stop] != b[start:stop]
        if differs.any():
            return start + int(differs.argmax())
    return n


def _differences(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int]]:
    """From where to where arrays of one length differ; differences that are near as one."""
    where = np.flatnonzero(a != b)
    if len(where):
        for run in np.split(where, np.flatnonzero(np.diff(where) > NEAR) + 1):
            yield int(run[0]), int(run[-1]) + 1
