"""Decode an audio file to a mono waveform at one sampling rate, whatever the file holds.

    decoded = decode("song.mp3", 16_000)
    decoded.waveform, decoded.lost_seconds

soundfile reads intact WAV, AIFF and FLAC files with one or two channels. PyAV, which bundles
FFmpeg, reads everything else packet by packet: like FFmpeg's command line, it skips damaged
packets, and counts them. soxr resamples. This module does not import torch, so that a decoder
process (isolation.py) starts fast and stays small.
"""

import hashlib
import io
import math
import os
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO, NamedTuple

import av
import numpy as np
import soundfile
import soxr

from music_genre.errors import InputError

# The extensions by which audio files are found; the content of a file decides in the end.
KINDS = (
    "aac ac3 aif aifc aiff amr ape au caf dsf flac m4a m4b mka mp2 mp3 mp4 mpc oga ogg opus snd "
    "spx tta w64 wav webm wma wv"
)
SUFFIXES = frozenset(f".{kind}" for kind in KINDS.split())
# Folders that network drives, Windows and macOS create beside the music; compared in lower case.
BINS = frozenset(
    [
        *("#recycle", "#snapshot", "@eadir", "@recently-snapshot", "@recycle"),
        *("$recycle.bin", "recycled", "recycler", "system volume information"),
        *("__macosx", "lost+found"),
    ]
)

MAX_SECONDS = 2 * 3600.0  # per file: its waveform is held in memory
MAX_CHANNELS = 8
MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 4_000, 1_411_200  # hertz; DSD256 is read at the maximum
MAX_PEAK = 1e6  # some programs write floats at the scale of integers; squares must not overflow
MIN_SECONDS = 0.5  # that must be decodable in a damaged file
CODEC_PADDING = 0.1  # seconds by which the header of an intact file may overstate its length
MIN_KEPT_POWER = 1 / 20  # the share of the channels' power that their mean must keep
PREROLL = 0.5  # seconds decoded before `start`: MP3 and Opus need some to get going
BLOCK = 2**16  # frames handled at a time: soxr is fastest with blocks that fit into a cache
MAX_BAD_READS = 1000  # failed reads of a container in a row; each byte of a file could cause one
SILENCE_RMS = 1e-4  # full scale is 1; 16-bit dither stays below this

# FFmpeg would follow a playlist or a concat script to other files and hosts, whatever the file's
# extension. Only containers that hold their own samples may be opened, and nothing nested.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,caf,dsf,eac3,flac,matroska,webm,mov,mp4,mp3,mpc,mpc8,ogg,tta,wav,"
    "w64,wv"
)
FFMPEG_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
# Containers that state their length. For others, FFmpeg only estimates it from the bit rate.
CONTAINERS_WITH_LENGTH = frozenset(
    ["aiff", "ape", "au", "caf", "dsf", "flac", "matroska", "mov", "ogg", "tta", "w64", "wav", "wv"]
)
# Not Ogg: its channels may change within a file, and libsndfile then reads the first part only.
MAGIC_OF_SOUNDFILE = (b"RIFF", b"RIFX", b"RF64", b".snd", b"FORM", b"fLaC")
DAMAGED = "it is not audio in a format known here, or is damaged"

Source = bytes | str | os.PathLike


class AudioError(InputError):
    """Audio that cannot be used; the message says why in a few words a person understands."""


class Decoded(NamedTuple):
    """`waveform`: float32, shape (samples,), finite, nominally in [-1, 1].

    `lost_seconds`: how much of the file could not be decoded, or of a part with a given length, how
    much is missing at its end: damage inside it is skipped.
    """

    waveform: np.ndarray
    lost_seconds: float


