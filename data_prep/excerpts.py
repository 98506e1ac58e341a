"""Cut a track into clips: all of a short one, or excerpts spread over a song, without silence.

`decode_member` runs in a decoder process and writes the clips as WAVs. Only the excerpts of
a song are decoded, each from where it begins, so memory and time do not grow with song length.
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
MAX_SECONDS = 60.0  # a file up to this length is one clip; a longer file is a song
QUIET = 1e-3  # RMS of one second of audio, full scale is 1; a fade ends below this
# Places for an excerpt in its part of the song, from 0 to 1; the first one with sound is used.
PLACES = (0.5, 0.25, 0.75, 0.0, 1.0)


class DecodedTrack(NamedTuple):
    clips: list[Clip]
    seconds: float
    lost_seconds: float
    sha256: str  # of the int16 samples of all clips
    tags: Tags


class WritingError(InputError):
    """A clip cannot be written, so the others cannot be written either."""


def decode_member(
    member: Member, stem: Path, options: Options, are_songs: bool, with_tags: bool
) -> DecodedTrack:
    """Decode a file, and write its clips beside `stem`.

    Raises MemberError or OSError: the file cannot be read. AudioError: it cannot be decoded, is too
    short, too long or silent. WritingError: there is no room for a clip.
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
    """Return the start in seconds and the audio of each clip of a track of any length.

    If an excerpt is mostly silent, cannot be decoded or is missing, other places in its part of the
    song are tried. `are_songs`: a file longer than MAX_SECONDS is a song, not a mistake. Raises
    AudioError: there is no clip.
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
    """Whether half of the waveform or more is silence."""
    seconds = np.split(waveform, range(sampling_rate, len(waveform), sampling_rate))
    return np.mean([np.sqrt(np.mean(second**2)) < QUIET for second in seconds]) >= 0.5
