"""WAVs of 16-bit numbers, read without a native decoder, have the samples of libsndfile."""

import io

import numpy as np
import pytest
import soundfile

from data_prep.wav import NotPcm16Error, open_pcm16
from music_genre import old_audio as audio


def written(n_channels=1, seconds=1.0, **options) -> bytes:
    shape = (int(22_050 * seconds), n_channels)
    samples = np.random.default_rng(0).uniform(-1, 1, shape)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 22_050, **({"format": "WAV"} | options))
    return buffer.getvalue()


def both(data: bytes) -> list[np.ndarray]:
    return [
        audio.decode(data, 60, start=start, open_file=open_file)[0]
        for open_file in (open_pcm16, audio.open_audio)
        for start in (0.0, 0.3)
    ]


@pytest.mark.parametrize("n_channels", [1, 2, 5])
def test_samples_are_those_of_libsndfile(n_channels):
    whole, part, *expected = both(written(n_channels))
    np.testing.assert_array_equal(whole, expected[0])
    np.testing.assert_array_equal(part, expected[1])


@pytest.mark.parametrize("cut", [1, 2, 3, 20_001])
def test_a_file_that_is_cut_has_the_samples_that_are_left(cut):
    whole, _, expected, _ = both(written(2)[:-cut])
    np.testing.assert_array_equal(whole, expected)


def test_a_path_is_opened_as_its_bytes(tmp_path):
    (tmp_path / "a.wav").write_bytes(written())
    (tmp_path / "b.wav").write_bytes(written(format="FLAC"))
    samples, _ = audio.decode(tmp_path / "a.wav", 60, open_file=open_pcm16)
    np.testing.assert_array_equal(samples, both(written())[0])
    with pytest.raises(NotPcm16Error), open_pcm16(tmp_path / "b.wav"):
        pass


def with_bytes(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"RIFF", b"ID3" + bytes(100), written()[:40], written(seconds=0.0),
        written(format="FLAC"), written(format="AU"), written(format="WAV", subtype="FLOAT"),
        written(format="WAV", subtype="PCM_24"), written(format="WAV", subtype="ULAW"),
        with_bytes(written(), 16, b"\xff\xff\xff\xff"), with_bytes(written(), 22, bytes(2)),
        with_bytes(written(), 40, bytes(4)),
    ],
)  # fmt: skip
def test_all_else_is_for_a_decoder(data):
    with pytest.raises(NotPcm16Error), open_pcm16(data):
        pass


@pytest.mark.parametrize("rate", [0, 100, 2**31])
def test_an_absurd_rate_is_an_error(rate):
    data = with_bytes(written(), 24, rate.to_bytes(4, "little"))
    with pytest.raises(audio.AudioError, match="sampling rate"), open_pcm16(data):
        pass


def test_a_header_that_claims_gigabytes_costs_nothing():
    data = with_bytes(written(), 40, (0xFFFFFFF0).to_bytes(4, "little"))
    whole, _, expected, _ = both(data)
    np.testing.assert_array_equal(whole, expected)
