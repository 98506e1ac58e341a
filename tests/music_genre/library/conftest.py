"""A small library to scan, a classifier that needs no net, and files of every format to tag."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile
from mutagen import id3

from music_genre import wav
from music_genre.library import scan, tags
from tests.pool_here import PoolHere

LABELS = ["rock", "jazz", "blues"]


@pytest.fixture
def here(monkeypatch) -> None:
    """No processes are started; they take seconds."""
    for module in (scan, tags):
        monkeypatch.setattr(module, "DecoderPool", PoolHere)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Stub:
    """A classifier whose probabilities depend on each window; it counts those of each batch."""

    sampling_rate, window_seconds = 16_000, 1.0
    labels, model_id, commit = LABELS, "you/stub", "c0ffee"

    is_demonstration = False

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def window_probabilities(self, cuts: list[np.ndarray]) -> np.ndarray:
        self.batch_sizes.append(len(cuts))
        level = np.array([min(0.6, 2 * np.abs(cut).mean()) for cut in cuts])
        return np.stack([0.3 - level / 3, 0.1 + level, 0.6 - level * 2 / 3], axis=1)


@pytest.fixture
def stub() -> Stub:
    return Stub()


def make_noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """At 16 kHz; float32, shape (samples,)."""
    n_samples = int(seconds * 16_000)
    return (level * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


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
        sound = make_noise(0.4 + i, seed=i, level=0.03 * (1 + i))
        soundfile.write(path, np.clip(sound, -1, 1), (16_000, 22_050, 44_100)[i % 3])
    (folder / "letter.mp3").write_bytes(b"Dear friend, this is no music.\n" * 50)
    (folder / "empty.flac").touch()
    soundfile.write(folder / "click.wav", make_noise(0.01), 16_000)
    (folder / "cover.jpg").write_bytes(b"not an audio file")
    (folder / ".hidden.wav").write_bytes(b"left out")
    return folder


@pytest.fixture
def library(music, tmp_path) -> Path:
    """That music, to be changed."""
    return shutil.copytree(music, tmp_path / "library")


@pytest.fixture
def scan_to(stub, here, capsys) -> Callable[..., list[dict]]:
    """Scan with the stub, or another classifier; returns the table's rows."""

    def scan_to(output: Path, *roots: Path, classifier: object = stub, **options) -> list[dict]:
        table, scan_to.is_complete = scan.scan(classifier, roots, output, **options)
        scan_to.said = capsys.readouterr().out
        return table.to_pylist()

    return scan_to


def n_part_rows(output: Path) -> int:
    """Of every part: how many files were ever processed."""
    from pyarrow import parquet

    parts = Path(f"{output}.parts").glob("*.parquet")
    return sum(parquet.read_metadata(part).num_rows for part in parts)


# --- files to tag ---------------------------------------------------------------------------


def write_audio(path: Path, seconds: float, **options: str) -> None:
    """Noise in the format of the suffix. options: of FFmpeg's muxer."""
    rate = 48_000 if path.suffix == ".opus" else 44_100
    codecs = {".mp3": "libmp3lame", ".opus": "libopus", ".m4a": "aac"}
    pcm = wav.to_pcm16(0.1 * np.random.default_rng(0).standard_normal(int(seconds * rate)))
    if path.suffix in (".flac", ".ogg", ".wav", ".aiff"):
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


def id3v1(genre: int) -> bytes:
    return (
        b"TAG" + b"a title".ljust(30, b"\0") + b"who".ljust(30, b"\0") + bytes(64) + bytes([genre])
    )


def write_music(folder: Path) -> list[Path]:
    """Every format, without tags and with several, and ID3 as programs really write it."""
    folder.mkdir()
    for kind in ("mp3", "flac", "ogg", "opus", "m4a", "aiff", "wav"):
        write_audio(plain := folder / f"plain.{kind}", 0.5)
        tagged = Path(shutil.copy(plain, folder / f"tagged.{kind}"))
        if kind in ("mp3", "aiff", "wav"):
            continue
        file = mutagen.File(tagged, easy=True)
        file["genre"], file["title"] = ["Bossa nova", "Samba"], ["ç" * 7_000]
        file.save(padding=lambda info: 0)  # the next change moves all that follows
    for kind, version in (("mp3", 4), ("aiff", 3), ("wav", 4)):
        file = mutagen.File(folder / f"tagged.{kind}")
        if file.tags is None:
            file.add_tags()
        file.tags.add(id3.TCON(encoding=3, text=["(17)"] if version == 3 else ["17", "Samba"]))
        file.tags.add(id3.TIT2(encoding=1, text=["ç" * 7_000]))
        file.tags.save(folder / f"tagged.{kind}", v2_version=version)
    plain = (folder / "plain.mp3").read_bytes()[_size_of_id3(folder / "plain.mp3") :]
    tags = id3.ID3()
    for frame in (id3.TYER(text="1999"), id3.TIT2(text=["A", "B"]), id3.RVAD(data=b"kept")):
        tags.add(frame) if not isinstance(frame, id3.RVAD) else None
    tags.add(id3.TCON(encoding=1, text=["Rock; Pop"]))
    for name, v1 in (("v2.3", b""), ("v2.3 and v1", id3v1(8))):
        path = folder / f"{name}.mp3"
        path.write_bytes(plain + v1)
        tags.save(path, v1=0, v2_version=3, v23_sep=None)
        if v1:
            path.write_bytes(path.read_bytes() + v1)
    (folder / "v1.mp3").write_bytes(plain + id3v1(8))
    (folder / "v1 zero.mp3").write_bytes(plain + id3v1(0))
    return sorted(folder.iterdir())


def _size_of_id3(path: Path) -> int:
    try:
        return id3.ID3(path).size
    except id3.ID3NoHeaderError:
        return 0


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> list[Path]:
    return write_music(tmp_path_factory.mktemp("music") / "music")


def write_with_ffmpeg(source: Path, target: Path) -> bool:
    """Whether FFmpeg's command line is here and has an encoder for this kind."""
    if not shutil.which("ffmpeg"):
        return False
    command = ["ffmpeg", "-v", "error", "-y", "-i", source, target]
    return not subprocess.run(command, capture_output=True).returncode
