"""A table of paths and genres: CSV, JSON lines or Parquet, alone or inside a folder or archive.

The columns are `path` (or `file_name`, as in AudioFolder's metadata.csv) and `genre` (or `label`),
and optionally `artist`, `title`, `album` and `split`. Paths are relative to the table.
"""

import io
import posixpath
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd
import pyarrow as pa

from data_prep.archive import ArchiveError, Member, MemberError, file_member, open_archive
from data_prep.names import one_line, shown
from data_prep.options import COLUMNS, SourceOptions
from data_prep.sources.source import (
    SPLIT_NAMES,
    TABLE_SUFFIXES,
    Listing,
    Source,
    new_track,
    parts_of,
)
from data_prep.track import Track

DEFAULTS = {  # what columns may be called, the first one that is there
    "path": ("path", "file_name", "file"), "genre": ("genre", "label"), "artist": ("artist",),
    "title": ("title",), "album": ("album",), "split": ("split",),
}  # fmt: skip
MAX_ROWS = 1_000_000
Rows = list[dict[str, str]]  # of COLUMNS, as far as the table has them


class TableError(ArchiveError):
    """A file that is no table of paths and genres; the message says why."""


@dataclass
class _Files(Source):
    """A table on the disk: its files may lie anywhere."""

    files: dict[str, Path] = field(default_factory=dict)  # by the name of the member

    @contextmanager
    def members(self) -> Iterator[Iterator[Member]]:
        yield (file_member(name, file) for name, file in self.files.items())


