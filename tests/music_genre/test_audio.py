import io
import subprocess
import sys
import tracemalloc
import wave

import av
import mutagen
import numpy as np
import pytest
import soundfile

from music_genre import audio_files
from music_genre import old_audio as audio


def write_with_pyav(path, waveform: np.ndarray, sampling_rate: int, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sampling_rate, layout="mono")
        samples = (waveform * 32767).astype("<i2")[None, :]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = sampling_rate
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=stream.rate, frame_size=stream.frame_size
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def wav(samples: np.ndarray, sampling_rate: int = 16_000, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sampling_rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["WAV", "AU", "AIFF", "FLAC"])
def test_lossless_formats_give_the_same_samples(container, tone):
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.to_pcm16(tone), 22_050, format=container, subtype="PCM_16")
    waveform, sampling_rate = audio.decode(buffer.getvalue(), 60)
    assert sampling_rate == 22_050
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(audio.to_pcm16(waveform), audio.to_pcm16(tone))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.webm", "libopus"), ("a.opus", "libopus")],
)
def test_lossy_formats_are_decoded(tmp_path, tone, name, codec):
    rate = 48_000 if codec == "libopus" else 16_000
    path = tmp_path / name
    write_with_pyav(path, audio.resample(tone, 16_000, rate), rate, codec)
    waveform, sampling_rate = audio.decode(path, 60)
    assert len(waveform) / sampling_rate == pytest.approx(3, abs=0.1)
    spectrum = np.abs(np.fft.rfft(waveform))
    assert np.argmax(spectrum) * sampling_rate / len(waveform) == pytest.approx(440, abs=2)


def test_channels_are_averaged(tone):
    stereo = np.stack([tone, np.zeros_like(tone)], axis=1)
    waveform, _ = audio.decode(wav(stereo, subtype="FLOAT"), 60)
    np.testing.assert_allclose(waveform, tone / 2, atol=1e-6)


def test_decoding_stops_at_the_limit(tone):
    waveform, sampling_rate = audio.decode(wav(tone), 1.5)
    assert len(waveform) == 1.5 * sampling_rate


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is a letter, not music\n" * 50, "not audio"),
        (b"RIFF" + bytes(40), "not audio"),
        (wav(np.zeros(0)), "no audio samples"),
        (wav(np.full(16_000, np.nan), subtype="FLOAT"), "NaN"),
        (wav(np.full(16_000, -1e38), subtype="FLOAT"), "absurdly large"),
        (wav(np.zeros((1600, 9)), subtype="PCM_16"), "9 channels"),
        (wav(np.zeros(1600), sampling_rate=400_000), "400000 Hz"),
        (wav(np.zeros(1600), sampling_rate=100), "100 Hz"),
    ],
)
def test_unusable_audio_says_why(data, reason):
    with pytest.raises(audio.AudioError, match=reason):
        audio.decode(data, 60)


def test_an_unknown_codec_says_so(tmp_path, tone):
    write_with_pyav(tmp_path / "a.mov", tone, 16_000, "pcm_s16le")
    with pytest.raises(audio.AudioError, match="compressed in a way"):
        audio.decode((tmp_path / "a.mov").read_bytes().replace(b"sowt", b"zzzz"), 60)


def test_a_damaged_file_prints_nothing(tone, capfd):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, 16_000, format="AIFF")
    with pytest.raises(audio.AudioError):
        audio.decode(buffer.getvalue()[:44], 60)
    assert capfd.readouterr() == ("", "")


def test_a_playlist_or_script_is_not_followed(tmp_path, tone):
    target = tmp_path / "target.aac"
    write_with_pyav(target, tone, 16_000, "aac")
    assert len(audio.decode(target, 60)[0]), "the target itself must be playable"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n"
    script = f"ffconcat version 1.0\nfile {target}\n"
    for text in (playlist, script):
        path = tmp_path / "song.mp3"
        path.write_text(text)
        with pytest.raises(audio.AudioError):
            audio.decode(path, 60)


def test_a_header_that_claims_hours_costs_nothing(tone):
    data = bytearray(wav(tone))
    data[40:44] = (0xFFFFFFF0).to_bytes(4, "little")  # the length of the data chunk
    waveform, _ = audio.decode(bytes(data), 60)
    assert len(waveform) == len(tone)


def test_resampling_keeps_pitch_and_length(tone):
    resampled = audio.resample(tone, 16_000, 22_050)
    assert len(resampled) == pytest.approx(3 * 22_050, abs=1)
    assert audio.resample(tone, 16_000, 16_000) is tone


@pytest.mark.parametrize("rate", [8_000, 15_999, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.001, 0.3, 3.0])
def test_resampling_in_blocks_gives_the_samples_of_the_whole(rate, seconds):
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal(int(seconds * rate)).astype(np.float32)
    cuts = np.sort(rng.integers(0, len(waveform) + 1, 5))
    blocks = np.split(waveform, cuts)
    whole = audio.resample(waveform, rate)
    in_blocks = np.concatenate(list(audio.resample_blocks(blocks, rate)))
    assert in_blocks.shape == whole.shape
    np.testing.assert_allclose(in_blocks, whole, atol=1e-6)


