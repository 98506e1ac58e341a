import io
import subprocess
import sys
import wave

import av
import numpy as np
import pytest
import soundfile

from data_prep import audio


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


@pytest.mark.parametrize("rate", [4001, 15_989, 44_101, 191_999])
def test_odd_rates_keep_their_length(rate):
    resampled = audio.resample(np.zeros(rate, np.float32), rate)
    assert len(resampled) == pytest.approx(16_000, rel=2e-3)


def test_odd_rates_take_no_gigabytes(root):
    code = (
        "import resource, numpy as np; from data_prep import audio;"
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
    np.testing.assert_array_equal(audio.read_wav(data), pcm)
    np.testing.assert_array_equal(audio.read_wav(data, 100, 50), pcm[100:150])


def test_importing_the_decoder_is_cheap(root):
    code = "import sys, data_prep.audio; print('torch' in sys.modules, 'av' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]
