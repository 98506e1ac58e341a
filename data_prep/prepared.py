"""Find and load a folder that `python -m data_prep` made.

from data_prep.prepared import default_output_dir, is_prepared, load_prepared
folder = default_output_dir(["My music"])  # where `python -m data_prep "My music"` writes
if is_prepared(folder):
    dataset, preparation = load_prepared(folder)
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.options import SAMPLING_RATE
from music_genre.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

DATA_DIR = Path("data")
PREPARATION_FILE = "preparation.json"
SYNTHETIC = "synthetic"  # the name of a source: music that this program synthesises
ARCHIVE = re.compile(r"\.(zip|tgz|tar(\.\w+)?)$", re.IGNORECASE)
TABLE = re.compile(r"\.(csv|tsv|txt|jsonl?|parquet|xlsx)$", re.IGNORECASE)


@dataclass(frozen=True)
class Preparation:
    """What preparation.json says about a prepared dataset."""

    kind: str  # where the genres come from: gtzan, folders, table, tags or dataset
    dataset_name: str  # for reports and cards, such as GTZAN
    genres: list[str]  # names of the ClassLabel `genre`, in its order
    split: str  # filtered, artist, album, random or given
    split_description: str  # the same in words
    is_synthetic: bool
    leakage: dict[str, int] | None  # from `leakage.leakage`; None if there is nothing to check
    seed: int  # of a split that was drawn at random
    sampling_rate: int = SAMPLING_RATE  # hertz
    asked: dict = field(default_factory=dict)  # options that were given, such as split
    warnings: list[str] = field(default_factory=list)  # sentences for anyone who trains on it


def default_output_dir(
    sources: Sequence[str | Path], split: str | None = None, sampling_rate: int = SAMPLING_RATE
) -> Path:
    """The default output folder for these sources, such as data/my-music-prepared.

    It is named after the first source, but never equal to it: the source may be in data/ too.
    """
    path = Path(sources[0]).expanduser()
    name = plain_name(path) if path.exists() else str(sources[0])
    slug = re.sub(r"[\s/\\]+", "-", name.lower()).strip("-.") or "music"
    rate = "" if sampling_rate == SAMPLING_RATE else f"-{sampling_rate}"
    return DATA_DIR / f"{slug}-{split or 'prepared'}{rate}"


def plain_name(path: Path) -> str:
    """The name of a source without the suffix of its kind: "My music.tar.gz" is "My music"."""
    name = path.resolve().name
    if path.is_dir():
        return name
    return (ARCHIVE if ARCHIVE.search(name) else TABLE).sub("", name)


def read_preparation(folder: Path) -> dict | None:
    """The content of preparation.json; None if data_prep did not make the folder."""
    try:
        preparation = json.loads((folder / PREPARATION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return preparation if isinstance(preparation, dict) and "split" in preparation else None


def is_prepared(folder: Path) -> bool:
    """Whether data_prep made this folder."""
    return read_preparation(folder) is not None


def load_prepared(folder: Path) -> tuple["DatasetDict", Preparation]:
    """Load the dataset of a prepared folder and its `Preparation`.

    The splits train, validation and test have the columns `file`, `audio` (a dict with the `bytes`
    of a mono 16-bit WAV), `genre` (ClassLabel), `track_id`, `artist` (empty if unknown) and `start`
    (seconds into the track). Raises InputError: this version of data_prep did not make it.
    """
    from datasets import Audio, load_from_disk

    known = read_preparation(folder)
    if known is None:
        raise InputError(f"{folder} was not made by data_prep: give it to python -m data_prep.")
    names = Preparation.__dataclass_fields__
    try:
        preparation = Preparation(**{k: value for k, value in known.items() if k in names})
    except TypeError as error:
        raise InputError(
            f"{folder} was prepared by an earlier version: prepare it again with --overwrite."
        ) from error
    return load_from_disk(str(folder)).cast_column("audio", Audio(decode=False)), preparation
