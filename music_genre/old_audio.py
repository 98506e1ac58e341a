"""All audio decoding of the project: bytes or files in, mono float32 waveforms out.

Used by `python -m data_prep`, by `music_genre` and by the app, so that a clip sounds the same to
all three. audio_files.py opens the files; here they are decoded, resampled, and kept as WAV.
"""

import io
import math
import os
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from functools import lru_cache

import numpy as np
import soundfile
import torch

from music_genre.audio_files import AudioError, AudioFile, open_audio
from music_genre.kernels.resampling import BandedResample

Source = bytes | str | os.PathLike
Opener = Callable[[Source], AbstractContextManager[AudioFile]]

SAMPLING_RATE = 16_000  # hertz; of HuBERT, wav2vec2, WavLM, AST and Whisper
# What the names of audio files end in, where files are looked for; content decides in the end.
KINDS = (
    "aac ac3 aif aifc aiff amr au caf flac m4a m4b mka mp3 mp4 oga ogg opus snd w64 wav webm wma"
)
SUFFIXES = frozenset(f".{kind}" for kind in KINDS.split())
KEEP_SECONDS = 600.0  # at most, of a file decoded in blocks: 38 MB at 16,000 hertz
MAX_RATIO = 441  # in resampling: the smaller term; 11,025 to 16,000 hertz is 441 to 640
SILENCE_PEAK = 1e-4  # full scale is 1; 16-bit dither stays below this


def decode(
    source: Source,
    max_seconds: float,
    to: int | None = None,
    start: float = 0.0,
    open_file: Opener = open_audio,
) -> tuple[np.ndarray, int]:
    """Decode one audio file, all channels mixed to one.

    Args:
        source: the file's bytes, or a local path; never fetched, a URL is a path with no file.
        max_seconds: decoding stops here, so that no header can ask for more time or memory.
        to: resample to this rate in hertz, while decoding: the memory is that of the result.
        start: where to begin, in seconds, as in `AudioFile.blocks`.
        open_file: `Decoders.open_audio` decodes in another process, whose end this one survives.

    Returns:
        The waveform, shape (samples,), float32, finite, nominally in [-1, 1]; and its sampling rate
        in hertz.

    Raises:
        AudioError: not audio, no samples, NaN or infinite samples, or absurd rates or channels.
        FileNotFoundError: `source` is a path where there is no file.
    """
    with open_file(source) as file:
        to = to or file.sampling_rate
        blocks = file.blocks(start, max_seconds)
        blocks = list(resample_blocks(blocks, file.sampling_rate, to))
        if not blocks:
            raise AudioError("it holds no audio samples")
        return np.concatenate(blocks), to


def decode_in_blocks(
    source: Source,
    max_seconds: float,
    to: int,
    start: float = 0.0,
    seconds: float = math.inf,
    open_file: Opener = open_audio,
) -> tuple[Iterable[np.ndarray], int]:
    """Decode one audio file of any length in bounded memory, resampled to `to` hertz.

    A file of more than KEEP_SECONDS is decoded twice, which is cheap beside a model: once to count
    its samples, and again while the blocks are consumed. `start` and `seconds` select a part, as in
    `AudioFile.blocks`, and `open_file` is that of `decode`.

    Returns:
        What `decode` returns, in blocks, to be consumed once; and its length in samples.

    Raises:
        AudioError: as `decode`, or it is longer than `max_seconds`.
        FileNotFoundError: `source` is a path where there is no file.
    """
    kept: list[np.ndarray] = []
    n_samples = 0
    for block in _resampled_blocks(open_file(source), to, start, seconds):
        n_samples += len(block)
        if n_samples > max_seconds * to:
            raise AudioError(f"it is longer than {max_seconds / 3600:g} hours")
        if n_samples <= KEEP_SECONDS * to:
            kept.append(block)
        else:
            kept.clear()
    if not n_samples:
        raise AudioError("it holds no audio samples")
    return kept or _resampled_blocks(open_file(source), to, start, seconds), n_samples


def _resampled_blocks(
    opened: AbstractContextManager[AudioFile], to: int, start: float, seconds: float
) -> Iterator[np.ndarray]:
    with opened as file:
        yield from resample_blocks(file.blocks(start, seconds), file.sampling_rate, to)


def resample(waveform: np.ndarray, sampling_rate: int, to: int = SAMPLING_RATE) -> np.ndarray:
    """Resample a float32 waveform, shape (samples,), between rates in hertz, as torchaudio does."""
    step, step_out = _ratio(sampling_rate, to)
    if step == step_out:
        return waveform
    return _resampler(step, step_out)(torch.from_numpy(waveform)).numpy()


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
def _resampler(sampling_rate: int, to: int) -> BandedResample:
    """Kept with its filters: computing these anew takes as long as a clip."""
    return BandedResample(sampling_rate, to)


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
    """Samples `start` to `start + frames` of a WAV that `data_prep` wrote; float32, (frames,).

    Only the asked part is copied: a random crop costs the same whatever the clip's length.
    """
    return soundfile.read(io.BytesIO(data), frames=frames, start=start, dtype="float32")[0]


def n_samples(data: bytes) -> int:
    """Length in samples of a WAV that `data_prep` wrote."""
    return soundfile.info(io.BytesIO(data)).frames