def from_file(path: Path, options: SourceOptions) -> Source:
    """
    Raises:
        TableError: there is no such file, it is no table, a column is missing, or no path exists.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from error
    rows = read_rows(data, path, options)
    files = {row["path"]: path.parent / row["path"] for row in rows if row["path"]}
    tracks = _tracks(path, rows, lambda name: files[name].is_file())
    return _Files(path, "table", "a table", tracks, {n: f for n, f in files.items() if n in tracks})


def files_of(path: Path, options: SourceOptions) -> list[Path]:
    """The files that a table on the disk names and that exist; none where it is no table."""
    try:
        rows = read_rows(path.read_bytes(), path, options)
    except (OSError, TableError):
        return []
    files = (path.parent / row["path"] for row in rows if row["path"])
    return [file for file in files if file.is_file()]


def in_archive(
    path: Path, listing: Listing, options: SourceOptions, is_needed: bool
) -> Source | None:
    """The table inside a folder or archive, or AudioFolder's tables, one in each split's folder.

    Raises:
        TableError: there are several others; or there is none, though `is_needed`.
    """
    found = _read_tables(path, listing, options)
    if len(found) > 1 and not all(PurePosixPath(name).stem == "metadata" for name in found):
        raise TableError(
            f"{path} holds {len(found)} tables of paths and genres "
            f"({', '.join(sorted(found)[:3])}): give the one to use as the source."
        )
    if not found:
        if is_needed:
            raise TableError(f"{path} holds no table with the columns path and genre.")
        return None
    names = {_normal(name): name for name in listing.audio}
    rows: Rows = []
    for name, of_table in found.items():
        folder, first = posixpath.dirname(name), parts_of(name)[0].lower()
        for row in of_table:
            inside = _normal(posixpath.join(folder, row["path"])) if row["path"] else ""
            inside = names.get(inside, inside)
            row = row | {"path": inside}
            if len(found) > 1 and first in SPLIT_NAMES:
                row.setdefault("split", first)
            rows.append(row)
    return Source(path, "table", "a table", _tracks(path, rows, set(listing.audio).__contains__))


def _normal(name: str) -> str:
    """One name for "./a/b", "a//b" and its letters in other encodings of Unicode."""
    return unicodedata.normalize("NFC", posixpath.normpath(name))


def _read_tables(path: Path, listing: Listing, options: SourceOptions) -> dict[str, Rows]:
    if not listing.tables:
        return {}
    found = {}
    with open_archive(path, TABLE_SUFFIXES) as members:
        for member in members:
            if member.name in listing.tables:
                try:
                    found[member.name] = read_rows(member.read(), Path(member.name), options)
                except (ArchiveError, MemberError):  # one of another kind
                    if options.columns:
                        raise
    return found


def read_rows(data: bytes, name: Path, options: SourceOptions) -> Rows:
    """The rows of a table, all cells as text.

    Raises:
        TableError: it is no table, or a column is missing.
    """
    try:
        frame = _read(data, name.suffix.lower())
    except (ValueError, OverflowError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise TableError(f"{name} cannot be read as a table ({reason}).") from error
    if len(frame) > MAX_ROWS:
        raise TableError(f"{name} has more than {MAX_ROWS:,} rows.")
    given = dict(options.columns or ())
    have = {str(column).strip(): column for column in frame.columns}
    if missing := [column for column in given.values() if column not in have]:
        raise TableError(f"{name} has no column {missing[0]}; it has {_listed(have)}.")
    chosen = {}
    for field_, candidates in DEFAULTS.items():
        names = (given[field_],) if field_ in given else candidates
        if column := next((n for n in names if n in have), None):
            chosen[field_] = have[column]
    if missing := [field_ for field_ in ("path", "genre") if field_ not in chosen]:
        raise TableError(
            f"{name} has no column {missing[0]}; it has {_listed(have)}: name the one to use with "
            f"python -m data_prep --columns {missing[0]}=COLUMN."
        )
    table = frame[list(chosen.values())].set_axis(list(chosen), axis=1)
    cells = table.astype(object).where(table.notna(), "").astype(str)
    cells["path"] = cells["path"].str.replace("\\", "/", regex=False)  # written on Windows
    return [{key: value.strip() for key, value in row.items()} for row in cells.to_dict("records")]


def _read(data: bytes, suffix: str) -> pd.DataFrame:
    if suffix == ".parquet":
        return pd.read_parquet(io.BytesIO(data))
    if suffix == ".jsonl":
        return pd.read_json(io.BytesIO(data), lines=True, dtype=False, convert_dates=False)
    text = data.decode("utf-8-sig")  # its error is a ValueError
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    return pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)


def _listed(columns: dict) -> str:
    return ", ".join(shown(str(column)) for column in list(columns)[:12]) or "none"


def _tracks(path: Path, rows: Rows, exists) -> dict[str, Track]:
    """A track per path. What a row lacks, or says twice in two ways, is the track's status.

    Raises:
        TableError: there is no row, no path exists, or a split has an unknown name.
    """
    tracks: dict[str, Track] = {}
    n_missing = 0
    for i, row in enumerate(rows, start=1):
        values = {key: one_line(row.get(key, "")) for key in COLUMNS if key != "path"}
        values["genre"] = unicodedata.normalize("NFC", values["genre"])
        values["split"] = _split_of(values["split"], i, path)
        name = row["path"]
        if name in tracks:
            if values["genre"] and values["genre"] != tracks[name].genre:
                both = f"{tracks[name].genre} and {values['genre']}"
                tracks[name].status = f"the table has it twice, as {both}"
            continue
        track = tracks[name or f"row {i}"] = new_track(path, name or f"row {i}", **values)
        if not name:
            track.status = "the table has no path for it"
        elif not exists(name):
            track.status = "there is no such file"
            n_missing += 1
        elif not track.genre:
            track.status = "the table has no genre for it"
    if not tracks:
        raise TableError(f"{path} has no rows.")
    if n_missing == len(tracks):
        raise TableError(
            f"None of the {len(tracks):,} paths in {path} exists, such as "
            f"{next(iter(tracks.values())).member}: paths are relative to the table."
        )
    return tracks


def _split_of(text: str, i: int, path: Path) -> str:
    if text and text.lower() not in SPLIT_NAMES:
        raise TableError(
            f"{path} has the split {text[:40]} in row {i}: use train, validation and test."
        )
    return SPLIT_NAMES[text.lower()] if text else ""
