"""A table of paths and genres, alone or inside a folder or archive.

CSV and TSV in any encoding, JSON lines, Parquet, or Excel's .xlsx. The columns are `path` (or
`file_name`, as in AudioFolder's metadata.csv) and `genre` (or `label`), and optionally `artist`,
`title`, `album` and `split`. Paths are relative to the table. tracks.csv of the Free Music Archive
(FMA), which has three rows of headers and numbers for paths, is read as well.
"""

import io
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd

from data_prep.archive import Member
from data_prep.names import one_line, shown
from data_prep.options import COLUMNS, SourceOptions
from data_prep.sources.music_source import (
    SPLIT_NAMES,
    Listing,
    MusicSource,
    new_track,
)
from data_prep.track import Track
from music_genre.errors import InputError

DEFAULTS = {  # what columns may be called, the first one that is there
    "path": ("path", "file_name", "filename", "file_path", "filepath", "file"),
    "genre": ("genre", "label", "class"), "artist": ("artist",), "title": ("title",),
    "album": ("album",), "split": ("split",),
}  # fmt: skip
OF_FEATURES = {"features_30_sec.csv", "features_3_sec.csv"}  # GTZAN's, with filename and label
FMA_COLUMNS = {  # of two headers
    "genre": ("track", "genre_top"), "artist": ("artist", "name"), "title": ("track", "title"),
    "album": ("album", "title"), "split": ("set", "split"),
}  # fmt: skip
MAX_ROWS = 1_000_000
Rows = list[dict[str, str]]  # of COLUMNS, as far as the table has them


def from_file(path: Path, options: SourceOptions) -> MusicSource:
    """
    Raises:
        InputError: there is no such file, it is no table, a column is missing, or no path exists.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    frame = _read(data, path)
    what, folder = "a table", path.parent
    if frame.columns.nlevels == 2 and FMA_COLUMNS["genre"] in frame.columns:
        what, folder = "FMA's table of tracks", _fma_folder(path)
        frame = _flat_fma(frame, folder)
    find = _finder(folder)
    rows = rows_of(frame, path, options)
    files = {row["path"]: find(row["path"]) for row in rows if row["path"]}
    tracks = _tracks(path, rows, lambda name: files[name] is not None)

    @contextmanager
    def open_members() -> Iterator[Iterator[Member]]:
        yield (Member(name, file) for name, file in files.items() if file)

    return MusicSource(path, "table", what, tracks, open_members=open_members)


def files_of(path: Path, options: SourceOptions) -> list[Path]:
    """The files that a table on the disk names and that exist; none where it is no table."""
    try:
        with from_file(path, options).open_members() as members:
            return [member.path for member in members]
    except InputError:
        return []


def in_archive(
    path: Path, listing: Listing, options: SourceOptions, is_needed: bool
) -> MusicSource | None:
    """The table inside a folder or archive, or one for each split.

    These are train.csv and test.csv, or AudioFolder's train/metadata.csv and test/metadata.csv.

    Raises:
        InputError: there are several others; or there is none, though `is_needed`.
    """
    found = _read_tables(listing, options)
    splits = {name: _split_of_table(name) for name in found}
    if len(found) > 1 and None in splits.values():
        raise InputError(
            f"{path} holds {len(found)} tables of paths and genres "
            f"({', '.join(sorted(found)[:3])}): give the one to use as the source."
        )
    if not found:
        if is_needed:
            raise InputError(f"{path} holds no table with the columns path and genre.")
        return None
    names = _keys(listing.audio)
    rows: Rows = []
    for name, of_table in found.items():
        folder = posixpath.dirname(name)
        for row in of_table:
            inside = _normal(posixpath.join(folder, row["path"])) if row["path"] else ""
            row["path"] = names.get(inside) or names.get(inside.casefold(), inside)
            if len(found) > 1 and splits[name]:
                row.setdefault("split", splits[name])
        rows += of_table
    tracks = _tracks(path, rows, set(listing.audio).__contains__)
    return MusicSource(path, "table", "a table", tracks, has_marker=listing.has_marker)


def _split_of_table(name: str) -> str | None:
    """Of one that is called as a split is; "" of AudioFolder's others, None of others."""
    path = PurePosixPath(name.lower())
    if path.stem == "metadata":
        return SPLIT_NAMES.get(path.parts[0], "")
    return SPLIT_NAMES.get(path.stem)


def _normal(name: str) -> str:
    """One name for "./a/b", "a//b" and its letters in other encodings of Unicode."""
    return unicodedata.normalize("NFC", posixpath.normpath(name))


def _keys(names: Iterable[str]) -> dict[str, str]:
    """How a table may write the names of files: with other capitals, or without their suffix."""
    files = {_normal(name): name for name in names}
    stems = {
        posixpath.splitext(key)[0].casefold(): name
        for key, name in files.items()
        if Member(name).is_clip
    }
    return stems | {key.casefold(): name for key, name in files.items()} | files


def _finder(folder: Path) -> Callable[[str], Path | None]:
    """A function that finds the files of a table on the disk, as `_keys` allows."""

    @cache
    def names_in(parent: Path) -> dict[str, str]:
        try:
            return _keys(child.name for child in parent.iterdir())
        except OSError:
            return {}

    def find(name: str) -> Path | None:
        path = folder / name
        if not path.is_file():
            names = names_in(path.parent)
            key = _normal(path.name)
            path = path.with_name(names.get(key) or names.get(key.casefold(), path.name))
        return path if path.is_file() else None

    return find


