"""The options of a preparation: the split, which genres to keep, how songs are cut."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from music_genre.errors import InputError

SAMPLING_RATE = 16_000  # hertz; the rate of HuBERT, Whisper and AST, and the default
GENRE_FROM = ("folders", "table", "tags", "gtzan")
COLUMNS = ("path", "genre", "artist", "title", "album", "split")  # columns of a table
LIMITS = {  # the smallest and the largest value
    "seed": (0, 2**32 - 1), "sampling_rate": (4_000, 96_000), "min_tracks": (1, 10_000),
    "clips_per_track": (1, 10_000), "clip_seconds": (1, 10_000),
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The options of `python -m data_prep`, under the same names."""

    split: str | None = None  # None: the strictest split that the source allows
    seed: int = 0  # for splits that are drawn at random
    sampling_rate: int = SAMPLING_RATE  # hertz, of the dataset
    on_bad_clip: str = "drop"  # list the file with the reason in manifest.csv; "fail" raises
    genre_from: str | None = None  # one of GENRE_FROM; None: recognise it
    columns: dict[str, str] | None = None  # name in COLUMNS -> column of the source
    genres: str | None = None  # names separated by commas, or how many of the most frequent to keep
    synonyms: str | None = None  # path of a file like data_prep/synonyms.txt
    min_tracks: int | None = None  # per genre; None: 10, or 1 for a dataset
    clips_per_track: int = 3
    clip_seconds: float = 30.0
    name: str | None = None
    license: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        for name, (smallest, largest) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not smallest <= value <= largest:
                raise InputError(f"--{name} must be {smallest} to {largest}, not {value}.")
        for name, column in (self.columns or {}).items():
            if name not in COLUMNS or not column:
                raise InputError(
                    "--columns takes NAME=COLUMN, such as genre=style, with a NAME of "
                    f"{', '.join(COLUMNS)}; not {name}={column}."
                )

    def given(self) -> dict:
        """The options that differ from their defaults."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}

    def check_unused(self, names: Iterable[str], where: str) -> None:
        """Raises InputError: one of these options was given."""
        for name in names:
            if name in self.given():
                raise InputError(f"--{name} has no use with {where}: leave it out.")
