"""A file that ends its decoder is left out by name, and the others are prepared."""

import zipfile
from pathlib import Path

import pytest

from data_prep import decoding
from data_prep.decoding import BadClipError
from data_prep.options import SourceOptions
from data_prep.prepare import prepare
from data_prep.synthetic import write_archive
from music_genre.decoder_pool import Decoders
from tests.data_prep.archives import manifest
from tests.data_prep.music import by_genre, prepared, song, write
from tests.failing_decoders import ENVIRONMENT, beginning

SAID = {
    "Techno/abort.mp3": "decoding it crashed (signal 6, SIGABRT)",
    "Techno/loop.mp3": "decoding it took more than 1 s of a processor",
    "Ambient/memory.flac": "decoding it needs more than 1 GB of memory",
}


@pytest.fixture
def music(monkeypatch, tmp_path):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    decoders = Decoders(seconds=1, stalled_after=60)
    monkeypatch.setattr(decoding, "DECODERS", decoders)
    files = by_genre() | {"Techno/long.flac": song(100)}
    for name, way in zip(SAID, ("abort", "loop", "8 GB"), strict=True):
        files[name] = beginning(way)
    yield write(tmp_path / "music", files)
    decoders.close()


def in_zip(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("kept_as", [Path, in_zip])
def test_it_is_left_out_with_the_reason(music, tmp_path, kept_as):
    done = prepared(kept_as(music), tmp_path / "out", split="random")
    rows = manifest(tmp_path / "out")
    left_out = {name: row["status"] for name, row in rows.items() if row["status"] != "kept"}
    assert left_out == SAID
    assert done["n_kept"] == 9 and done["n_clips"] == 11


def test_asked_to_fail_it_names_the_file(music, tmp_path):
    with pytest.raises(BadClipError, match=r"memory\.flac .* 1 GB of memory"):
        prepare(
            [music], tmp_path / "out", "random", on_bad_clip="fail",
            source_options=SourceOptions(min_tracks=2),
        )  # fmt: skip


def test_a_clip_of_gtzan_is_left_out_as_well(music, tmp_path):
    """WAVs of 16-bit numbers need no decoder; what only calls itself one, or is none, does."""
    write_archive(tmp_path / "gtzan.zip", clips_per_genre=1, seconds=2.0)
    with zipfile.ZipFile(tmp_path / "gtzan.zip", "a") as archive:
        archive.writestr("genres_original/blues/blues.00090.wav", beginning("abort"))
        archive.writestr("genres_original/jazz/jazz.00090.au", beginning("8 GB"))
    done = prepare([tmp_path / "gtzan.zip"], tmp_path / "out", "random")
    assert done["n_kept"] == 10
    rows = manifest(tmp_path / "out")
    assert "SIGABRT" in rows["genres_original/blues/blues.00090.wav"]["status"]
    assert "more than 1 GB of memory" in rows["genres_original/jazz/jazz.00090.au"]["status"]
