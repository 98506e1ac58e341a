"""All audio decoding of the project: bytes or files in, mono float32 waveforms out.

Used by `python -m data_prep`, by `music_genre.GenreClassifier` and by the app, so that a clip
sounds the same to all three. soundfile reads WAV, AU, AIFF, FLAC and Ogg in a few milliseconds a
clip; PyAV, which brings its own FFmpeg, reads the rest (MP3, M4A, AAC, WebM, WMA, ...).
"""

import io
import os
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_prep import InputError

SAMPLING_RATE = 16_000  # hertz; what HuBERT, wav2vec2, WavLM, AST and Whisper all hear
MAX_CHANNELS = 8
MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 4_000, 192_000  # hertz; below a telephone is no music
MAGIC_OF_SOUNDFILE = (b"RIFF", b"RIFX", b"RF64", b".snd", b"FORM", b"fLaC", b"OggS")
BLOCK = 2**20  # samples decoded at a time: a clip in one go, a song in a few
MAX_RATIO = 441  # in resampling: the smaller term; 11,025 to 16,000 hertz is 441 to 640
MAX_PEAK = 1e6  # some programs write floats at the scale of integers; squares must not overflow
SILENCE_PEAK = 1e-4  # full scale is 1; 16-bit dither stays below this

# FFmpeg would follow a playlist or a concat script to other files and hosts, whatever the name of
# the file says. Only containers that hold their own samples may be opened, and nothing nested.
CONTAINERS = "aac,ac3,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp4,mp3,ogg,wav,w64"
FFMPEG_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}


class AudioError(InputError):
    """Audio that cannot be used; the message says why in a few words a person understands."""


def decode(source: bytes | str | os.PathLike, max_seconds: float) -> tuple[np.ndarray, int]:
    """Decode one audio file, all channels mixed to one.

    Args:
        source: the file's bytes, or a local path; never fetched, a URL is a path with no file.
        max_seconds: decoding stops here, so that no header can ask for more time or memory.

    Returns:
        The waveform, shape (samples,), float32, finite, nominally in [-1, 1]; and its sampling rate
        in hertz.

    Raises:
        AudioError: not audio, no samples, NaN or infinite samples, or absurd rates or channels.
        FileNotFoundError: `source` is a path where there is no file.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data:
        raise AudioError("the file is empty")
    blocks, sampling_rate = _decode_soundfile(data, max_seconds) or _decode_pyav(data, max_seconds)
    if not blocks or not sum(map(len, blocks)):
        raise AudioError("it holds no audio samples")
    waveform = np.concatenate(blocks)[: int(max_seconds * sampling_rate)]
    check_samples(waveform)
    return waveform, sampling_rate


def check_samples(waveform: np.ndarray) -> None:
    """Raise AudioError for a float waveform with samples that nothing can be computed from."""
    peak = max(waveform.max(initial=0), -waveform.min(initial=0))
    if not peak <= MAX_PEAK:  # and NaN is not, either
        raise AudioError("it has samples that are not numbers (NaN, infinite or absurdly large)")


def _decode_soundfile(data: bytes, max_seconds: float) -> tuple[list[np.ndarray], int] | None:
    """Mono blocks and the sampling rate, or None where libsndfile does not know the format."""
    import soundfile

    if not data.startswith(MAGIC_OF_SOUNDFILE):
        return None  # libsndfile takes much for an MP3 that is none, and complains on the terminal
    try:
        with soundfile.SoundFile(_Bytes(data)) as file:
            _check_shape(file.samplerate, file.channels)
            # Block by block: a header's claim about the length is never allocated.
            n_blocks = int(max_seconds * file.samplerate) // BLOCK + 1
            blocks = []
            for _ in range(n_blocks):
                block = file.read(BLOCK, dtype="float32", always_2d=True)
                if not len(block):
                    break
                blocks.append(block.mean(axis=1) if file.channels > 1 else block[:, 0])
            return blocks, file.samplerate
    except soundfile.LibsndfileError:
        return None


class _Bytes(io.BytesIO):
    """libsndfile seeks before the start of some damaged files: Python would print a traceback."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


def _decode_pyav(data: bytes, max_seconds: float) -> tuple[list[np.ndarray], int]:
    import av

    try:
        with av.open(
            io.BytesIO(data), options=FFMPEG_OPTIONS, metadata_errors="ignore"
        ) as container:
            if not container.streams.audio:
                raise AudioError("it holds no audio")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError("it is compressed in a way not known here, or is damaged")
            stream.thread_type = "NONE"  # callers decode several files at once themselves
            _check_shape(stream.rate, stream.channels)
            to_float = av.AudioResampler(format="fltp")
            blocks, n_samples = [], 0
            for frame in container.decode(stream):
                for converted in to_float.resample(frame):
                    blocks.append(converted.to_ndarray().mean(axis=0, dtype=np.float32))
                    n_samples += len(blocks[-1])
                if n_samples >= max_seconds * stream.rate:
                    break
            return blocks, stream.rate
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError("it is not audio in a format known here, or is damaged") from error


def _check_shape(sampling_rate: int, channels: int) -> None:
    if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
        raise AudioError(f"its sampling rate of {sampling_rate} Hz is not usable")
    if not 0 < channels <= MAX_CHANNELS:
        raise AudioError(f"its {channels} channels are not usable")


def resample(waveform: np.ndarray, sampling_rate: int, to: int = SAMPLING_RATE) -> np.ndarray:
    """Resample a float32 waveform of shape (samples,) between rates in hertz, with torchaudio.

    torchaudio's filter has as many values as the product of both rates without their common
    divisor: 5.6 GB for 44,101 to 16,000 hertz. So odd ratios are rounded, by 0.12 % at most, a
    fiftieth of a semitone.
    """
    if sampling_rate == to:
        return waveform
    import torch

    ratio = Fraction(max(sampling_rate, to), min(sampling_rate, to)).limit_denominator(MAX_RATIO)
    high, low = ratio.as_integer_ratio()
    # A batch and a channel axis: without them torchaudio copies the signal once more.
    resampled = _resampler(*((high, low) if sampling_rate > to else (low, high)))(
        torch.from_numpy(waveform).view(1, 1, -1)
    )
    return resampled.view(-1).numpy()


@lru_cache(maxsize=8)
def _resampler(sampling_rate: int, to: int) -> Callable:
    """Kept with its filter: computing that anew takes a sixth of the time of a clip."""
    from torchaudio.transforms import Resample

    return Resample(sampling_rate, to)


def is_silent(waveform: np.ndarray) -> bool:
    return bool(max(waveform.max(initial=0), -waveform.min(initial=0)) < SILENCE_PEAK)


def to_pcm16(waveform: np.ndarray) -> np.ndarray:
    """Float32 in [-1, 1] to int16, rounded, clipped at full scale."""
    return np.clip(np.rint(waveform * 32768), -32768, 32767).astype("<i2")


def wav_bytes(pcm: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> bytes:
    """A mono 16-bit WAV file in memory. pcm: int16, shape (samples,)."""
    import wave

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue()


def read_wav(data: bytes, start: int = 0, frames: int = -1) -> np.ndarray:
    """Samples `start` to `start + frames` of a WAV that `data_prep` wrote; int16, shape (frames,).

    Only the asked part is copied: a random crop costs the same whatever the clip's length.
    """
    import soundfile

    return soundfile.read(io.BytesIO(data), frames=frames, start=start, dtype="int16")[0]


def n_samples(data: bytes) -> int:
    """Length in samples of a WAV that `data_prep` wrote."""
    import soundfile

    return soundfile.info(io.BytesIO(data)).frames
