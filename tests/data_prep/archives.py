"""Small archives for the tests of data_prep, and what became of their members."""

import csv
import io
import wave
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile

from data_prep.gtzan import GENRES
from music_genre.wav import to_pcm16, wav_bytes


def clip_bytes(seed: int, seconds: float = 1.5, sampling_rate: int = 22_050, **options) -> bytes:
    """A WAV (or other format) of noise that depends on the seed."""
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * sampling_rate))
    buffer = io.BytesIO()
    soundfile.write(buffer, to_pcm16(samples), sampling_rate, **({"format": "WAV"} | options))
    return buffer.getvalue()


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def three_of_each(folder: str = "genres_original") -> dict[str, bytes]:
    return {
        f"{folder}/{genre}/{genre}.{i:05d}.wav": clip_bytes(100 * g + i)
        for g, genre in enumerate(GENRES[:3])
        for i in range(3)
    }


def cut_archive(
    source: Path, target: Path, seconds: float, choose: Callable[[set[str]], Iterable[str]] = sorted
) -> None:
    """Write the beginnings of the tracks in a zip of WAVs; `choose` takes some, by their names."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as part:
        member_of = {Path(name).stem: name for name in whole.namelist() if name.endswith(".wav")}
        for track in choose(set(member_of)):
            with wave.open(whole.open(member_of[track])) as file:
                rate = file.getframerate()
                pcm = np.frombuffer(file.readframes(int(seconds * rate)), "<i2")
            part.writestr(member_of[track], wav_bytes(pcm, rate))


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return {row["member"]: row for row in csv.DictReader(file)}


def samples_of(folder: Path) -> dict[str, str]:
    return {
        row["track_id"]: row["sha256"]
        for row in manifest(folder).values()
        if row["status"] == "kept"
    }