def decode(
    source: Source, sampling_rate: int, start: float = 0.0, seconds: float | None = None
) -> Decoded:
    """Decode one audio file, or a part of it, to mono.

    Channels are averaged. In a block of BLOCK frames where this cancels most of the sound, because
    the phase of one channel is inverted, the first channel is used. FFmpeg mixes surround sound to
    stereo first.

    Args:
        source: the file's bytes, or a local path. Nothing is fetched: a URL counts as a local path.
        sampling_rate: of the result, in hertz.
        start: where to begin, in seconds; in an MP3, M4A or Ogg it may be off by a few
            hundredths.
        seconds: how much to decode; None means all.

    Raises:
        AudioError: the source is not audio, is longer than MAX_SECONDS or has samples that are not
            numbers, or less than half of it, or less than half a second, can be decoded.
        FileNotFoundError: `source` is a path, and no file is there.
    """
    with _open(source) as file:
        try:
            return _decode(_SoundFileReader, file, sampling_rate, start, seconds)
        except (_UseFFmpegError, soundfile.LibsndfileError):
            return _decode(_PyAVReader, file, sampling_rate, start, seconds)


def measure(source: Source) -> float:
    """Return a file's length in seconds, from its header or else from the sum of its packets.

    Nothing is decoded.

    Raises:
        AudioError, FileNotFoundError: as `decode`.
    """
    with _open(source) as file:
        try:
            with closing(_SoundFileReader(file)) as reader:
                return reader.length
        except (_UseFFmpegError, soundfile.LibsndfileError):
            pass
        with closing(_PyAVReader(file)) as reader:
            if reader.length is not None:
                return reader.length
            return sum(_seconds_of(packet) for packet in reader.packets())


def packets_sha256(path: str | os.PathLike) -> str:
    """Hash only the compressed audio of a file, not its tags; nothing is decoded.

    Raises:
        AudioError: the file is not audio that PyAV can demux.
    """
    total = hashlib.sha256()
    with _open(path) as file, closing(_PyAVReader(file)) as reader:
        for packet in reader.packets():
            total.update(bytes(packet))
    return total.hexdigest()


def loss_in_words(lost_seconds: float, decoded_seconds: float) -> str | None:
    """Return a text such as "2.1 s of 3:20 could not be decoded"; None if nothing was lost."""
    if not lost_seconds:
        return None
    minutes, seconds = divmod(round(lost_seconds + decoded_seconds), 60)
    return f"{lost_seconds:.1f} s of {minutes}:{seconds:02} could not be decoded"


def is_silent(waveform: np.ndarray, sampling_rate: int) -> bool:
    """Whether every second of a waveform is silent; a constant or dither counts as silence.

    Args:
        waveform: float, shape (samples,).
        sampling_rate: hertz.
    """
    starts = range(0, len(waveform), sampling_rate)
    return all(np.std(waveform[start : start + sampling_rate]) < SILENCE_RMS for start in starts)


class _UseFFmpegError(Exception):
    """soundfile cannot read this file, or not all of it."""


class _SoundFileReader:
    """Reads a file in blocks with libsndfile, which stops at the first damage.

    rate: hertz. length: seconds. missing: seconds that a truncated file has lost at its end.
    """

    is_tolerant = False
    lost_seconds = 0.0

    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(8)
        file.seek(0)
        # libsndfile takes many other files for MP3s, and complains on the terminal.
        if not head.startswith(MAGIC_OF_SOUNDFILE):
            raise _UseFFmpegError
        # Reading from a file descriptor needs no Python code, so threads can decode in parallel.
        readable = file if isinstance(file, io.BytesIO) else file.fileno()
        self._sound = soundfile.SoundFile(readable, closefd=False)
        self.rate = self._sound.samplerate
        # A stream of unknown length claims to have 0 frames or the largest possible number.
        if self._sound.channels > 2 or not 0 < self._sound.frames < 2**62:
            raise _UseFFmpegError
        _check_format(self.rate, self._sound.channels)
        self.length = self._sound.frames / self.rate
        # libsndfile takes the end of a truncated WAV for the end of its samples. Recordings and
        # pipes do not fill in the length.
        claimed = int.from_bytes(head[4:8], "little") + 8
        is_cut = head.startswith(b"RIFF") and size < claimed < 0x7FFF0000
        self.missing = self.length * (claimed / size - 1) if is_cut else 0.0

    def blocks(self, start: float) -> Iterator[np.ndarray]:
        self._sound.seek(min(int(start * self.rate), self._sound.frames))
        is_pcm16 = self._sound.subtype == "PCM_16"  # libsndfile's own conversion is slower
        dtype = "int16" if is_pcm16 else "float32"
        while len(block := self._sound.read(BLOCK, dtype=dtype, always_2d=True)):
            yield block * np.float32(1 / 32768) if is_pcm16 else block

    def close(self) -> None:
        self._sound.close()


