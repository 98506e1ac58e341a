"""All audio decoding of the project: bytes or files in, mono float32 waveforms out.

Used by `python -m data_prep`, by `music_genre` and by the app, so that a clip sounds the same to
all three. soundfile reads WAV, AU, AIFF, FLAC and Ogg in a few milliseconds a clip; PyAV, which
brings its own FFmpeg, reads the rest (MP3, M4A, AAC, WebM, WMA, ...).
"""

import hashlib
import io
import math
import os
import sys
import wave
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import lru_cache
from typing import BinaryIO

import av
import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from music_genre.errors import InputError

SAMPLING_RATE = 16_000  # hertz; of HuBERT, wav2vec2, WavLM, AST and Whisper
MAX_CHANNELS = 8
MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 4_000, 192_000  # hertz; below a telephone is no music
# What the names of audio files end in, where files are looked for; content decides in the end.
KINDS = (
    "aac ac3 aif aifc aiff amr au caf flac m4a m4b mka mp3 mp4 oga ogg opus snd w64 wav webm wma"
)
SUFFIXES = frozenset(f".{kind}" for kind in KINDS.split())
MAGIC_OF_SOUNDFILE = (b"RIFF", b"RIFX", b"RF64", b".snd", b"FORM", b"fLaC", b"OggS")
BLOCK = 2**20  # samples decoded at a time: a clip in one go, a song in a few
KEEP_SECONDS = 600.0  # at most, of a file decoded in blocks: 38 MB at 16,000 hertz
MAX_RATIO = 441  # in resampling: the smaller term; 11,025 to 16,000 hertz is 441 to 640
MAX_PEAK = 1e6  # some programs write floats at the scale of integers; squares must not overflow
PREROLL = 0.5  # seconds decoded for nothing after a seek: MP3 and Opus need some to get going
SILENCE_PEAK = 1e-4  # full scale is 1; 16-bit dither stays below this

# FFmpeg would follow a playlist or a concat script to other files and hosts, whatever the name of
# the file says. Only containers that hold their own samples may be opened, and nothing nested.
CONTAINERS = "aac,ac3,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp4,mp3,ogg,wav,w64"
FFMPEG_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}


DAMAGED = "it is not audio in a format known here, or is damaged"


class AudioError(InputError):
    """Audio that cannot be used; the message says why in a few words a person understands."""


def decode(
    source: bytes | str | os.PathLike,
    max_seconds: float,
    to: int | None = None,
    start: float = 0.0,
) -> tuple[np.ndarray, int]:
    """Decode one audio file, all channels mixed to one.

    Args:
        source: the file's bytes, or a local path; never fetched, a URL is a path with no file.
        max_seconds: decoding stops here, so that no header can ask for more time or memory.
        to: resample to this rate in hertz, while decoding: the memory is that of the result.
        start: where to begin, in seconds, as in `AudioFile.blocks`.

    Returns:
        The waveform, shape (samples,), float32, finite, nominally in [-1, 1]; and its sampling rate
        in hertz.

    Raises:
        AudioError: not audio, no samples, NaN or infinite samples, or absurd rates or channels.
        FileNotFoundError: `source` is a path where there is no file.
    """
    with open_audio(source) as file:
        to = to or file.sampling_rate
        blocks = file.blocks(start, max_seconds)
        blocks = list(resample_blocks(blocks, file.sampling_rate, to))
        if not blocks:
            raise AudioError("it holds no audio samples")
        return np.concatenate(blocks), to


