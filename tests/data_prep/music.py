"""Small sources of music of one's own for the tests: folders, tables and tagged files of noise."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import mutagen
import numpy as np
import soundfile

from data_prep.prepare import prepare
from music_genre.wav import to_pcm16
from tests.data_prep.archives import clip_bytes

RATE = 8_000  # hertz: little to write and to decode
GENRES = ("Ambient", "Techno")


def clip(seed: int, kind: str = "WAV", seconds: float = 1.2) -> bytes:
    return clip_bytes(seed, seconds, RATE, format=kind)


def song(
    seconds: float, seed: int = 0, silent: Sequence[tuple[float, float]] = (), level: float = 0
) -> bytes:
    """Stereo FLAC; `silent` are the parts, in seconds, that stay at one level, at first zero."""
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, (int(seconds * RATE), 2))
    for start, end in silent:
        samples[int(start * RATE) : int(end * RATE)] = level
    buffer = io.BytesIO()
    soundfile.write(buffer, to_pcm16(samples), RATE, format="FLAC")
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def by_genre(n: int = 4, genres: Sequence[str] = GENRES, pattern: str = "{i}.wav") -> dict:
    """Files in a folder per genre; `pattern` is their path below it."""
    return {
        f"{genre}/{pattern.format(i=i)}": clip(100 * g + i)
        for g, genre in enumerate(genres)
        for i in range(n)
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def tag(path: Path, **tags: str | list[str]) -> Path:
    file = mutagen.File(path, easy=True)
    if file.tags is None:
        file.add_tags()
    for name, value in tags.items():
        file[name] = value
    file.save()
    return path


def prepared(source: Path, folder: Path, **options) -> dict:
    """Prepare with a `min_tracks` that the small sources of the tests have."""
    return prepare([source], folder, **({"min_tracks": 2} | options))