def _read_tables(listing: Listing, options: SourceOptions) -> dict[str, Rows]:
    found = {}
    for name, member in listing.tables.items():
        if member.basename in OF_FEATURES:
            continue
        try:
            path = Path(name)
            found[name] = rows_of(_read(member.read(), path), path, options)
        except InputError:  # one of another kind
            if options.columns:
                raise
    return found


def rows_of(frame: pd.DataFrame, name: Path, options: SourceOptions) -> Rows:
    """The rows of a table, all cells as text.

    Raises:
        InputError: a column is missing, or there are too many rows.
    """
    if len(frame) > MAX_ROWS:
        raise InputError(f"{name} has more than {MAX_ROWS:,} rows.")
    given = options.columns or {}
    have = {str(column).strip().casefold(): column for column in frame.columns}
    listed = ", ".join(shown(str(column).strip()) for column in list(frame.columns)[:12]) or "none"
    if missing := [column for column in given.values() if column.casefold() not in have]:
        raise InputError(f"{name} has no column {missing[0]}; it has {listed}.")
    chosen = {}
    for field, candidates in DEFAULTS.items():
        names = (given[field].casefold(),) if field in given else candidates
        if column := next((n for n in names if n in have), None):
            chosen[field] = have[column]
    if missing := [field for field in ("path", "genre") if field not in chosen]:
        raise InputError(
            f"{name} has no column {missing[0]}; it has {listed}: name the one to use with "
            f"python -m data_prep --columns {missing[0]}=COLUMN."
        )
    table = frame[list(chosen.values())].set_axis(list(chosen), axis=1)
    cells = table.astype(object).where(table.notna(), "").astype(str)
    cells["path"] = cells["path"].str.replace("\\", "/", regex=False)  # written on Windows
    return [{key: value.strip() for key, value in row.items()} for row in cells.to_dict("records")]


# --- formats --------------------------------------------------------------------------------


def _read(data: bytes, name: Path) -> pd.DataFrame:
    """
    Raises:
        InputError: it is no table.
    """
    try:
        return _read_frame(data, name.suffix.lower())
    except ImportError as error:
        raise InputError(
            f"{name} is a workbook: install openpyxl (`pip install openpyxl`), or save it as CSV."
        ) from error
    except Exception as error:  # pandas and its readers raise many kinds
        reason = (str(error).splitlines() or [""])[0][:120]
        raise InputError(f"{name} cannot be read as a table ({reason}).") from error


def _read_frame(data: bytes, suffix: str) -> pd.DataFrame:
    if suffix == ".parquet":
        return pd.read_parquet(io.BytesIO(data))
    if suffix == ".jsonl":
        return pd.read_json(io.BytesIO(data), lines=True, dtype=False, convert_dates=False)
    if suffix == ".json":
        return pd.read_json(io.BytesIO(data), dtype=False, convert_dates=False)
    if suffix == ".xlsx":
        return pd.read_excel(io.BytesIO(data), dtype=str, keep_default_na=False)
    text = decode_text(data)
    head, _, rest = text.partition("\n")
    separator = max(",;\t", key=head.count)
    if head.strip().lower().startswith("sep="):  # Excel's own
        separator, text = head.strip("\r ")[4:5] or ",", rest
    lines = text.split("\n", 3)
    is_fma = lines[0].startswith(",") and len(lines) > 2 and lines[2].startswith("track_id,")
    header = {"header": [0, 1], "index_col": 0} if is_fma else {}
    return pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, **header)


def decode_text(data: bytes) -> str:
    """Text in UTF-8, in UTF-16 with a mark, or in the code page of Windows in the west.

    Raises:
        ValueError: it is no text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if b"\0" in data:
        raise ValueError("it is no text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


# --- the Free Music Archive -----------------------------------------------------------------


def _fma_folder(path: Path) -> Path:
    """Where the folders 000, 001 and so on are: beside tracks.csv, or beside its folder."""
    siblings = [*path.parent.glob("fma_*"), *path.parent.parent.glob("fma_*")]
    for folder in (path.parent, *sorted(siblings)):
        if any(folder.glob("[0-9][0-9][0-9]")):
            return folder
    raise InputError(
        f"{path} is FMA's table, but its music is not beside it: unpack fma_small.zip into "
        f"{path.parent}."
    )


def _flat_fma(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The tracks whose files are there, with the columns that tables have here."""
    there = {file.stem: f"{file.parent.name}/{file.name}" for file in folder.glob("???/??????.*")}
    paths = frame.index.astype(str).str.zfill(6).map(there)
    flat = pd.DataFrame({"path": paths, "track_id": paths})
    for name, column in FMA_COLUMNS.items():
        if column in frame.columns:
            flat[name] = flat[column[1]] = frame[column].to_numpy()
    return flat[flat["path"].notna()]


# --- tracks ---------------------------------------------------------------------------------


def _tracks(path: Path, rows: Rows, exists: Callable[[str], bool]) -> dict[str, Track]:
    """A track per path. What a row lacks, or says twice in two ways, is the track's status.

    Raises:
        InputError: there is no row, no path exists, or a split has an unknown name.
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
            track.leave_out_bad("there is no such file")
            n_missing += 1
        elif not track.genre:
            track.status = "the table has no genre for it"
    if not tracks:
        raise InputError(f"{path} has no rows.")
    if n_missing == len(tracks):
        raise InputError(
            f"None of the {len(tracks):,} paths in {path} exists, such as "
            f"{next(iter(tracks.values())).member}: paths are relative to the table."
        )
    return tracks


def _split_of(text: str, i: int, path: Path) -> str:
    if text and text.lower() not in SPLIT_NAMES:
        raise InputError(
            f"{path} has the split {text[:40]} in row {i}: use train, validation and test."
        )
    return SPLIT_NAMES[text.lower()] if text else ""
