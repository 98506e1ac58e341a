"""A small library to scan, a tiny classifier, and files of every format to tag."""

from collections.abc import Callable
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile

from music_genre import old_audio as audio

RATE = 44_100
KINDS = ("mp3", "flac", "ogg", "opus", "m4a")


def make_noise(seconds: float, seed: int = 0) -> np.ndarray:
    """At 16 kHz; float32, shape (samples,)."""
    n_samples = int(seconds * 16_000)
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    return make_noise


@pytest.fixture(scope="session")
def music(tmp_path_factory) -> Path:
    """14 audio files in folders: one is empty, one is not audio and one is too short."""
    folder = tmp_path_factory.mktemp("music")
    for i in range(11):
        path = folder / f"album {i % 2}" / f"{i}.{('wav', 'flac', 'ogg')[i % 3]}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, make_noise(0.4 + i, seed=i), (16_000, 22_050, 44_100)[i % 3])
    (folder / "letter.mp3").write_bytes(b"Dear friend, this is no music.\n" * 50)
    (folder / "empty.flac").touch()
    soundfile.write(folder / "click.wav", make_noise(0.01), 16_000)
    (folder / "cover.jpg").write_bytes(b"not an audio file")
    (folder / ".hidden.wav").write_bytes(b"left out")
    return folder


@pytest.fixture(scope="session")
def classifier(tiny_classifier):
    from music_genre import GenreClassifier  # not for the tests of tags: it takes seconds

    return GenreClassifier(tiny_classifier, device="cpu")


# --- files to tag ---------------------------------------------------------------------------


def write_audio(path: Path, seconds: float, **options: str) -> None:
    """Noise in the format of the suffix. options: of FFmpeg's muxer."""
    rate = 48_000 if path.suffix == ".opus" else RATE
    codecs = {".mp3": "libmp3lame", ".opus": "libopus", ".m4a": "aac"}
    pcm = audio.to_pcm16(0.1 * np.random.default_rng(0).standard_normal(int(seconds * rate)))
    if path.suffix in (".flac", ".ogg"):
        soundfile.write(path, pcm, rate)
        return
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codecs[path.suffix], rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def write_music(folder: Path) -> list[Path]:
    """Every format: without tags, with tags, and the layouts that are harder to edit."""
    folder.mkdir()
    paths = []
    for kind in KINDS:
        for name in ("plain", "tagged", "large tags"):
            path = folder / f"{name}.{kind}"
            write_audio(path, 1.0 if name == "plain" else 8.0)
            if name != "plain":
                file = mutagen.File(path, easy=True)
                if file.tags is None:
                    file.add_tags()
                file["genre"] = ["Bossa nova", "Samba"]
                file["title"] = ["ç" * (10 if name == "tagged" else 70_000)]
                # No room left: the next change moves all that follows.
                file.save(padding=lambda info: 0)
            paths.append(path)
    front = folder / "index in front.m4a"
    write_audio(front, 3.0, movflags="faststart")
    old = folder / "old.mp3"
    write_audio(old, 3.0, id3v2_version="3", write_id3v1="1")
    file = mutagen.File(old, easy=True)
    file["genre"], file["title"] = ["Blues"], ["Old"]
    file.save(v1=2, v2_version=3)
    behind = folder / "flac behind id3.flac"
    write_audio(behind, 1.0)
    behind.write_bytes(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + behind.read_bytes())
    return [*paths, front, old, behind]


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> list[Path]:
    return write_music(tmp_path_factory.mktemp("music") / "music")
