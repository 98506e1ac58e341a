"""What a person may say about a source: where its genres are, which to keep, how songs are cut."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from music_genre.errors import InputError

GENRE_FROM = ("folders", "table", "tags", "gtzan")
COLUMNS = ("path", "genre", "artist", "title", "album", "split")  # of a table


@dataclass(frozen=True)
class SourceOptions:
    """None is the default, so that an option that was given can be refused where it has no use."""

    genre_from: str | None = None  # one of GENRE_FROM; None recognises it
    columns: dict[str, str] | None = None  # one of COLUMNS: what the table or dataset calls it
    genres: str | None = None  # names separated by commas, or how many of the most frequent
    synonyms: str | None = None  # path of a file as data_prep/synonyms.txt
    min_tracks: int | None = None
    clips_per_track: int | None = None
    clip_seconds: float | None = None
    name: str | None = None
    license: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        limits = {"min_tracks": 1, "clips_per_track": 1, "clip_seconds": 1.0}
        for name, smallest in limits.items():
            value = getattr(self, name)
            if value is not None and not smallest <= value <= 10_000:
                raise InputError(f"--{name} must be {smallest:g} to 10000, not {value:g}.")
        for name, column in (self.columns or {}).items():
            if name not in COLUMNS or not column:
                raise InputError(
                    "--columns takes NAME=COLUMN, such as genre=style, with a NAME of "
                    f"{', '.join(COLUMNS)}; not {name}={column}."
                )

    def given(self) -> dict:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check_unused(self, names: Iterable[str], where: str) -> None:
        """Raises InputError: one of these options was given."""
        for name in names:
            if name in self.given():
                raise InputError(f"--{name} has no use with {where}: leave it out.")
