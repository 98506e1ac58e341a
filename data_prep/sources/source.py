"""What every kind of source gives the pipeline, and how names inside a source are listed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_prep.archive import MARKER, ArchiveError, Member, open_archive
from data_prep.names import path_id, shown
from data_prep.track import Track
from music_genre import old_audio as audio

TABLE_SUFFIXES = frozenset({".csv", ".jsonl", ".parquet"})
SPLIT_NAMES = {  # how tables and folders call them
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip


@dataclass
class Listing:
    """The names in an archive or folder."""

    audio: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


@dataclass
class Source:
    """An archive, folder or table, and the track that each audio file in it is.

    Attributes:
        tracks: by the name of the member. GTZAN's are made from the names as they come.
        kind: one of `options.GENRE_FROM`.
        what: what it is, for people: "a folder per genre".
    """

    path: Path
    kind: str
    what: str
    tracks: dict[str, Track] = field(default_factory=dict)

    @property
    def is_gtzan(self) -> bool:
        return self.kind == "gtzan"

    def members(self) -> AbstractContextManager[Iterator[Member]]:
        return open_archive(self.path)

    def track(self, member: Member) -> Track:
        """The track of a member that is audio."""
        track = self.tracks.get(member.name)
        return track or new_track(self.path, member.name, status="it came while this was read")

    def describe(self) -> str:
        genres = {track.genre for track in self.tracks.values() if track.is_kept and track.genre}
        noun = "genre" if len(genres) == 1 else "genres"
        return f"{self.path}: {self.what}: {len(genres)} {noun}, {len(self.tracks):,} files."


def new_track(path: Path, name: str, **values: str) -> Track:
    """A track of the source `path`, with the id and the names that follow from its own name."""
    return Track(path_id(name), archive=path.name, member=shown(name), **values)


def list_names(path: Path, enough: int | None = None) -> Listing:
    """The audio files and tables in an archive or folder, hidden ones left out.

    Args:
        enough: stop after so many audio files.

    Raises:
        ArchiveError: as `open_archive`.
    """
    listing = Listing()
    with open_archive(path, audio.SUFFIXES | TABLE_SUFFIXES) as members:
        for member in members:
            if is_hidden(member.name) or member.basename == MARKER:
                continue
            (listing.audio if member.is_clip else listing.tables).append(member.name)
            if len(listing.audio) == enough:
                break
    return listing


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in parts_of(name))


def parts_of(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def check_has_audio(listing: Listing, path: Path) -> None:
    if not listing.audio:
        raise ArchiveError(
            f"{path} holds no audio file: give a folder with a folder per genre, a table of paths "
            "and genres, or a GTZAN archive."
        )
