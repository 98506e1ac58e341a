"""The synthetic music: repeatable, shaped like GTZAN, and different from style to style."""

import io
import wave
import zipfile

import numpy as np
import pytest
import soundfile

from data_prep.archive import MARKER
from data_prep.synthetic import GENRES, SAMPLING_RATE, synthesise, write_archive

SECONDS = 2.0


def spectrum(clip: np.ndarray) -> np.ndarray:
    """Mean log power in 64 bands of equal width, without the clip's level."""
    frames = clip[: len(clip) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    power = (np.abs(np.fft.rfft(frames)[:, 1:]) ** 2).mean(0).reshape(64, -1).mean(1)
    return np.log(power + 1e-9) - np.log(power + 1e-9).mean()


@pytest.mark.parametrize("genre", GENRES)
def test_a_clip_is_audible_float32_in_range_without_clicks_and_of_its_seed(genre):
    clip = synthesise(genre, seed=3, seconds=SECONDS)
    assert clip.dtype == np.float32
    assert clip.shape == (round(SECONDS * 22_050),)
    assert 0.5 < np.abs(clip).max() < 0.72  # about -3 dBFS
    assert clip.std() > 0.03
    assert abs(clip[0]) < 0.01 and abs(clip[-1]) < 0.01
    assert np.array_equal(clip, synthesise(genre, 3, SECONDS))
    assert abs(np.corrcoef(clip, synthesise(genre, 6, SECONDS))[0, 1]) < 0.9


def test_styles_can_be_told_apart_by_the_spectra_of_other_seeds():
    """Nearest centroid, far above the 10 % of chance; a trained net uses rhythm as well."""
    known = {g: np.mean([spectrum(synthesise(g, s, SECONDS)) for s in range(6)], 0) for g in GENRES}
    right = [
        genre == min(GENRES, key=lambda g: np.linalg.norm(known[g] - clip))
        for genre in GENRES
        for clip in (spectrum(synthesise(genre, seed, SECONDS)) for seed in range(100, 104))
    ]
    assert np.mean(right) > 0.6


def test_the_archive_has_gtzans_layout_and_says_that_it_is_synthetic(tmp_path):
    path = tmp_path / "synthetic.zip"
    write_archive(path, clips_per_genre=2, seconds=0.5)
    first = path.read_bytes()
    write_archive(path, clips_per_genre=2, seconds=0.5, seed=1)
    assert path.read_bytes() != first
    other = {info.CRC for info in zipfile.ZipFile(path).infolist()}
    write_archive(path, clips_per_genre=2, seconds=0.5)
    assert path.read_bytes() == first
    with zipfile.ZipFile(path) as archive:
        assert len(other & {info.CRC for info in archive.infolist()}) == 1, "but the marker"
        names = archive.namelist()
        wavs = [f"genres_original/{g}/{g}.{n:05d}.wav" for g in GENRES for n in range(2)]
        assert names == [MARKER, *wavs]
        assert "not real music" in archive.read(MARKER).decode()
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        with wave.open(io.BytesIO(archive.read(wavs[0]))) as file:
            assert file.getparams()[:4] == (1, 2, 22_050, 11_025)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]  # no temporary file left


def test_a_failed_write_leaves_the_old_archive_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "synthetic.zip"
    path.write_bytes(b"old")
    monkeypatch.setattr("data_prep.synthetic.synthesise", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_archive(path, clips_per_genre=1)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_examples_of_the_page_are_this_music(root):
    """After a change of the sound: soundfile.write each `synthesise(genre, 100_000)` there."""
    assert {path.stem for path in (root / "music_genre" / "examples").glob("*.ogg")} == {*GENRES}
    samples, rate = soundfile.read(root / "music_genre" / "examples" / "jazz.ogg")
    clip = synthesise("jazz", 100_000)
    assert rate == SAMPLING_RATE
    assert np.corrcoef(samples, clip)[0, 1] > 0.95
