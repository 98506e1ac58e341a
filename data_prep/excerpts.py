"""Cut a track to clips: whole if it is short, else excerpts spread over it, silence skipped.

Of a song only the excerpts are decoded, from where they begin, so that memory and time do not grow
with its length. A file that does not say how long it is, or is shorter than it says, is decoded
once more, to measure it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from music_genre import old_audio as audio
from music_genre.decoder_pool import DecoderError
from music_genre.errors import InputError
from music_genre.old_audio import Opener

MIN_SECONDS = 1.0
MAX_SECONDS = 60.0  # of a clip that is taken whole; a longer file is a song
LONGEST = 24 * 3600.0  # seconds of a file
QUIET = 1e-3  # root mean square of a second, full scale is 1; a fade ends below this
# Where in its part of the song an excerpt may lie, from 0 to 1; the first one with sound is taken.
PLACES = (0.5, 0.25, 0.75, 0.0, 1.0)

Source = Path | bytes
Excerpt = tuple[float, np.ndarray]  # start in seconds; float32 at 16 kHz, shape (samples,)


@dataclass(frozen=True)
class Cutting:
    """How songs are cut."""

    clips_per_track: int = 3
    clip_seconds: float = 30.0


def whole(source: Source, open_file: Opener) -> Excerpt:
    """A clip of at most MAX_SECONDS; `open_file` is that of `audio.decode`.

    Raises:
        AudioError: it cannot be decoded, or is longer.
    """
    waveform, _ = audio.decode(source, MAX_SECONDS + 1, audio.SAMPLING_RATE, open_file=open_file)
    if len(waveform) > MAX_SECONDS * audio.SAMPLING_RATE:
        raise audio.AudioError(f"longer than {MAX_SECONDS:g} s: not a clip of GTZAN")
    return 0.0, waveform


def cut(source: Source, cutting: Cutting, open_file: Opener = audio.open_audio) -> list[Excerpt]:
    """The clips of a track of any length; `open_file` is that of `audio.decode`.

    Raises:
        AudioError: it cannot be decoded, or is silent wherever an excerpt may lie.
    """
    with open_file(source) as file:
        duration = file.duration
    if duration is None or duration <= MAX_SECONDS:
        waveform, _ = audio.decode(
            source, MAX_SECONDS + 1, audio.SAMPLING_RATE, open_file=open_file
        )
        if len(waveform) <= MAX_SECONDS * audio.SAMPLING_RATE:
            return [(0.0, waveform)]
        duration = _measure(source, open_file)
    try:
        return _spread(source, duration, cutting, open_file)
    except _Short:  # than its header says
        duration = _measure(source, open_file)
        return _spread(source, duration, cutting, open_file, is_measured=True)


class _Short(InputError):
    """There is less audio than the header says."""


def _spread(
    source: Source,
    duration: float,
    cutting: Cutting,
    open_file: Opener,
    is_measured: bool = False,
) -> list[Excerpt]:
    seconds = min(cutting.clip_seconds, duration)
    n = max(1, min(cutting.clips_per_track, int(duration / seconds)))
    part = duration / n
    found = []
    for i in range(n):
        for place in PLACES:
            start = round(i * part + place * (part - seconds), 2)
            waveform = _excerpt(source, start, seconds, open_file)
            if not is_measured and len(waveform) < 0.9 * seconds * audio.SAMPLING_RATE:
                raise _Short
            if not _is_quiet(waveform):
                found.append((start, waveform))
                break
    if not found:
        raise audio.AudioError("silent")
    return found


def _excerpt(source: Source, start: float, seconds: float, open_file: Opener) -> np.ndarray:
    try:
        return audio.decode(source, seconds, audio.SAMPLING_RATE, start, open_file)[0]
    except DecoderError:
        raise
    except audio.AudioError:
        if not start:
            raise
        return np.zeros(0, np.float32)  # it ends before, or is damaged there


def _measure(source: Source, open_file: Opener) -> float:
    """Its length in seconds, by decoding it."""
    n_samples = 0
    with open_file(source) as file:
        try:
            for block in file.blocks():
                n_samples += len(block)
                if n_samples > LONGEST * file.sampling_rate:
                    raise audio.AudioError(f"longer than {LONGEST / 3600:g} hours")
        except DecoderError:
            raise
        except audio.AudioError:
            if n_samples < MAX_SECONDS * file.sampling_rate:
                raise
        return n_samples / file.sampling_rate


def _is_quiet(waveform: np.ndarray) -> bool:
    """Whether half of it or more is silence."""
    levels = [float(np.sqrt(np.mean(second**2))) for second in _seconds(waveform)]
    return 2 * sum(level < QUIET for level in levels) >= max(1, len(levels))


def _seconds(waveform: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(waveform), audio.SAMPLING_RATE):
        yield waveform[start : start + audio.SAMPLING_RATE]
