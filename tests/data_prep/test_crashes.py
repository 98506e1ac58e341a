"""A file that ends its decoder is left out by name, and the others are prepared."""

import shutil
import zlib
from pathlib import Path

import pytest

from data_prep import decoding
from tests.data_prep import failing
from tests.data_prep.archives import manifest
from tests.data_prep.music import GENRES, by_genre, clip, prepared, song, tag, write

REASONS = {
    "Techno/crash.mp3": "its decoder crashed (SIGABRT)",
    "Techno/loop.mp3": "decoding it took too long",
    "Ambient/memory.flac": "decoding it needs too much memory",
}


@pytest.fixture(scope="module")
def decoders_here():
    """Real processes, in place of the other tests' own."""


@pytest.fixture
def music(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(decoding, "decode_member", failing.decode_member)
    monkeypatch.setattr("data_prep.decoding.MAX_SECONDS", 4.0)
    files = by_genre() | {"Techno/long.flac": song(100)}
    files |= {name: Path(name).stem.encode() for name in REASONS}
    return write(tmp_path / "music", files)


def test_it_is_left_out_with_the_reason(music, tmp_path):
    source = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", music))
    done = prepared(source, tmp_path / "out", split="random")
    rows = manifest(tmp_path / "out")
    assert {n: row["status"] for n, row in rows.items() if row["status"] != "kept"} == REASONS
    assert (done["n_kept"], done["n_clips"], done["seconds"]) == (9, 11, 8 * 1.2 + 3 * 30)


def test_tags_that_inflate_without_end_cost_only_themselves(tmp_path):
    """mutagen inflates a compressed frame of an ID3 tag whole, whatever its size."""
    bomb = zlib.compressobj()
    first, block = (bomb.compress(bytes(2**24)) + bomb.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    data = first + 200 * block  # more than three gigabytes
    size = b"\0\x10\0\0"  # as it claims
    frame = b"TCON" + (len(data) + 4).to_bytes(4, "big") + b"\0\x80" + size + data
    n = len(frame)
    syncsafe = bytes((n >> shift) & 127 for shift in (21, 14, 7, 0))
    folder = write(tmp_path / "music", {"bomb.mp3": b"ID3\x03\0\0" + syncsafe + frame})
    for i, genre in enumerate(GENRES * 2):
        (folder / f"{i}.flac").write_bytes(clip(i, "FLAC"))
        tag(folder / f"{i}.flac", genre=genre)
    done = prepared(folder, tmp_path / "out", split="random", genre_from="tags")
    assert done["n_kept"] == 4
    assert manifest(tmp_path / "out")["bomb.mp3"]["status"] == "no genre tag"