def decode_in_blocks(
    source: bytes | str | os.PathLike,
    max_seconds: float,
    to: int,
    start: float = 0.0,
    seconds: float = math.inf,
) -> tuple[Iterable[np.ndarray], int]:
    """Decode one audio file of any length in bounded memory, resampled to `to` hertz.

    A file of more than KEEP_SECONDS is decoded twice, which is cheap beside a model: once to count
    its samples, and again while the blocks are consumed. `start` and `seconds` select a part, as in
    `AudioFile.blocks`.

    Returns:
        What `decode` returns, in blocks, to be consumed once; and its length in samples.

    Raises:
        AudioError: as `decode`, or it is longer than `max_seconds`.
        FileNotFoundError: `source` is a path where there is no file.
    """
    kept: list[np.ndarray] = []
    n_samples = 0
    for block in _resampled_blocks(source, to, start, seconds):
        n_samples += len(block)
        if n_samples > max_seconds * to:
            raise AudioError(f"it is longer than {max_seconds / 3600:g} hours")
        if n_samples <= KEEP_SECONDS * to:
            kept.append(block)
        else:
            kept.clear()
    if not n_samples:
        raise AudioError("it holds no audio samples")
    return kept or _resampled_blocks(source, to, start, seconds), n_samples


def _resampled_blocks(
    source: bytes | str | os.PathLike, to: int, start: float, seconds: float
) -> Iterator[np.ndarray]:
    with open_audio(source) as file:
        yield from resample_blocks(file.blocks(start, seconds), file.sampling_rate, to)


def check_samples(waveform: np.ndarray) -> None:
    """Raise AudioError for a float waveform with samples that nothing can be computed from."""
    peak = max(waveform.max(initial=0), -waveform.min(initial=0))
    if not peak <= MAX_PEAK:  # and NaN is not, either
        raise AudioError("it has samples that are not numbers (NaN, infinite or absurdly large)")


@contextmanager
def open_audio(source: bytes | str | os.PathLike) -> Iterator["AudioFile"]:
    """Open one audio file, to be decoded a block at a time: memory is bounded whatever its length.

    Takes and raises what `decode` does.
    """
    with ExitStack() as stack:
        # Unbuffered: libsndfile reads from the descriptor, which must stand where the file does.
        file: BinaryIO = _Bytes(source) if isinstance(source, bytes) else _File(source)
        stack.enter_context(file)
        head = file.read(4)
        file.seek(0)
        if not head:
            raise AudioError("the file is empty")
        yield _open_soundfile(file, head, stack) or _open_pyav(file, stack)


class AudioFile(ABC):
    """An open audio file.

    Attributes:
        sampling_rate: hertz.
        duration: seconds, as the header claims; None where it does not say.
    """

    def __init__(self, sampling_rate: int, channels: int, duration: float | None) -> None:
        if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
            raise AudioError(f"its sampling rate of {sampling_rate} Hz is not usable")
        if not 0 < channels <= MAX_CHANNELS:
            raise AudioError(f"its {channels} channels are not usable")
        self.sampling_rate = sampling_rate
        self.duration = duration

    def blocks(self, start: float = 0.0, seconds: float = math.inf) -> Iterator[np.ndarray]:
        """Yield what `decode` returns, block after block, once.

        Args:
            start: where to begin, in seconds. What lies before is skipped, not decoded, where the
                format allows it; in an MP3 or M4A the place may be off by a few hundredths.
            seconds: how much to decode.

        Raises:
            AudioError: it is damaged, or has samples that are not numbers.
        """
        left = int(min(seconds * self.sampling_rate, sys.maxsize))
        for block in self._read(start, left):
            block = block[:left]
            check_samples(block)
            if len(block):
                yield block
            left -= len(block)
            if not left:
                return

    @abstractmethod
    def _read(self, start: float, n_samples: int) -> Iterator[np.ndarray]:
        """Yield mono float32 blocks of about BLOCK samples; more than n_samples may come."""


