"""A folder per genre: the first folder is the genre, whatever lies below it.

Techno/track.mp3                     genre
Techno/Some album/track.mp3          genre, album
Techno/Artist/Album/track.mp3        genre, artist, album
train/Techno/track.mp3               split, genre; where all first folders are splits
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data_prep.archive import ArchiveError
from data_prep.names import one_line
from data_prep.sources.source import SPLIT_NAMES, Listing, Source, new_track, parts_of
from data_prep.track import Track


def from_archive(path: Path, listing: Listing) -> Source:
    """
    Raises:
        ArchiveError: no audio file lies in a folder.
    """
    parts = {name: parts_of(name) for name in listing.audio}
    # A zip of a folder begins with that folder's name. In a folder on the disk one folder more is
    # not skipped: with one genre, its artists would become the genres.
    depth = 0 if path.is_dir() else _n_wrappers(list(parts.values()))
    is_split = _are_splits({p[depth] for p in parts.values() if len(p) > depth + 1})
    tracks = {name: _track(path, name, p[depth:], is_split) for name, p in parts.items()}
    if not any(track.genre for track in tracks.values()):
        raise ArchiveError(
            f"{path} has {len(tracks):,} audio files and no folders: put each genre's files into a "
            "folder of its name, give a table of paths and genres, or take the files' tags with "
            "python -m data_prep --genre_from tags."
        )
    return Source(path, "folders", "a folder per genre", tracks)


def _n_wrappers(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders at the top hold all files and the folders of genres."""
    n = 0
    while len({p[n] for p in paths}) == 1 and all(len(p) > n + 2 for p in paths):
        n += 1
    return n


def _are_splits(names: set[str]) -> bool:
    """One split alone is a name like any other, unless it is train: then all is for training."""
    splits = {SPLIT_NAMES.get(name.lower()) for name in names}
    return bool(splits) and None not in splits and "train" in splits


def _track(path: Path, name: str, parts: tuple[str, ...], is_split: bool) -> Track:
    track = new_track(path, name)
    *folders, _ = (unicodedata.normalize("NFC", one_line(part)) for part in parts)
    if is_split and folders:
        track.split = SPLIT_NAMES[folders.pop(0).lower()]
    if not folders:
        track.status = "not in a folder of a genre"
        return track
    track.genre, *below = folders
    if len(below) > 1:
        track.artist = below[0]
    if below:  # with its genre: there is an album of the same name elsewhere
        track.album = "/".join(folders[:3])
    return track
