"""GTZAN in any form: a file's name is its track, and the index knows artists and titles.

It is recognised where names and folders agree: blues/blues.00000.wav. Where a folder says something
else than the names in it, or its files have other names, the folders are the genres.
"""

from pathlib import Path

from data_prep.archive import parts_of
from data_prep.gtzan import as_tracks, genre_of, track_id_of
from data_prep.names import shown
from data_prep.sources.genre_folders import n_wrappers, split_folders
from data_prep.sources.music_source import Listing, MusicSource
from data_prep.track import Track
from music_genre.genre_names import same_name_key


def from_archive(path: Path, listing: Listing) -> MusicSource:
    tracks = {name: _track(path, name) for name in listing.audio}
    what = "GTZAN, by the names of its files"
    return MusicSource(path, "gtzan", what, tracks, has_marker=listing.has_marker)


def is_gtzan(listing: Listing) -> bool:
    """Whether most names are GTZAN's, and no folder contradicts them."""
    paths = [parts_of(name) for name in listing.audio]
    in_folders = [path for path in paths if len(path) > 1]
    known = [track_id for name in listing.audio if (track_id := track_id_of(name))]
    if 2 * len(known) <= len(paths):
        return False
    if not in_folders:  # somebody's folder of one genre is not GTZAN, whatever its files are called
        return len(set(map(genre_of, known))) > 1
    if len({path[:-1] for path in in_folders}) == 1:  # a folder that holds all
        return True
    if split_folders([path[n_wrappers(paths) :] for path in paths]):
        return False
    # A file lies in the folder of its genre.
    return all(
        (track_id := track_id_of(name)) and same_name_key(folder) == genre_of(track_id)
        for *_, folder, name in in_folders
    )


def _track(path: Path, name: str) -> Track:
    track_id = track_id_of(name)
    track = as_tracks({track_id: ""})[track_id] if track_id else Track("")
    track.archive, track.member = path.name, shown(name)
    if not track_id:
        track.leave_out_bad("its name is not that of a GTZAN clip, such as blues.00000.wav")
    return track
