"""Recognise which kind of source a path or id is, if there is no doubt."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.archive import ARCHIVE_SUFFIXES
from data_prep.options import Options
from data_prep.sources import genre_folders, metadata_table, tagged_files
from data_prep.sources.music_source import TABLE_FILE_SUFFIXES, MusicSource, list_names
from music_genre.errors import InputError

OF_GTZAN = ("split", "seed", "sampling_rate", "on_bad_clip", "genre_from")
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def recognise(path: Path, options: Options) -> MusicSource:
    """Read the names, tables or tags of a source: a file, a folder, or the id of a dataset.

    No audio is decoded. Raises InputError: the source is of no known kind, is ambiguous, cannot be
    read, or does not take a given option.
    """
    kind = options.genre_from
    if is_hub_id(path) or _has_audio_column(path):
        return _dataset(path, options)
    if is_table(path):
        if kind != "table":
            options.check_unused(("genre_from",), f"{path}, which is a table")
        return metadata_table.from_file(path, options)
    if kind == "tags":
        options.check_unused(("columns",), "--genre_from tags")
        return tagged_files.from_archive(path, options)
    listing = list_names(path)
    has_parquet = any(member.suffix == ".parquet" for member in listing.tables.values())
    if not listing.audio and path.is_dir() and (_is_saved(path) or has_parquet):
        return _dataset(path, options)
    if kind == "gtzan" or (kind is None and genre_folders.is_gtzan(listing)):
        # GTZAN's genres, lengths and faults are known.
        others = [name for name in options.given() if name not in OF_GTZAN]
        options.check_unused(others, f"{path}, which is GTZAN")
        return genre_folders.gtzan_from_archive(path, listing)
    if not listing.audio:
        inner = f", but {listing.archives[0]}: unpack it" if listing.archives else ""
        raise InputError(f"{path} holds no audio file{inner}.")
    if listing.archives:
        print(f"Not read: {len(listing.archives)} archives in {path}, e.g. {listing.archives[0]}.")
    if kind != "folders" and (found := metadata_table.in_archive(path, listing, options)):
        return found
    if kind == "table":
        raise InputError(f"{path} holds no table with the columns path and genre.")
    options.check_unused(("columns",), f"{path}, where no table was found")
    return genre_folders.from_archive(path, listing)


def is_gtzan(path: Path) -> bool:
    """Whether an archive or folder is GTZAN. Raises InputError: it cannot be read."""
    return not is_table(path) and genre_folders.is_gtzan(list_names(path))


def is_hub_id(path: Path) -> bool:
    """Whether this path does not exist and may be the id of a dataset on the Hub."""
    has_suffix = path.suffix.lower() in TABLE_FILE_SUFFIXES | ARCHIVE_SUFFIXES
    return not path.exists() and not has_suffix and bool(HUB_ID.fullmatch(path.as_posix()))


def is_table(path: Path) -> bool:
    is_file = path.suffix.lower() in TABLE_FILE_SUFFIXES and not path.is_dir()
    return is_file and not _has_audio_column(path)


def _has_audio_column(path: Path) -> bool:
    """Whether a file is a part of a dataset and not a table of paths."""
    try:
        return path.suffix.lower() == ".parquet" and "audio" in pq.read_schema(path).names
    except (OSError, pa.ArrowException):  # reading it as a table reports the error
        return False


def _is_saved(path: Path) -> bool:
    """Whether a folder was made by `save_to_disk` of `datasets`."""
    return any(path.joinpath(name).is_file() for name in ("dataset_dict.json", "state.json"))


def _dataset(path: Path, options: Options) -> MusicSource:
    from data_prep.sources import labelled_dataset  # takes seconds to import

    options.check_unused(("genre_from",), f"{path}, which is a dataset")
    columns = options.columns or {}
    if others := columns.keys() - {"genre", "artist"}:
        raise InputError(
            f"--columns {min(others)}=... has no use with {path}, which is a dataset: name only "
            "genre and artist."
        )
    if is_hub_id(path):
        return labelled_dataset.from_hub(path.as_posix(), columns)
    return labelled_dataset.from_path(path, _is_saved(path), columns)