class _PyAVReader:
    """Reads a file in blocks with FFmpeg, which continues after damage.

    rate: hertz. length: seconds, or None. lost_seconds: length of the damaged packets so far.
    """

    is_tolerant = True
    missing = 0.0

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        try:
            self._container = av.open(file, options=FFMPEG_OPTIONS, metadata_errors="ignore")
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(DAMAGED) from error
        if not self._container.streams.audio:
            raise AudioError("it holds no audio")
        self._stream = self._container.streams.audio[0]
        if self._stream.codec_context is None:
            raise AudioError("it is compressed in a way not known here, or is damaged")
        self._stream.thread_type = "NONE"  # callers already decode several files in parallel
        self.rate, self.lost_seconds, self._kind = self._stream.rate, 0.0, None
        _check_format(self.rate, self._stream.channels)
        self._layout = "mono" if self._stream.channels == 1 else "stereo"
        self.length = None
        if CONTAINERS_WITH_LENGTH & set(self._container.format.name.split(",")):
            if self._stream.duration:
                self.length = float(self._stream.duration * self._stream.time_base)
            elif self._container.duration and len(self._container.streams) == 1:
                self.length = self._container.duration / 1e6  # FFmpeg's unit is the microsecond

    def packets(self) -> Iterator[av.Packet]:
        """Yield all packets from here on, skipping places where the container is damaged."""
        n_bad = 0
        while n_bad < MAX_BAD_READS:
            try:
                for packet in self._container.demux(self._stream):
                    n_bad = 0
                    yield packet
                return
            except av.error.PatchWelcomeError as error:  # such as an Ogg whose rate changes
                raise AudioError("a part of it is of a form that is not known here") from error
            except av.FFmpegError:
                n_bad += 1

    def blocks(self, start: float) -> Iterator[np.ndarray]:
        frames, length = [], 0  # a frame is only about 20 ms, so several are joined for callers
        for frame in self._frames(start):
            frames.append(frame)
            length += len(frame)
            if length >= BLOCK:
                yield np.concatenate(frames)
                frames, length = [], 0
        if frames:
            yield np.concatenate(frames)

    def _frames(self, start: float) -> Iterator[np.ndarray]:
        """Yield samples from `start` on: float32, shape (frames, channels)."""
        at = self._seek(start)
        for packet in self.packets():
            try:
                decoded = packet.decode()
            except (av.FFmpegError, ValueError):
                # Packets before the first decoded frame may be from before `start`.
                self.lost_seconds += _seconds_of(packet) if at is not None else 0.0
                continue
            for frame in decoded:
                if at is None:  # the first frame after a seek
                    began = float((self._stream.start_time or 0) * self._stream.time_base)
                    at = start if frame.time is None else frame.time - began
                for samples in self._to_float(frame):
                    n_before = max(0, round((start - at) * self.rate))
                    at += len(samples) / self.rate
                    if n_before < len(samples):
                        yield samples[n_before:]

    def _to_float(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:  # in joined files, or where damage looks like another format
            self._kind = kind
            self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self.rate)
        frame.pts = None  # the resampler would compare it with earlier frames
        try:
            _check_format(frame.sample_rate, frame.layout.nb_channels)
            converted = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError):
            self.lost_seconds += frame.samples / (frame.sample_rate or self.rate)
            return
        for one in converted:
            yield one.to_ndarray().T

    def _seek(self, start: float) -> float | None:
        """Seek to just before `start`; return the time, or None if only the next frame has it."""
        if start <= PREROLL:
            return 0.0
        began = (self._stream.start_time or 0) * self._stream.time_base
        try:
            self._container.seek(int((start - PREROLL + began) * 1e6))
        except av.FFmpegError:  # not seekable: all before `start` is decoded and thrown away
            return 0.0
        return None

    def close(self) -> None:
        self._container.close()