def test_decoding_to_a_rate_takes_the_memory_of_the_result(tmp_path):
    path = tmp_path / "high.flac"
    soundfile.write(path, np.tile(np.float32([0, 0.5, 0, -0.5]), 48_000 * 60), 192_000)
    tracemalloc.start()
    waveform, rate = audio.decode(path, 300, to=16_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (rate, len(waveform)) == (16_000, 60 * 16_000)
    assert peak < 4 * waveform.nbytes, "at its own rate the waveform alone takes 12 times as much"


def sweep(seconds: float, rate: int) -> np.ndarray:
    """A tone that rises: its pitch tells the time. float32, shape (samples,)."""
    time = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (500 + 50 * time) * time)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", ""),
        ("a.flac", ""),
        ("a.ogg", ""),
        ("a.mp3", "libmp3lame"),
        ("a.m4a", "aac"),
        ("a.aac", "aac"),
        ("a.webm", "libopus"),
    ],
)
def test_only_the_middle_is_decoded_and_it_is_the_middle(tmp_path, name, codec):
    path = tmp_path / name
    waveform = sweep(20, 48_000)
    if codec:
        write_with_pyav(path, waveform, 48_000, codec)
    else:
        soundfile.write(path, waveform, 48_000)
    with audio.open_audio(path) as file:
        assert file.duration == pytest.approx(20, abs=0.5)
        part = np.concatenate(list(file.blocks(start=12.0, seconds=2.0)))
    assert len(part) == 2 * 48_000
    # Where in the original it lies: the peak of the cross-correlation around the asked place.
    around = waveform[11 * 48_000 : 15 * 48_000]
    size = len(around) + len(part)
    correlation = np.fft.irfft(np.fft.rfft(around, size) * np.fft.rfft(part, size).conj(), size)
    assert 11 + np.argmax(correlation) / 48_000 == pytest.approx(12, abs=0.06)


def test_blocks_are_what_decode_gives(tmp_path, monkeypatch):
    waveform = sweep(6, 22_050)
    monkeypatch.setattr(audio_files, "BLOCK", 10_000)
    for name in ("a.flac", "a.mp3"):
        path = tmp_path / name
        if name == "a.mp3":
            write_with_pyav(path, waveform, 22_050, "libmp3lame")
        else:
            soundfile.write(path, waveform, 22_050)
        with audio.open_audio(path) as file:
            blocks = list(file.blocks())
        assert max(map(len, blocks)) < 12_000
        np.testing.assert_array_equal(np.concatenate(blocks), audio.decode(path, 60)[0])


def test_a_file_that_is_damaged_further_on_says_so(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, sweep(3, 16_000), 16_000, format="FLAC")
    data = bytearray(buffer.getvalue())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    with pytest.raises(audio.AudioError, match="damaged"):
        audio.decode(bytes(data), 60)


def test_the_hash_of_packets_knows_audio_from_tags(tmp_path, tone):
    hashes = []
    for name in ("a.mp3", "b.mp3", "other.mp3"):
        path = tmp_path / name
        write_with_pyav(path, tone if name != "other.mp3" else -tone, 16_000, "libmp3lame")
        if name == "b.mp3":
            file = mutagen.File(path, easy=True)
            file["title"] = ["A title" * 1000]
            file.save()
        hashes.append(audio_files.packets_sha256(path))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("rate", [4001, 15_989, 44_101, 191_999])
def test_odd_rates_keep_their_length(rate):
    resampled = audio.resample(np.zeros(rate, np.float32), rate)
    assert len(resampled) == pytest.approx(16_000, rel=2e-3)


def test_odd_rates_take_no_gigabytes(root):
    code = (
        "import resource, numpy as np; from music_genre import old_audio as audio;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "resample = lambda rate: audio.resample(np.zeros(1000, np.float32), rate);"
        "resample(8000); before = peak(); resample(44_101); resample(191_999);"
        "print((peak() - before) / 1024)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 500  # megabytes; the exact filters take 5,600 and 25,000


def test_pcm16_rounds_and_clips():
    pcm = audio.to_pcm16(np.array([0, 1, -1, 2, -2, 0.6 / 32768], dtype=np.float32))
    assert pcm.tolist() == [0, 32767, -32768, 32767, -32768, 1]


def test_wav_bytes_are_a_wav_that_others_read(tone):
    pcm = audio.to_pcm16(tone)
    data = audio.wav_bytes(pcm)
    with wave.open(io.BytesIO(data)) as file:
        assert file.getparams()[:4] == (1, 2, 16_000, 48_000)
    assert audio.n_samples(data) == 48_000
    waveform = audio.read_wav(data)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform * 32768, pcm)
    np.testing.assert_array_equal(audio.read_wav(data, 100, 50), waveform[100:150])
