"""A small library of music, and a tiny classifier to scan it with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


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
