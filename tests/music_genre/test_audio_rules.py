"""What is silent, how channels are mixed, which part is decoded, and what is lost; by values."""

import io

import av
import numpy as np
import pytest
import soundfile

from music_genre import audio
from music_genre.audio import AudioError, decode, is_silent, loss_in_words, measure

RATE = 16_000


def sine(hertz: float, seconds: float, level: float = 0.5, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def file(samples: np.ndarray, rate: int = RATE, container: str = "WAV", **more: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, **more)
    return buffer.getvalue()


def click() -> np.ndarray:
    samples = np.zeros(2 * RATE, np.float32)
    samples[20_000] = 0.9
    return samples


# --- silence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.zeros(RATE), True),
        (np.full(3 * RATE, 0.3), True),
        (click(), True),
        (sine(440, 2, 5e-5), True),
        (sine(440, 2, 5e-4), False),
        (sine(10, 3), True),
        (sine(30, 3), False),
        (sine(50, 3, 0.005) + sine(150, 3, 0.003), True),
        (sine(50, 3, 0.005) + sine(440, 3, 0.003), False),
        (sine(60, 3, 0.05), False),
        (np.append(np.zeros(3 * RATE), sine(440, 0.4)), False),
        (np.append(sine(440, 0.4), np.zeros(3 * RATE)), False),
    ],
)
def test_what_is_silent(samples, expected):
    assert is_silent(samples.astype(np.float32), RATE) == expected


def test_silence_is_in_seconds_at_every_rate():
    samples = np.append(np.zeros(3 * 44_100), sine(440, 0.4, rate=44_100)).astype(np.float32)
    assert not is_silent(samples, 44_100)
    assert is_silent(sine(10, 3, rate=44_100), 44_100)


# --- channels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (0.5, 0.75),
        (0.0, 0.5),
        (-0.5, 0.25),  # a tenth of the power is left: the mean
        (-0.8, 1.0),  # an eightieth: the left channel, which is louder
        (-1.25, -1.25),  # the right one
    ],
)
def test_channels_are_mixed_by_their_mean_unless_it_cancels_them(right, expected):
    left = sine(440, 1.5)
    stereo = np.stack([left, right * left], axis=1)
    decoded = decode(file(stereo, subtype="FLOAT"), RATE)
    np.testing.assert_allclose(decoded.waveform, expected * left, atol=1e-5)
    assert decoded.lost_seconds == 0


# --- parts ----------------------------------------------------------------------------------


def pitch(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples))


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_part_begins_where_it_was_asked_for(container):
    """Each second has a pitch of its own; soundfile reads three of these, PyAV the last one."""
    scale = np.concatenate([sine(hertz, 1, rate=22_050) for hertz in (300, 500, 900, 1300, 1900)])
    data = file(scale, 22_050, container)
    waveform, lost = decode(data, RATE, start=3.0, seconds=1.0)
    assert len(waveform) == pytest.approx(RATE, abs=2) and lost == 0
    assert pitch(waveform[1000:-1000]) == pytest.approx(1300, abs=5)
    assert pitch(decode(data, RATE, seconds=1.0).waveform) == pytest.approx(300, abs=5)
    last = decode(data, RATE, start=4.0).waveform
    assert pitch(last[1000:]) == pytest.approx(1900, abs=5)
    assert len(last) / RATE == pytest.approx(1, abs=0.1)
    assert measure(data) == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_the_end(rate):
    waveform = decode(file(sine(440, 1.5, rate=rate), rate), RATE).waveform
    assert len(waveform) == pytest.approx(1.5 * RATE, abs=2)
    assert np.sqrt(np.mean(waveform[-1600:-200] ** 2)) == pytest.approx(0.5 / 2**0.5, rel=0.05)


def test_a_file_up_to_the_limit_is_decoded_and_a_longer_one_refused(monkeypatch):
    monkeypatch.setattr(audio, "MAX_SECONDS", 2.0)
    assert len(decode(file(sine(440, 2)), RATE).waveform) == 2 * RATE
    with pytest.raises(AudioError, match="longer than"):
        decode(file(sine(440, 2.1)), RATE)
    assert len(decode(file(sine(440, 3)), RATE, seconds=1.5).waveform) == 1.5 * RATE


# --- damage ---------------------------------------------------------------------------------


def test_of_a_recording_that_broke_off_what_is_there_is_decoded():
    data = file(sine(440, 10))
    waveform, lost = decode(data[: int(0.7 * len(data))], RATE)
    assert len(waveform) / RATE == pytest.approx(7, abs=0.1)
    assert lost == pytest.approx(3, abs=0.1)


def test_less_than_half_of_a_file_is_refused():
    data = file(sine(440, 10))
    assert decode(data[: int(0.55 * len(data))], RATE).lost_seconds > 4
    with pytest.raises(AudioError, match=r"only 4\.0 s of its 10\.0 s"):
        decode(data[: int(0.4 * len(data))], RATE)


def test_a_damaged_frame_costs_its_own_length():
    rng = np.random.default_rng(0)
    music = sine(440, 10) + 0.1 * rng.standard_normal(10 * RATE).astype(np.float32)
    data = bytearray(file(music, container="FLAC"))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    waveform, lost = decode(bytes(data), RATE)
    assert 0.1 < lost < 1
    assert len(waveform) / RATE + lost == pytest.approx(10, abs=0.1)


def test_a_stream_without_a_length_counts_its_damaged_packets():
    """ADTS says nothing of its length: what is lost is known by the packets alone."""
    target = io.BytesIO()
    with av.open(target, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(sine(440, 8)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    data = bytearray(target.getvalue())
    with av.open(io.BytesIO(bytes(data)), format="aac") as container:
        packets = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    for at, size in packets[40:60]:
        data[at + 7 : at + size] = b"\xff" * (size - 7)  # their headers stay
    waveform, lost = decode(bytes(data), RATE)
    assert lost == pytest.approx(20 * 1024 / RATE, abs=0.1)
    assert len(waveform) / RATE + lost == pytest.approx(8, abs=0.2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e7])
def test_samples_that_are_no_numbers_are_refused(bad):
    samples = sine(440, 1)
    samples[5000] = bad
    with pytest.raises(AudioError, match="not numbers"):
        decode(file(samples, subtype="FLOAT"), RATE)


def test_a_loss_is_said_in_seconds_and_minutes():
    assert loss_in_words(2.1, 197.9) == "2.1 s of 3:20 could not be decoded"
    assert loss_in_words(0.0, 100.0) is None