class _SoundFile(AudioFile):
    def __init__(self, file: soundfile.SoundFile) -> None:
        # A stream of unknown length claims the largest number there is.
        duration = file.frames / file.samplerate if 0 < file.frames < 2**62 else None
        super().__init__(file.samplerate, file.channels, duration)
        self._file = file

    def _read(self, start: float, n_samples: int) -> Iterator[np.ndarray]:
        try:
            if start:
                self._file.seek(min(int(start * self.sampling_rate), self._file.frames))
            # Block by block: a header's claim about the length is never allocated.
            while len(
                block := self._file.read(min(BLOCK, n_samples), dtype="float32", always_2d=True)
            ):
                yield block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
                n_samples -= len(block)
        except soundfile.LibsndfileError as error:
            raise AudioError(DAMAGED) from error


class _PyAV(AudioFile):
    def __init__(self, container: av.container.InputContainer) -> None:
        if not container.streams.audio:
            raise AudioError("it holds no audio")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError("it is compressed in a way not known here, or is damaged")
        stream.thread_type = "NONE"  # callers decode several files at once themselves
        duration = None
        if stream.duration:
            duration = float(stream.duration * stream.time_base)
        elif container.duration:
            duration = container.duration / 1e6  # FFmpeg's unit for containers
        super().__init__(stream.rate, stream.channels, duration)
        self._container, self._stream = container, stream

    def _read(self, start: float, n_samples: int) -> Iterator[np.ndarray]:
        frames, length = [], 0  # a frame is 20 ms or so: joined, so that callers have less to do
        for frame in self._frames(start):
            frames.append(frame)
            length += len(frame)
            if length >= min(BLOCK, n_samples):
                yield np.concatenate(frames)
                n_samples -= length
                frames, length = [], 0
        if frames:
            yield np.concatenate(frames)

    def _frames(self, start: float) -> Iterator[np.ndarray]:
        to_float = av.AudioResampler(format="fltp")
        try:
            at = self._seek(start)
            for frame in self._container.decode(self._stream):
                if at is None:  # the first one after a seek
                    began = float((self._stream.start_time or 0) * frame.time_base)
                    at = start if frame.time is None else frame.time - began
                for converted in to_float.resample(frame):
                    mono = converted.to_ndarray().mean(axis=0, dtype=np.float32)
                    yield mono[max(0, round((start - at) * self.sampling_rate)) :]
                    at += len(mono) / self.sampling_rate
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(DAMAGED) from error

    def _seek(self, start: float) -> float | None:
        """Jump to shortly before `start`.

        Returns where decoding continues, in seconds; None if frames tell.
        """
        if start <= PREROLL:
            return 0.0
        try:
            self._container.seek(int((start - PREROLL) * 1e6))
        except av.FFmpegError:  # it cannot be sought in: all before `start` is decoded for nothing
            return 0.0
        return None


# Decoders seek before the start and far behind the end of some damaged files, where Python would
# print a traceback.


