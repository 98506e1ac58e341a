"""A folder per genre: the first folder is the genre, whatever lies below it.

Techno/track.mp3                     genre
Techno/Some album/track.mp3          genre, album
Techno/Artist/Album/track.mp3        genre, artist, album
train/Techno/track.mp3               split, genre; where all first folders are splits
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data_prep.archive import parts_of
from data_prep.names import one_line
from data_prep.sources.music_source import SPLIT_NAMES, Listing, MusicSource, new_track
from data_prep.track import Track
from music_genre.errors import InputError

FMA_PATH = re.compile(r"(\d{3})/\1\d{3}\.\w+")  # 000/000002.mp3


def from_archive(path: Path, listing: Listing) -> MusicSource:
    """Raises InputError: no audio file lies in a folder of a genre."""
    parts = {name: parts_of(name) for name in listing.audio}
    # A zip of a folder begins with that folder's name. In a folder on the disk one folder more is
    # not skipped: with one genre, its artists would become the genres.
    depth = n_wrappers(list(parts.values()))
    if depth and path.is_dir():
        inner = path.joinpath(*next(iter(parts.values()))[:depth])
        raise InputError(
            f"{path} holds one folder, which would be one genre: if the genres are in it, give "
            f"{inner}."
        )
    if all(FMA_PATH.fullmatch("/".join(p[depth:])) for p in parts.values()):
        raise InputError(
            f"The folders of {path} are numbers of the Free Music Archive (FMA), no genres: give "
            "the table tracks.csv of fma_metadata.zip, beside this folder."
        )
    is_split = bool(split_folders([p[depth:] for p in parts.values()]))
    tracks = {name: _track(path, name, p[depth:], is_split) for name, p in parts.items()}
    if not any(track.genre for track in tracks.values()):
        raise InputError(
            f"{path} has {len(tracks):,} audio files and no folders: put each genre's files into "
            "one, give a table of paths and genres, or use python -m data_prep --genre_from tags."
        )
    what = "a folder per genre"
    return MusicSource(path, "folders", what, tracks, has_marker=listing.has_marker)


def n_wrappers(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders at the top hold all files and the folders of genres."""
    n = 0
    while len({p[n] for p in paths}) == 1 and all(len(p) > n + 2 for p in paths):
        n += 1
    return n


def split_folders(paths: Sequence[tuple[str, ...]]) -> set[str]:
    """The first folders, if all are splits, and one of them is train; else none."""
    names = {path[0] for path in paths if len(path) > 1}
    splits = {SPLIT_NAMES.get(name.lower()) for name in names}
    return names if None not in splits and "train" in splits else set()


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
