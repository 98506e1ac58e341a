"""Which kind of source a path is, as far as that can be told without doubt."""

from pathlib import Path, PurePosixPath

from data_prep.archive import FEATURE_TABLES, ArchiveError
from data_prep.gtzan import track_id_of
from data_prep.options import NOT_FOR_GTZAN, SourceOptions
from data_prep.sources import folders, gtzan, table, tags
from data_prep.sources.source import (
    TABLE_SUFFIXES,
    Source,
    check_has_audio,
    list_names,
)

FEW = 100  # names that tell GTZAN from other music


def recognise(path: Path, options: SourceOptions) -> Source:
    """Read the names, tables or tags of a source; no audio is decoded.

    Raises:
        ArchiveError: it is none of the kinds, could be several, or cannot be read.
        InputError: an option has no use with this kind.
    """
    if _is_table(path):
        _refuse_other_kind(options, "table", path)
        return table.from_file(path, options)
    kind = options.genre_from
    if kind == "gtzan" or (kind is None and is_gtzan(path)):
        options.check_unused(NOT_FOR_GTZAN, f"{path}, which is GTZAN")
        return gtzan.from_archive(path)
    listing = list_names(path)
    check_has_audio(listing, path)
    if kind == "tags":
        options.check_unused(("columns",), "--genre_from tags")
        return tags.from_archive(path, options)
    if kind != "folders":
        found = table.in_archive(path, listing, options, is_needed=kind == "table")
        if found:
            return found
    options.check_unused(("columns",), f"{path}, where no table was found")
    return folders.from_archive(path, listing)


def is_gtzan(path: Path) -> bool:
    """Whether most of the first audio files are named as in GTZAN, or only its tables are there."""
    if _is_table(path):
        return False
    listing = list_names(path, FEW)
    names = listing.audio
    if not names:
        return any(PurePosixPath(name).name in FEATURE_TABLES for name in listing.tables)
    return 2 * sum(track_id_of(name) is not None for name in names) > len(names)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir()


def is_source(path: Path) -> bool:
    """Whether a folder or file is music for `prepare`, and not a dataset for `datasets`.

    A damaged archive is a source: it must not go unseen.
    """
    if path.is_file():
        return True
    try:
        return bool(list_names(path, 1).audio)
    except ArchiveError:
        return True


def _refuse_other_kind(options: SourceOptions, kind: str, path: Path) -> None:
    if options.genre_from not in (None, kind):
        raise ArchiveError(f"{path} is a table: leave out --genre_from {options.genre_from}.")