class _Bytes(io.BytesIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


class _File(io.FileIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            offset = min(max(0, offset), os.fstat(self.fileno()).st_size)
        return super().seek(offset, whence)


def _open_soundfile(file: BinaryIO, head: bytes, stack: ExitStack) -> AudioFile | None:
    """None where libsndfile does not know the format."""
    if not head.startswith(MAGIC_OF_SOUNDFILE):
        return None  # libsndfile takes much for an MP3 that is none, and complains on the terminal
    try:
        # A file's descriptor: reading it needs no Python, so that threads decode side by side.
        source = file if isinstance(file, io.BytesIO) else file.fileno()
        return _SoundFile(stack.enter_context(soundfile.SoundFile(source, closefd=False)))
    except soundfile.LibsndfileError:
        file.seek(0)
        return None


def _open_pyav(file: BinaryIO, stack: ExitStack) -> AudioFile:
    try:
        return _PyAV(stack.enter_context(_av_open(file)))
    except AudioError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(DAMAGED) from error


def _av_open(file: BinaryIO) -> av.container.InputContainer:
    return av.open(file, options=FFMPEG_OPTIONS, metadata_errors="ignore")


def packets_sha256(path: str | os.PathLike) -> str:
    """A hash of a file's compressed audio alone, whatever tags it has; nothing is decoded.

    Raises:
        AudioError: it is not audio that PyAV can take apart.
    """
    total = hashlib.sha256()
    try:
        with _File(path) as file, _av_open(file) as container:
            for packet in container.demux(container.streams.audio[:1]):
                total.update(bytes(packet))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(DAMAGED) from error
    return total.hexdigest()


def resample(waveform: np.ndarray, sampling_rate: int, to: int = SAMPLING_RATE) -> np.ndarray:
    """Resample a float32 waveform of shape (samples,) between rates in hertz, with torchaudio."""
    if sampling_rate == to:
        return waveform

    # A batch and a channel axis: without them torchaudio copies the signal once more.
    resampler = _resampler(*_ratio(sampling_rate, to))
    return resampler(torch.from_numpy(waveform).view(1, 1, -1)).view(-1).numpy()


def _ratio(sampling_rate: int, to: int) -> tuple[int, int]:
    """The two rates without their common divisor.

    torchaudio's filter has as many values as the product of both: 5.6 GB for 44,101 to 16,000
    hertz. So odd ratios are rounded, by 0.12 % at most, a fiftieth of a semitone.
    """
    ratio = Fraction(max(sampling_rate, to), min(sampling_rate, to)).limit_denominator(MAX_RATIO)
    high, low = ratio.as_integer_ratio()
    return (high, low) if sampling_rate > to else (low, high)


def resample_blocks(
    blocks: Iterable[np.ndarray], sampling_rate: int, to: int = SAMPLING_RATE
) -> Iterator[np.ndarray]:
    """`resample` for a waveform that comes in blocks: the same samples, in blocks again.

    Neighbouring blocks overlap by the width of the filter, and are cut where input and output
    samples coincide, so every output sample is computed from the same input.
    """
    step, step_out = _ratio(sampling_rate, to)  # samples between coinciding ones
    if step == step_out:
        yield from blocks
        return
    overlap = step * (math.ceil(_resampler(step, step_out).width / step) + 1)
    overlap_out = overlap // step * step_out
    waiting, n_in, n_out = np.zeros(overlap, np.float32), 0, 0

    def next_samples(n_steps: int) -> np.ndarray:
        part = waiting[: 2 * overlap + n_steps * step]
        return resample(part, sampling_rate, to)[overlap_out:][: n_steps * step_out]

    for block in blocks:
        n_in += len(block)
        waiting = np.concatenate([waiting, block])
        n_steps = (len(waiting) - 2 * overlap) // step
        if n_steps > 0:
            yield next_samples(n_steps)
            n_out += n_steps * step_out
            waiting = waiting[n_steps * step :]
    left = math.ceil(n_in * step_out / step) - n_out
    if left:
        waiting = np.concatenate([waiting, np.zeros(2 * overlap, np.float32)])
        yield next_samples(math.ceil(left / step_out))[:left]


@lru_cache(maxsize=8)
def _resampler(sampling_rate: int, to: int) -> Resample:
    """Kept with its filter: computing that anew takes a sixth of the time of a clip."""
    return Resample(sampling_rate, to)


def is_silent(waveform: np.ndarray) -> bool:
    return bool(max(waveform.max(initial=0), -waveform.min(initial=0)) < SILENCE_PEAK)


def to_pcm16(waveform: np.ndarray) -> np.ndarray:
    """Float32 in [-1, 1] to int16, rounded, clipped at full scale."""
    return np.clip(np.rint(waveform * 32768), -32768, 32767).astype("<i2")


def wav_bytes(pcm: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> bytes:
    """A mono 16-bit WAV file in memory. pcm: int16, shape (samples,)."""
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
    return soundfile.read(io.BytesIO(data), frames=frames, start=start, dtype="int16")[0]


def n_samples(data: bytes) -> int:
    """Length in samples of a WAV that `data_prep` wrote."""
    return soundfile.info(io.BytesIO(data)).frames
