"""A folder per genre, or GTZAN. The first folder is the genre, whatever lies below it:

Techno/track.mp3                     genre
Techno/Some album/track.mp3          genre, album
Techno/Artist/Album/track.mp3        genre, artist, album
train/Techno/track.mp3               split, genre; if all first folders are splits

In GTZAN, a file's name tells its track. GTZAN is recognised if names and folders agree, such as
blues/blues.00000.wav. If they do not, the folders are the genres.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data_prep.archive import parts_of
from data_prep.gtzan import as_track, genre_of, track_id_of
from data_prep.names import one_line, shown
from data_prep.sources.music_source import SPLIT_NAMES, Listing, MusicSource, new_track
from data_prep.track import Track
from music_genre.errors import InputError
from music_genre.genre_names import same_name_key

FMA_PATH = re.compile(r"(\d{3})/\1\d{3}\.\w+")  # 000/000002.mp3


def from_archive(path: Path, listing: Listing) -> MusicSource:
    """Raises InputError: no audio file lies in a folder of a genre, or one folder holds all."""
    parts = {name: parts_of(name) for name in listing.audio}
    # A zip of a folder begins with that folder's name, which is skipped. A single folder inside a
    # folder on disk is kept: it may be the only genre, whose artists would become the genres.
    depth = 0 if path.is_dir() else n_wrappers(list(parts.values()))
    if all(FMA_PATH.fullmatch("/".join(p[depth:])) for p in parts.values()):
        raise InputError(
            f"The folders of {path} are numbers of the Free Music Archive (FMA), not genres: give "
            "the table tracks.csv of fma_metadata.zip, beside this folder."
        )
    is_split = bool(split_folders([p[depth:] for p in parts.values()]))
    tracks = {name: _track(path, name, p[depth:], is_split) for name, p in parts.items()}
    genres = {track.genre for track in tracks.values()} - {""}
    if not genres:
        raise InputError(
            f"{path} has {len(tracks):,} audio files and no folders: put each genre's files into "
            "one, give a table of paths and genres, or use python -m data_prep --genre_from tags."
        )
    if len(genres) == 1:
        raise InputError(
            f"The music of {path} is in one folder, {shown(genres.pop())}, which would be the only "
            "genre: if the genres are the folders in it, give that folder alone."
        )
    what = "a folder per genre"
    return MusicSource(path, "folders", what, tracks, has_marker=listing.has_marker)


def n_wrappers(paths: Sequence[tuple[str, ...]]) -> int:
    """How many nested folders at the top hold all files and the folders of genres."""
    n = 0
    while len({p[n] for p in paths}) == 1 and all(len(p) > n + 2 for p in paths):
        n += 1
    return n


def split_folders(paths: Sequence[tuple[str, ...]]) -> set[str]:
    """The first folders if all of them are splits and one is train, otherwise none."""
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
    if below:  # with its genre: another genre may have an album of that name
        track.album = "/".join(folders[:3])
    return track


def gtzan_from_archive(path: Path, listing: Listing) -> MusicSource:
    tracks = {name: _gtzan_track(path, name) for name in listing.audio}
    what = "GTZAN, by the names of its files"
    return MusicSource(path, "gtzan", what, tracks, has_marker=listing.has_marker)


def is_gtzan(listing: Listing) -> bool:
    """Whether most names are GTZAN's, and no folder contradicts them."""
    paths = [parts_of(name) for name in listing.audio]
    in_folders = [path for path in paths if len(path) > 1]
    known = [track_id for name in listing.audio if (track_id := track_id_of(name))]
    if 2 * len(known) <= len(paths):
        return False
    if not in_folders:  # one genre alone is not GTZAN, whatever the files are called
        return len(set(map(genre_of, known))) > 1
    if len({path[:-1] for path in in_folders}) == 1:  # one folder holds all files
        return True
    if split_folders([path[n_wrappers(paths) :] for path in paths]):
        return False
    # A file lies in the folder of its genre.
    return all(
        (track_id := track_id_of(name)) and same_name_key(folder) == genre_of(track_id)
        for *_, folder, name in in_folders
    )


def _gtzan_track(path: Path, name: str) -> Track:
    track_id = track_id_of(name)
    track = as_track(track_id) if track_id else Track("")
    track.archive, track.member = shown(path.name), shown(name)
    if not track_id:
        track.leave_out_bad("its name is not that of a GTZAN track, such as blues.00000.wav")
    return track
