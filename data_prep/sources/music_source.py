"""What every kind of source provides, and how the names inside a source are listed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.archive import ARCHIVE_SUFFIXES, MARKER, Member, members_of
from data_prep.names import path_id, shown
from data_prep.track import Track
from music_genre import audio

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"})
TABLE_FILE_SUFFIXES = TABLE_SUFFIXES | {".json", ".txt"}  # not tables inside a folder
MAX_TABLES_BYTES = 256 * 2**20  # of all tables in a tar, which are kept in memory
SPLIT_NAMES = {  # by the names that sources use for them
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip


@dataclass
class Listing:
    """The names in an archive or folder."""

    audio: list[str] = field(default_factory=list)
    tables: dict[str, Member] = field(default_factory=dict)
    archives: list[str] = field(default_factory=list)  # inside it
    has_marker: bool = False


@dataclass
class MusicSource:
    """An archive, folder, table or dataset, and the track of each audio file in it."""

    path: Path | str  # its path, or the id of a dataset on the Hub
    kind: str  # gtzan, folders, table, tags or dataset
    what: str  # a description for messages: "a folder per genre"
    tracks: dict[str, Track]  # by member name; several members may be clips of one track
    read_members: Callable[[], Iterator[Member]] | None = None  # if it is not an archive
    has_marker: bool = False  # whether its music is synthesised
    genres: list[str] = field(default_factory=list)  # in the order of its labels, if it has any
    known: dict = field(default_factory=dict)  # from the card of a dataset made by data_prep
    warnings: list[str] = field(default_factory=list)  # about its own splits, in sentences

    def members(self) -> Iterator[Member]:
        return self.read_members() if self.read_members else members_of(self.path)

    def each_track(self) -> list[Track]:
        """The tracks, each of them once."""
        return list({id(track): track for track in self.tracks.values()}.values())

    def describe(self) -> str:
        genres = {track.genre for track in self.tracks.values() if track.is_kept and track.genre}
        return f"{self.path}: {self.what}: {len(genres)} genres, {len(self.tracks):,} files."


def new_track(path: Path | str, name: str, **values: str) -> Track:
    """A track of the source `path`, with the id and the names that follow from `name`."""
    return Track(path_id(name), archive=shown(Path(path).name), member=shown(name), **values)


def list_names(path: Path) -> Listing:
    """The audio files and tables in an archive or folder. Raises what `members_of` does."""
    listing = Listing()
    n_bytes = 0
    for member in members_of(path, audio.SUFFIXES | TABLE_SUFFIXES | ARCHIVE_SUFFIXES):
        if member.basename == MARKER:
            listing.has_marker = True
        elif member.is_clip:
            listing.audio.append(member.name)
        elif member.suffix in ARCHIVE_SUFFIXES:
            listing.archives.append(member.name)
        else:
            n_bytes += len(member.data or b"")
            if n_bytes <= MAX_TABLES_BYTES:
                listing.tables[member.name] = member
    return listing
