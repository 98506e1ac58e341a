"""Decoding: every format, parts of files, channels, silence, damage, and what is refused."""

import io
import subprocess
import tracemalloc

import av
import mutagen
import numpy as np
import pytest
import soundfile

from music_genre import audio
from music_genre.audio import AudioError, decode, is_silent, loss_in_words, measure, packets_sha256
from tests.music_genre.test_fuzz import FORMATS

RATE = 22_050


def sweep(seconds: float, rate: int = RATE) -> np.ndarray:
    """A tone that rises: its pitch tells the time. float32, shape (samples,)."""
    time = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (300 + 50 * time) * time)).astype(np.float32)


def written(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, **options)
    return buffer.getvalue()


def converted(data: bytes, *options: str) -> bytes:
    """By FFmpeg's command line, through pipes: so no header knows its length."""
    command = ["ffmpeg", "-v", "error", "-i", "-", *options, "-"]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "W64"])
def test_lossless_formats_give_the_same_samples(kind):
    samples = (sweep(3) * 32767).astype("i2")
    decoded = decode(written(samples, kind=kind, subtype="PCM_16"), RATE)
    assert decoded.waveform.dtype == np.float32 and decoded.lost_seconds == 0
    np.testing.assert_array_equal(decoded.waveform * 32768, samples)


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"),
    [
        ("WAV", "FLOAT", 44_100),
        ("WAV", "ALAW", 8000),
        ("WAV", "IMA_ADPCM", 44_100),
        ("RF64", "PCM_16", 44_100),
        ("FLAC", "PCM_24", 192_000),
        ("CAF", "PCM_16", 44_101),
    ],
)
def test_other_encodings_and_rates_keep_pitch_and_length(kind, subtype, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    waveform, lost = decode(written(tone, rate, kind, subtype=subtype), 16_000)
    assert len(waveform) == pytest.approx(32_000, abs=700) and lost == 0
    spectrum = np.abs(np.fft.rfft(waveform))
    assert np.argmax(spectrum) * 16_000 / len(waveform) == pytest.approx(440, abs=1)


PIPED = {
    "wav": ["-f", "wav"],
    "ogg": ["-c:a", "libvorbis", "-f", "ogg"],
    "webm": ["-c:a", "libopus", "-f", "webm"],
    "mp3": ["-f", "mp3"],
    "aac": ["-c:a", "aac", "-f", "adts"],
    "fragmented mp4": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4"],
}


@pytest.mark.parametrize(("kind", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS")])
def test_a_part_sounds_as_it_does_in_the_whole(kind, subtype):
    """These decoders need half a second to get going."""
    noise = np.random.default_rng(0).standard_normal(8 * 48_000)
    data = written(0.2 * noise, 48_000, kind, subtype=subtype)
    whole = decode(data, 48_000).waveform
    for start, first in ((5.1, 244_800), (0.3, 14_400)):
        part = decode(data, 48_000, start, seconds=0.5).waveform
        np.testing.assert_allclose(part, whole[first : first + 24_000], atol=1e-3)


@pytest.mark.parametrize("name", PIPED)
def test_a_file_without_a_length_is_measured_and_its_middle_is_the_middle(name):
    data = converted(written(sweep(20)), *PIPED[name])
    assert measure(data) == pytest.approx(20, abs=0.2)
    whole, lost = decode(data, 16_000)
    assert len(whole) / 16_000 == pytest.approx(20, abs=0.1) and lost == 0
    part, lost = decode(data, 16_000, start=12.0, seconds=2.0)
    assert len(part) == 32_000 and lost == 0
    # Where in the original it lies: the peak of the cross-correlation around the asked place.
    around = sweep(20, 16_000)[11 * 16_000 : 15 * 16_000]
    size = len(around) + len(part)
    correlation = np.fft.irfft(np.fft.rfft(around, size) * np.fft.rfft(part, size).conj(), size)
    assert 11 + np.argmax(correlation) / 16_000 == pytest.approx(12, abs=0.06)


def test_a_joined_ogg_of_other_channels_is_refused_and_not_cut():
    """FFmpeg would stop where the second one begins."""
    options = ["-c:a", "libvorbis", "-f", "ogg"]
    mono = converted(written(sweep(5, 44_100), 44_100), *options)
    stereo = converted(written(np.stack([sweep(5, 44_100)] * 2, 1), 44_100), *options)
    assert len(decode(mono + mono, 16_000).waveform) / 16_000 == pytest.approx(10, abs=0.1)
    with pytest.raises(AudioError, match="a part of it is of a form that is not known"):
        decode(mono + stereo, 16_000)


@pytest.mark.parametrize(
    ("options", "joins"),
    [
        (["-f", "mp3"], True),
        (["-c:a", "aac", "-f", "adts"], True),
        (["-c:a", "ac3", "-f", "ac3"], False),
    ],
)
def test_joined_files_of_other_rates_and_channels_are_decoded_to_their_end(options, joins):
    parts = [
        converted(written(sweep(5, 44_100), 44_100), *options),
        converted(written(np.stack([sweep(5, 44_100)] * 2, 1), 44_100), *options),
    ]
    if joins:
        parts.append(converted(written(sweep(5)), *options))
    for data, seconds in ((b"".join(parts), 5 * len(parts)), (parts[1] + parts[0], 10)):
        waveform, lost = decode(data, 16_000)
        assert len(waveform) / 16_000 == pytest.approx(seconds, abs=0.3) and lost == 0
        last = np.abs(np.fft.rfft(waveform[-16_000:]))
        assert 700 < np.argmax(last) < 800, "the pitch of a sweep's end"


def test_a_joined_part_of_a_rate_that_is_not_usable_is_lost(monkeypatch):
    monkeypatch.setattr(audio, "MIN_SAMPLING_RATE", 30_000)
    usable, other = (
        converted(written(sweep(seconds, rate), rate), "-c:a", "aac", "-f", "adts")
        for seconds, rate in ((5, 44_100), (3, 22_050))
    )
    assert decode(usable + other, 16_000).lost_seconds == pytest.approx(3, abs=0.2)


def test_the_length_of_a_film_is_that_of_its_sound(tmp_path):
    path = tmp_path / "film.mkv"
    picture = ["-f", "lavfi", "-i", "color=size=16x16:rate=5:duration=5"]
    command = ["ffmpeg", "-v", "error", "-i", "-", *picture, path]
    subprocess.run(command, input=written(sweep(2)), check=True)
    assert measure(path) == pytest.approx(2, abs=0.1)
    assert decode(path, RATE).lost_seconds == 0


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (0.0, 0.5),
        (0.5, 0.75),
        (-0.6, 0.2),  # the mean has 6 % of the channels' mean power, and 4 % of the louder one's
        (-0.8, 1.0),  # an eightieth: the left channel
        (-1.25, 1.0),
    ],
)
def test_the_mean_of_channels_keeps_a_twentieth_of_their_power(right, expected):
    stereo = np.stack([sweep(1), right * sweep(1)], axis=1)
    waveform = decode(written(stereo, subtype="FLOAT"), RATE).waveform
    np.testing.assert_allclose(waveform, expected * sweep(1), atol=1e-4)


@pytest.mark.parametrize(("share", "options"), [(1.0, ["-f", "mp3"]), (0.98, None)])
def test_of_channels_that_cancel_out_the_first_is_taken(share, options):
    data = written(np.stack([-share * sweep(2), sweep(2)], axis=1))
    waveform = decode(converted(data, *options) if options else data, RATE).waveform
    assert np.abs(waveform).max() == pytest.approx(0.5, rel=0.1)
    if not options:
        np.testing.assert_allclose(waveform, -share * sweep(2), atol=1e-4)


@pytest.mark.parametrize(("kind", "n_channels"), [("WAV", 3), ("WAV", 8), ("FLAC", 6)])
def test_surround_sound_is_mixed_as_ffmpeg_mixes_it(kind, n_channels):
    """And the crash of PyAV at planes of eight channels does not happen."""
    rng = np.random.default_rng(0)
    data = written(rng.uniform(-0.2, 0.2, (48_000, n_channels)), 48_000, kind)
    command = ["ffmpeg", "-v", "error", "-i", "-", "-f", "f32le", "-ac", "2", "-"]
    by_ffmpeg = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
    expected = np.frombuffer(by_ffmpeg, np.float32).reshape(-1, 2).mean(1)
    np.testing.assert_allclose(decode(data, 48_000).waveform, expected, atol=1e-4)


N = 5 * 16_000
T = np.arange(N) / 16_000
DITHER = np.random.default_rng(0).integers(-1, 2, N) / 32768
MUSIC = sweep(5, 16_000)


@pytest.mark.parametrize(
    ("waveform", "expected"),
    [
        (np.zeros(N), True),
        (DITHER, True),
        (np.full(N, 0.5), True),
        (0.3 + DITHER, True),
        (1e-3 * MUSIC, False),
        (MUSIC + 0.5, False),
        (np.where(T < 4.4, 0, MUSIC), False),
        (np.where(T % 0.5 < 0.02, MUSIC, 0), False),
        (0.1 * np.sin(2 * np.pi * 30 * T), False),
        (0.1 * np.sin(2 * np.pi * 55 * T), False),
        (0.005 * np.sin(2 * np.pi * 2000 * T), False),
        (0.04 * np.sin(2 * np.pi * 60 * T), False),
        (1e-4 * MUSIC, True),
        (MUSIC[:4000], False),
    ],
)
def test_silence_is_what_has_no_sound_in_any_second(waveform, expected):
    assert is_silent(waveform.astype(np.float32), 16_000) == expected


def test_a_damaged_frame_is_skipped_and_counted():
    data = bytearray(written(np.random.default_rng(0).uniform(-0.5, 0.5, 20 * RATE), kind="FLAC"))
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    waveform, lost = decode(bytes(data), RATE)
    assert 0.1 < lost < 1
    assert len(waveform) / RATE + lost == pytest.approx(20, abs=0.05)


def test_a_stream_without_a_length_counts_its_damaged_packets():
    """ADTS says nothing of its length: what is lost is known by the packets alone."""
    data = bytearray(converted(written(sweep(8)), "-c:a", "aac", "-f", "adts"))
    with av.open(io.BytesIO(bytes(data)), format="aac") as container:
        packets = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    for at, size in packets[40:60]:
        data[at + 7 : at + size] = b"\xff" * (size - 7)  # their headers stay
    waveform, lost = decode(bytes(data), RATE)
    assert lost == pytest.approx(20 * 1024 / RATE, abs=0.1)
    assert len(waveform) / RATE + lost == pytest.approx(8, abs=0.2)
    assert decode(bytes(data), RATE, start=2.85).lost_seconds == 0, "all damage is before it"


@pytest.mark.parametrize("share", [0.7, 0.3])
def test_a_wav_that_was_cut_off_knows_what_is_missing(share):
    data = written(sweep(20))
    cut = data[: int(len(data) * share)]
    if share < 0.5:
        with pytest.raises(AudioError, match=r"only 6\.0 s of its 20\.0 s"):
            decode(cut, RATE)
        short = written(sweep(0.8))  # half of it is too little
        with pytest.raises(AudioError, match=r"only 0\.4 s of its 0\.8 s"):
            decode(short[: len(short) // 2], RATE)
        return
    assert decode(cut, RATE).lost_seconds == pytest.approx(6, abs=0.01)
    assert decode(cut, RATE, start=5).lost_seconds == pytest.approx(6, abs=0.01)
    assert decode(cut, RATE, start=12, seconds=4).lost_seconds == pytest.approx(2, abs=0.01)
    assert decode(cut, RATE, start=5, seconds=5).lost_seconds == 0


@pytest.mark.parametrize(("riff", "data"), [(0, None), (2**32 - 1, 2**32 - 1), (None, 10**9)])
def test_a_header_that_does_not_know_costs_nothing(riff, data):
    """Recorders and pipes leave the lengths out; the end of the file tells."""
    wav = bytearray(written(sweep(3)))
    for at, value in ((4, riff), (40, data)):
        if value is not None:
            wav[at : at + 4] = value.to_bytes(4, "little")
    waveform, lost = decode(bytes(wav), RATE)
    assert len(waveform) == 3 * RATE and lost == 0


def test_what_is_lost_is_a_sentence():
    assert loss_in_words(0.0, 200.0) is None
    assert loss_in_words(2.13, 197.9) == "2.1 s of 3:20 could not be decoded"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is a letter, not music\n" * 50, "not audio"),
        (b"1\n00:00:00,000 --> 00:00:02,000\nAh\n\n", "format known"),  # FFmpeg's subtitles
        (written(np.zeros(0)), "no audio samples"),
        (written(np.full(16_000, np.nan), subtype="FLOAT"), "NaN"),
        (written(np.full(16_000, -1e38), subtype="FLOAT"), "absurdly large"),
        (written(np.zeros((1600, 9))), "9 channels"),
        (written(np.zeros(1600), 100), "100 Hz"),
        ("/dev/zero", "not a file"),
        ("a\0b", "not a file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # a WAV of floats has the time in it
)
def test_what_cannot_be_used_says_why(data, reason):
    with pytest.raises(AudioError, match=reason) as error:
        decode(data, 16_000)
    assert "\n" not in str(error.value)


def test_a_part_behind_the_end_has_no_samples():
    with pytest.raises(AudioError, match="no audio samples"):
        decode(written(sweep(2)), RATE, start=5.0)


def test_a_file_longer_than_the_limit_is_refused_and_not_cut(monkeypatch):
    monkeypatch.setattr(audio, "MAX_SECONDS", 2.0)
    assert len(decode(written(sweep(2)), RATE).waveform) == 2 * RATE
    with pytest.raises(AudioError, match="longer than"):
        decode(written(sweep(2.1)), RATE)
    monkeypatch.setattr(audio, "_PyAVReader", None)  # no need to decode the part once more
    assert len(decode(written(sweep(4)), RATE, start=1, seconds=2).waveform) == 2 * RATE


def test_a_damaged_file_prints_nothing(tmp_path, capfd):
    far = tmp_path / "far.caf"  # a chunk of it ends behind what a file system can hold
    far.write_bytes(written(sweep(1), kind="CAF")[:52] + b"free" + (2**62).to_bytes(8))
    for source in (written(sweep(3), kind="AIFF")[:44], far):
        with pytest.raises(AudioError):
            decode(source, 16_000)
    assert capfd.readouterr() == ("", "")


def test_decoding_takes_the_memory_of_the_result(tmp_path):
    path = tmp_path / "high.flac"
    soundfile.write(path, np.tile(np.float32([0, 0.5, 0, -0.5]), 48_000 * 60), 192_000)
    tracemalloc.start()
    waveform = decode(path, 16_000).waveform
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(waveform) == 60 * 16_000
    assert peak < 4 * waveform.nbytes, "at its own rate the waveform alone takes 12 times as much"


def test_the_hash_of_packets_knows_audio_from_tags(tmp_path):
    hashes = []
    for name in ("a.mp3", "b.mp3", "other.mp3"):
        path = tmp_path / name
        path.write_bytes(converted(written(sweep(1 + (name == "other.mp3"))), "-f", "mp3"))
        if name == "b.mp3":
            file = mutagen.File(path, easy=True)
            file["title"] = ["A title" * 1000]
            file.save()
        hashes.append(packets_sha256(path))
    assert hashes[0] == hashes[1] != hashes[2]


def test_formats_of_the_fuzzer_are_those_that_are_looked_for():
    assert {f".{ending}" for ending in FORMATS} <= audio.SUFFIXES