def _decode(
    reader_type: type[_SoundFileReader] | type[_PyAVReader],
    file: BinaryIO,
    sampling_rate: int,
    start: float,
    seconds: float | None,
) -> Decoded:
    with closing(reader_type(file)) as reader:
        waveform, decoded = _mono(reader, sampling_rate, start, seconds)
    expected = decoded + reader.lost_seconds
    if reader.length is not None:
        expected = max(decoded, reader.length - start)
    wanted = math.inf if seconds is None else seconds
    if not reader.is_tolerant and min(expected, wanted) - decoded >= CODEC_PADDING:
        raise _UseFFmpegError
    expected = min(expected + reader.missing, wanted)
    lost = expected - decoded if expected - decoded >= CODEC_PADDING else 0.0
    if not decoded:
        raise AudioError("it holds no audio samples")
    if lost and (decoded < MIN_SECONDS or decoded < expected / 2 - CODEC_PADDING):
        raise AudioError(f"only {decoded:.1f} s of its {expected:.1f} s can be decoded")
    return Decoded(waveform, lost)


def _mono(
    reader: _SoundFileReader | _PyAVReader,
    sampling_rate: int,
    start: float,
    seconds: float | None,
) -> tuple[np.ndarray, float]:
    """Return the waveform at `sampling_rate` and its length in seconds."""
    resampler = None
    if reader.rate != sampling_rate:
        resampler = soxr.ResampleStream(reader.rate, sampling_rate, 1, quality="MQ")  # 16 bits
    left = math.ceil((MAX_SECONDS + 1 if seconds is None else seconds) * reader.rate)
    n_frames, waveform = 0, bytearray()
    for block in reader.blocks(start):
        block = block[:left]
        one = _mix(block)
        waveform += (resampler.resample_chunk(one) if resampler else one).data
        n_frames += len(block)
        left -= len(block)
        if not left:
            break
    if resampler:
        waveform += resampler.resample_chunk(np.zeros(0, np.float32), last=True).data
    if n_frames > MAX_SECONDS * reader.rate:
        raise AudioError(f"it is longer than {MAX_SECONDS / 3600:g} hours: cut it")
    return np.frombuffer(waveform, np.float32), n_frames / reader.rate


def _mix(block: np.ndarray) -> np.ndarray:
    """Average one or two channels; return the first if the mean has little of their power."""
    peak = max(block.max(initial=0), -block.min(initial=0))
    if not peak <= MAX_PEAK:  # also true for NaN
        raise AudioError("it has samples that are not numbers (NaN, infinite or absurdly large)")
    if block.shape[1] == 1:
        return block[:, 0]
    first, second = block.T
    mean = (first + second) * np.float32(0.5)  # several times as fast as block.mean()
    if mean @ mean < MIN_KEPT_POWER * (first @ first + second @ second) / 2:
        return np.ascontiguousarray(first)
    return mean


def _check_format(rate: int, channels: int) -> None:
    if not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE:
        raise AudioError(f"its sampling rate of {rate} Hz is not usable")
    if not 0 < channels <= MAX_CHANNELS:
        raise AudioError(f"its {channels} channels are not usable")


def _seconds_of(packet: av.Packet) -> float:
    return float((packet.duration or 0) * (packet.time_base or 0))


def _open(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        file: BinaryIO = _Bytes(source)
    elif "\0" in os.fsdecode(source) or (os.path.exists(source) and not os.path.isfile(source)):
        raise AudioError("it is not a file")  # reading a pipe may block, and a device has no end
    else:
        # Unbuffered: libsndfile reads from the descriptor, whose position must be the file's.
        file = _File(os.fspath(source))
    if not file.read(1):
        file.close()
        raise AudioError("the file is empty")
    file.seek(0)
    return file


# In some damaged files, decoders seek to before the start or far past the end, where Python would
# print a traceback.


class _Bytes(io.BytesIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


class _File(io.FileIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            offset = min(max(0, offset), os.fstat(self.fileno()).st_size)
        return super().seek(offset, whence)
