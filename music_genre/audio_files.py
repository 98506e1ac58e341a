"""Audio files, opened safely whatever they hold, to be decoded a block at a time.

soundfile reads WAV, AU, AIFF, FLAC and Ogg in a few milliseconds a clip; PyAV, which brings its own
FFmpeg, reads the rest (MP3, M4A, AAC, WebM, WMA, ...). audio.py makes waveforms of them. This file
imports no torch: it would take seconds and gigabytes of each decoder process.
"""

import hashlib
import io
import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import av
import numpy as np
import soundfile

from music_genre.errors import InputError

MAX_CHANNELS = 8
MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 4_000, 192_000  # hertz; below a telephone is no music
MAGIC_OF_SOUNDFILE = (b"RIFF", b"RIFX", b"RF64", b".snd", b"FORM", b"fLaC", b"OggS")
BLOCK = 2**20  # samples decoded at a time: a clip in one go, a song in a few
MAX_PEAK = 1e6  # some programs write floats at the scale of integers; squares must not overflow
PREROLL = 0.5  # seconds decoded for nothing after a seek: MP3 and Opus need some to get going

# FFmpeg would follow a playlist or a concat script to other files and hosts, whatever the name of
# the file says. Only containers that hold their own samples may be opened, and nothing nested.
CONTAINERS = "aac,ac3,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp4,mp3,ogg,wav,w64"
FFMPEG_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
DAMAGED = "it is not audio in a format known here, or is damaged"


class AudioError(InputError):
    """Audio that cannot be used; the message says why in a few words a person understands."""


def check_samples(waveform: np.ndarray) -> None:
    """Raise AudioError for a float waveform with samples that nothing can be computed from."""
    peak = max(waveform.max(initial=0), -waveform.min(initial=0))
    if not peak <= MAX_PEAK:  # and NaN is not, either
        raise AudioError("it has samples that are not numbers (NaN, infinite or absurdly large)")


@contextmanager
def open_audio(source: bytes | str | os.PathLike) -> Iterator["AudioFile"]:
    """Open one audio file, to be decoded a block at a time: memory is bounded whatever its length.

    Takes and raises what `audio.decode` does.
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
        """Yield what `audio.decode` returns, block after block, once.

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
            if len(frame):  # those before `start` are empty: millions, where nothing can be sought
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
