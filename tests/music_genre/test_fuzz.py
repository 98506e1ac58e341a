"""Damaged audio files of all formats, compared with what FFmpeg's command line plays.

    MUTATIONS=1500 python -m pytest tests/music_genre/test_fuzz.py  # of each format

Each file is decoded in a decoder process, which must not end. Of a format, at least 99 % of the
files give at least 90 % of the seconds that `ffmpeg` gives; a file of which less than half is left
may be refused. The n-th file is the same in every run. Those that fail stay in pytest's folder.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_genre.audio import AudioError, decode
from music_genre.isolation import DecoderError, DecoderPool, result

MUTATIONS = int(os.environ.get("MUTATIONS", 6))
RATE, SECONDS, TIMEOUT = 22_050, 10, 60
FORMATS = {  # how a file's name ends, and FFmpeg's options
    "wav": [],
    "aiff": [],
    "flac": [],
    "ogg": ["-c:a", "libvorbis"],
    "opus": ["-c:a", "libopus"],
    "mp3": ["-b:a", "128k"],
    "m4a": ["-c:a", "aac", "-movflags", "faststart"],
    "mp4": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-frag_duration", "1000000"],
    "aac": ["-c:a", "aac"],
    "webm": ["-c:a", "libopus"],
    "wma": ["-c:a", "wmav2"],
    "ac3": ["-c:a", "ac3"],
    "wv": ["-c:a", "wavpack"],
}
JUNK = (b"\n", bytes(30), bytes(100_000), b"TAG" + bytes(125), b"some text " * 50)


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(num_processes=2) as pool:
        yield pool


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """Chords with some noise, in stereo."""
    rng, t = np.random.default_rng(0), np.arange(SECONDS * RATE) / RATE
    hertz = rng.choice([220.0, 277.2, 329.6, 440.0, 554.4], (SECONDS * 4, 3)).repeat(RATE // 4, 0)
    chords = np.sin(2 * np.pi * hertz * t[: len(hertz), None]).sum(1)
    left = 0.2 * chords + 0.02 * rng.standard_normal(len(chords))
    path = tmp_path_factory.mktemp("music") / "source.wav"
    soundfile.write(path, np.stack([left, 0.7 * left], axis=1).astype(np.float32), RATE)
    return path


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One or two things that happen to files: damage, gaps, insertions, junk, an early end."""
    for _ in range(rng.integers(1, 3)):
        at, length = int(rng.integers(0, len(data))), int(rng.choice([1, 4, 64, 400, 4000]))
        before, after = data[:at], data[at:]
        data = (
            before + rng.bytes(length) + after[length:],
            before + bytes(length) + after[length:],
            before + rng.bytes(length) + after,
            before + after[length:],
            data[: len(data) * int(rng.integers(60, 100)) // 100],
            data + JUNK[rng.integers(len(JUNK))],
        )[rng.integers(6)]
    return data


def ffmpeg_seconds(path: Path) -> float:
    command = ["ffmpeg", "-v", "quiet", "-i", path, "-map", "0:a:0", "-f", "s16le", "-ac", "1"]
    done = subprocess.run([*command, "-ar", "16000", "-"], capture_output=True, timeout=TIMEOUT)
    return len(done.stdout) / 32_000


def judge(pool: DecoderPool, path: Path) -> str:
    """What is wrong; a file with which nothing is wrong is deleted."""
    expected = ffmpeg_seconds(path)
    try:
        decoded = result(pool.schedule(decode, args=[str(path), 16_000], timeout=TIMEOUT))
        seconds = len(decoded.waveform) / 16_000
    except DecoderError as error:
        return f"{path.name} ended its process: {error}"
    except AudioError:
        seconds = 0.0
    if seconds < 0.9 * expected and expected > SECONDS / 2:
        return f"{path.name} gives {seconds:.1f} s of {expected:.1f} s"
    path.unlink()
    return ""


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_what_ffmpeg_gives(name, music, pool, tmp_path):
    whole = tmp_path / f"whole.{name}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", music, *FORMATS[name], whole], check=True)
    paths = [tmp_path / f"{seed}.{name}" for seed in range(MUTATIONS)]
    for seed, path in enumerate(paths):
        path.write_bytes(mutate(whole.read_bytes(), np.random.default_rng(seed)))
    with ThreadPoolExecutor(2) as threads:
        wrong = [said for said in threads.map(judge, [pool] * MUTATIONS, paths) if said]
    assert len(wrong) <= MUTATIONS / 100, wrong
    assert "ended" not in str(wrong)
