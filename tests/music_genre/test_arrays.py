"""Each form of a waveform is the same audio file; what is in doubt is refused in one sentence."""

import array
import io

import numpy as np
import pytest
import soundfile
import torch

from music_genre.arrays import as_audio_file
from music_genre.audio import decode
from music_genre.errors import InputError

RATE = 16_000
TONE = (0.5 * np.sin(np.arange(4000) / 20)).astype(np.float32)
STEREO = np.stack([TONE, 0.5 * TONE])


class TorchcodecDecoder:
    """The part of a decoded Audio column of datasets that is used."""

    def get_all_samples(self):
        return type("AudioSamples", (), {"data": torch.tensor(STEREO), "sample_rate": RATE})


def decoded(source, rate=None, to=RATE) -> np.ndarray:
    return decode(as_audio_file(source, rate), to).waveform


@pytest.mark.parametrize(
    ("source", "rate"),
    [
        (TONE, RATE),
        (TONE.astype(np.float16), float(RATE)),
        (np.repeat(TONE, 2)[::2], RATE),
        (TONE.tolist(), RATE),
        (torch.tensor(TONE, requires_grad=True), RATE),
        (torch.tensor(TONE).to(torch.bfloat16), RATE),
        ((TONE * 32768).astype(np.int16), RATE),
        (array.array("h", (TONE * 32768).astype(np.int16)), RATE),
        ((TONE * 2**31).astype(np.int32), RATE),
        ((TONE * 128).astype(np.int8), RATE),
        ((TONE * 128 + 128).astype(np.uint8), RATE),
        (torch.tensor((TONE * 32768).astype(np.int16)), RATE),
        ((RATE, TONE), None),
        ((RATE, (TONE * 32768).astype(np.int16)), RATE),
        ({"array": TONE, "sampling_rate": RATE, "path": None}, None),
        (TONE[None], RATE),
        (TONE[:, None], RATE),
        (np.stack([TONE, TONE]), RATE),
        (np.stack([TONE, -TONE]), RATE),
    ],
)
def test_a_waveform_in_any_form_is_the_same_audio(source, rate):
    np.testing.assert_allclose(decoded(source, rate), TONE, atol=0.01)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32])
def test_integers_have_the_full_scale_of_their_type(kind):
    lowest, zero = np.iinfo(kind).min, 128 * (kind is np.uint8)
    waveform = np.full(RATE, zero, kind)
    waveform[:2] = lowest, (lowest + zero) // 2
    assert decoded(waveform, RATE)[:3].tolist() == [-1.0, -0.5, 0.0]


@pytest.mark.parametrize("source", [STEREO, STEREO.T, torch.tensor(STEREO), STEREO.tolist()])
def test_channels_come_first_or_last_and_are_mixed_as_those_of_files(source):
    np.testing.assert_allclose(decoded(source, RATE), 0.75 * TONE, atol=1e-6)


def test_a_decoded_audio_column_of_datasets_is_a_waveform():
    np.testing.assert_allclose(decoded(TorchcodecDecoder()), 0.75 * TONE, atol=1e-6)


def test_surround_sound_is_mixed_as_that_of_a_file(tmp_path):
    six = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 6)).astype(np.float32)
    soundfile.write(tmp_path / "six.wav", six, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(decoded(six.T, RATE), decoded(tmp_path / "six.wav"))


def test_files_stay_files(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, TONE, RATE, format="FLAC")
    data, path = buffer.getvalue(), tmp_path / "song.flac"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), {"bytes": data, "path": "x.flac"}):
        assert as_audio_file(source) == data
    assert as_audio_file(path) is path
    assert as_audio_file({"bytes": None, "path": str(path)}) == str(path)


@pytest.mark.parametrize(
    ("source", "rate", "message"),
    [
        (TONE, None, "needs its sampling_rate"),
        (TONE, -RATE, "-16000 Hz is not usable"),
        (TONE, 0, "0 Hz is not usable"),
        (TONE, 10**12, "Hz is not usable"),
        (TONE, 44_100.5, "whole number of hertz"),
        (TONE, float("nan"), "whole number of hertz"),
        (TONE, True, "whole number of hertz"),
        (TONE, "16000", "whole number of hertz"),
        ((TONE, RATE), None, "this is of type tuple"),
        ([0.5, 0.25], None, "needs its sampling_rate"),
        (None, None, "not of type object"),
        (io.BytesIO(b"RIFF"), None, "not of type object"),
        ("song.wav", RATE, "leave sampling_rate out"),
        ((RATE, TONE), 8000, "has 16000 Hz, and sampling_rate is 8000"),
        ({"array": TONE}, None, "needs its sampling_rate"),
        ({"samples": TONE}, None, "Pass a path"),
        (TONE.astype(np.complex64), RATE, "not of type complex64"),
        (TONE > 0, RATE, "not of type bool"),
        ((TONE * 1000).astype(np.int64), RATE, "not of type int64"),
        (TONE.astype(object), RATE, "not of type object"),
        ([[1.0], [1.0, 2.0]], RATE, "this is of type list"),
        (np.zeros((3, 2), np.float32), RATE, r"channels, not \(3, 2\)"),
        (np.zeros((100, 200), np.float32), RATE, r"channels, not \(100, 200\)"),
        (np.float32(1), RATE, "Pass a path"),
    ],
)
def test_what_is_in_doubt_is_one_sentence(source, rate, message):
    with pytest.raises(InputError, match=message) as error:
        as_audio_file(source, rate)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_samples_that_are_no_numbers_are_refused(value):
    waveform = TONE.astype(np.float64)
    waveform[7] = value
    with pytest.raises(InputError, match="not numbers"):
        decoded(waveform, RATE)
