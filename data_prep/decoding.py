"""Decode every track of the sources once, in decoder processes, into WAV files in a folder.

A file that makes its decoder crash, hang or need too much memory is left out with that reason, as
every file that cannot be used.
"""

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

import joblib
from tqdm import tqdm

from data_prep.archive import Member, MemberError
from data_prep.decoder_calls import run_in_pool
from data_prep.excerpts import Cutting, DecodedTrack, decode_member
from data_prep.sources.music_source import MusicSource
from data_prep.track import Track
from music_genre.audio import AudioError
from music_genre.errors import InputError
from music_genre.isolation import DecoderPool, decoder_pool

OF_THE_FILE = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP}


class BadClipError(InputError):
    """With `--on_bad_clip fail`: a clip that would have been dropped."""


def decode_sources(
    sources: list[MusicSource], folder: Path, on_bad_clip: str, cutting: Cutting
) -> list[Track]:
    """Decode the tracks of all sources that are not left out yet; their clips are in `folder`.

    Returns:
        All tracks. Those that cannot be used say why.

    Raises:
        ArchiveError: a source cannot be read.
        BadClipError: a track cannot be used and `on_bad_clip` is "fail".
    """
    tracks = []
    with decoder_pool(joblib.cpu_count()) as pool:
        for i, source in enumerate(sources):
            of_source = list({id(track): track for track in source.tracks.values()}.values())
            for track in of_source:
                _check(track, on_bad_clip)
            for track in _decode_source(pool, source, folder / str(i), cutting):
                _check(track, on_bad_clip)
            tracks += of_source
    return tracks


def _check(track: Track, on_bad_clip: str) -> None:
    if track.is_bad and on_bad_clip == "fail":
        raise BadClipError(
            f"{track.member} in {track.archive} cannot be used: {track.status}. "
            "Omit `--on_bad_clip fail` to continue without it."
        )


def _decode_source(
    pool: DecoderPool, source: MusicSource, folder: Path, cutting: Cutting
) -> Iterator[Track]:
    """Yield tracks as they are decoded, one that has several members as often."""
    folder.mkdir()
    n_wanted = sum(track.is_kept for track in source.tracks.values())
    with source.open_members() as members:
        calls = _calls(source, members, folder, cutting)
        outcomes = run_in_pool(pool, decode_member, calls)
        for (track, start), outcome in tqdm(
            outcomes, desc=f"Decoding {source.name}", unit=" files", total=n_wanted
        ):
            _use(track, start, outcome)
            yield track


def _calls(
    source: MusicSource, members: Iterable[Member], folder: Path, cutting: Cutting
) -> Iterator[tuple[tuple[Track, float], tuple]]:
    wanted = {name: track for name, track in source.tracks.items() if track.is_kept}
    for i, member in enumerate(members):
        track = wanted.pop(member.name, None)  # an archive may hold two members of one name
        if track and track.is_kept:
            with_tags = source.has_tags and not (track.artist and track.title)
            arguments = member, folder / f"{i:06d}", cutting, with_tags
            yield (track, source.starts.get(member.name, 0.0)), arguments
    for track in wanted.values():
        if track.is_kept:
            track.leave_out_bad("it went away while this was read", is_temporary=True)


def _use(track: Track, start: float, outcome: DecodedTrack | Exception) -> None:
    """Add the clips of a file that begins at `start`, in seconds, or say why there are none."""
    match outcome:
        case DecodedTrack():
            track.add(outcome.clips, start, outcome.seconds, outcome.lost_seconds, outcome.sha256)
            track.artist = track.artist or outcome.tags.artist
            track.title = track.title or outcome.tags.title
        case MemberError() | AudioError():
            track.leave_out_bad(str(outcome), getattr(outcome, "is_temporary", False))
        case OSError():  # it went away, or its disk did
            is_temporary = outcome.errno not in OF_THE_FILE
            track.leave_out_bad(f"cannot be read ({outcome.strerror})", is_temporary)
        case _:
            raise outcome
