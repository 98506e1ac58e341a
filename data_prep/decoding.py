"""Decode every track of the sources once, in decoder processes, into WAV files in a folder.

A file that makes its decoder crash, hang or need too much memory is left out with that reason, like
every other file that cannot be used.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import joblib
from tqdm import tqdm

from data_prep.archive import Member, MemberError
from data_prep.excerpts import DecodedTrack, decode_member
from data_prep.names import known_artist
from data_prep.options import Options
from data_prep.sources.music_source import MusicSource
from data_prep.track import Track
from music_genre.audio import AudioError
from music_genre.errors import InputError
from music_genre.isolation import DecoderPool, run_in_pool

MAX_SECONDS = 60.0  # time limit for one file


def decode_sources(sources: list[MusicSource], folder: Path, options: Options) -> list[Track]:
    """Decode the tracks that are not left out yet, and write their clips to `folder`.

    Returns all tracks; the status of a bad track says why it cannot be used. Raises InputError: a
    source cannot be read, or a track cannot be used and `options.on_bad_clip` is "fail".
    """
    tracks = []
    with DecoderPool(joblib.cpu_count()) as pool:
        for i, source in enumerate(sources):
            clips = folder / str(i)
            clips.mkdir()
            source_tracks = source.each_track()
            for track in chain(source_tracks, _decode_source(pool, source, clips, options)):
                if track.is_bad and options.on_bad_clip == "fail":
                    raise InputError(
                        f"{track.member} in {track.archive} cannot be used: {track.status}. "
                        "Omit `--on_bad_clip fail` to continue without it."
                    )
            tracks += source_tracks
    return tracks


def _decode_source(
    pool: DecoderPool, source: MusicSource, folder: Path, options: Options
) -> Iterator[Track]:
    """Yield tracks as they are decoded; a track with several members is yielded for each one."""
    wanted = {name: track for name, track in source.tracks.items() if track.is_kept}
    n_wanted = len(wanted)
    are_songs = source.kind != "gtzan"
    may_have_tags = source.kind in ("folders", "table")

    def calls(members: Iterable[Member]) -> Iterator[tuple[tuple[Track, float], tuple]]:
        for i, member in enumerate(members):
            track = wanted.pop(member.name, None)  # an archive may hold a name twice
            if track and track.is_kept:
                with_tags = may_have_tags and not (track.artist and track.title)
                arguments = member, folder / f"{i:06d}", options, are_songs, with_tags
                yield (track, member.start), arguments

    outcomes = run_in_pool(pool, decode_member, calls(source.members()), MAX_SECONDS)
    bar = tqdm(outcomes, desc=f"Decoding {Path(source.path).name}", unit=" files", total=n_wanted)
    for (track, start), outcome in bar:
        _use(track, start, outcome)
        yield track
    for track in wanted.values():
        if track.is_kept:
            track.leave_out_bad("it disappeared while the source was read")
            yield track


def _use(track: Track, start: float, outcome: DecodedTrack | Exception) -> None:
    """Add the clips of a file that begins `start` seconds into the track, or record why not."""
    match outcome:
        case DecodedTrack():
            track.add(outcome.clips, start, outcome.seconds, outcome.lost_seconds, outcome.sha256)
            track.artist = known_artist(track.artist) or outcome.tags.artist
            track.title = track.title or outcome.tags.title
        case MemberError() | AudioError():
            track.leave_out_bad(str(outcome))
        case OSError():
            track.leave_out_bad(f"cannot be read ({outcome.strerror})")
        case _:
            raise outcome
