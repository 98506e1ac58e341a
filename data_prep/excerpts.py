"""Cut a track to clips: whole if it is short, else excerpts spread over it, silence skipped.

`decode_member` runs in a decoder process and writes the clips as WAVs. Of a song only the excerpts
are decoded, from where they begin, so that memory and time do not grow with its length.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.archive import Member
from data_prep.options import Options
from data_prep.tags import Tags, read_tags
from data_prep.track import Clip
from music_genre.audio import AudioError, Decoded, decode, is_silent, measure
from music_genre.errors import InputError
from music_genre.wav import to_pcm16, wav_bytes

MIN_SECONDS = 1.0
MAX_SECONDS = 60.0  # of a clip that is taken whole; a longer file is a song
QUIET = 1e-3  # root mean square of a second, full scale is 1; a fade ends below this
# Where in its part of the song an excerpt may lie, from 0 to 1; the first one with sound is taken.
PLACES = (0.5, 0.25, 0.75, 0.0, 1.0)


class DecodedTrack(NamedTuple):
    clips: list[Clip]
    seconds: float
    lost_seconds: float
    sha256: str  # of the int16 samples of all clips
    tags: Tags


class WritingError(InputError):
    """A clip cannot be written, so none can."""


def decode_member(
    member: Member, stem: Path, options: Options, are_songs: bool, with_tags: bool
) -> DecodedTrack:
    """Decode a file, and write its clips beside `stem`.

    Raises MemberError or OSError: it cannot be read. AudioError: it cannot be decoded, is too short
    or too long, or silent. WritingError: there is no room for a clip.
    """
    source = member.path if member.path and member.path.is_file() else member.read()
    excerpts = cut(source, options, are_songs)
    rate = options.sampling_rate
    n_samples = sum(len(decoded.waveform) for _, decoded in excerpts)
    if n_samples < MIN_SECONDS * rate:
        raise AudioError(f"shorter than {MIN_SECONDS:g} s")
    if all(is_silent(decoded.waveform, rate) for _, decoded in excerpts):
        raise AudioError("silent")
    sha256, clips = hashlib.sha256(), []
    for i, (start, decoded) in enumerate(excerpts):
        pcm = to_pcm16(decoded.waveform)
        sha256.update(pcm)
        path = stem.with_name(f"{stem.name}-{i}.wav")
        try:
            path.write_bytes(wav_bytes(pcm, rate))
        except OSError as error:
            raise WritingError(f"{path} cannot be written: {error.strerror}.") from error
        clips.append(Clip(start, path))
    lost = sum(decoded.lost_seconds for _, decoded in excerpts)
    tags = read_tags(source) if with_tags else Tags()
    return DecodedTrack(clips, n_samples / rate, lost, sha256.hexdigest(), tags)


def cut(
    source: Path | bytes, options: Options, are_songs: bool = True
) -> list[tuple[float, Decoded]]:
    """Where the clips of a track of any length begin, in seconds, and what they hold.

    An excerpt that is mostly silent, cannot be decoded or is not there is looked for in other
    places of its part of the song. `are_songs`: a file of more than MAX_SECONDS is a song, not a
    mistake. Raises AudioError: there is none.
    """
    rate = options.sampling_rate
    duration = measure(source)
    if duration <= MAX_SECONDS:
        return [(0.0, decode(source, rate, seconds=MAX_SECONDS))]
    if not are_songs:
        raise AudioError(f"longer than {MAX_SECONDS:g} s: not a track of GTZAN")
    seconds = min(options.clip_seconds, duration)
    n = min(options.clips_per_track, int(duration / seconds))
    part = duration / n
    found, problem = [], AudioError("silent")
    for i in range(n):
        for place in PLACES:
            start = round(i * part + place * (part - seconds), 2)
            try:
                decoded = decode(source, rate, start, seconds)
            except AudioError as error:
                problem = error
                continue
            if len(decoded.waveform) < 0.9 * seconds * rate:
                problem = AudioError("shorter than its header says")
            elif not _is_quiet(decoded.waveform, rate):
                found.append((start, decoded))
                break
    if not found:
        raise problem
    return found


def _is_quiet(waveform: np.ndarray, sampling_rate: int) -> bool:
    """Whether half of it or more is silence."""
    seconds = np.split(waveform, range(sampling_rate, len(waveform), sampling_rate))
    return np.mean([np.sqrt(np.mean(second**2)) < QUIET for second in seconds]) >= 0.5
