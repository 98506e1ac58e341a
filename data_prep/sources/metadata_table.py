"""A table of paths and genres, alone or inside a folder or archive.

CSV and TSV (UTF-8, UTF-16, cp1252), JSON, JSON lines, Parquet, or Excel's .xlsx. The columns are
`path` (or `file_name`, as in AudioFolder's metadata.csv) and `genre` (or `label`), and optionally
`artist`, `title`, `album` and `split`. Paths are relative to the table. If a cell holds a list,
only its first value is used, but a track with several genres is left out. tracks.csv of the Free
Music Archive (FMA), which has three header rows and track numbers instead of paths, can be read
too.
"""

import io
import os
import posixpath
import unicodedata
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from data_prep.archive import Member
from data_prep.gtzan import FEATURE_TABLES
from data_prep.names import one_line, shown
from data_prep.options import COLUMNS, Options
from data_prep.sources.music_source import SPLIT_NAMES, Listing, MusicSource, new_track
from data_prep.track import Track
from music_genre.errors import InputError, first_line

DEFAULTS = {  # possible names of columns; the first one found is used
    "path": ("path", "file_name", "filename", "file_path", "filepath", "file"),
    "genre": ("genre", "label", "class"), "artist": ("artist",), "title": ("title",),
    "album": ("album",), "split": ("split",),
}  # fmt: skip
FMA_COLUMNS = {  # by the two rows of headers
    "genre": ("track", "genre_top"), "artist": ("artist", "name"), "title": ("track", "title"),
    "album": ("album", "title"), "split": ("set", "split"),
}  # fmt: skip
Rows = list[dict[str, str]]  # the keys are those of COLUMNS that the table has


def from_file(path: Path, options: Options) -> MusicSource:
    """Raises OSError or InputError: it cannot be read, lacks a column, or no path exists."""
    frame = _read(path.read_bytes(), path)
    what, folder = "a table", path.parent
    if frame.columns.nlevels == 2 and FMA_COLUMNS["genre"] in frame.columns:
        what, folder = "FMA's table of tracks", _fma_folder(path)
        options.check_unused(("columns",), f"{path}, which is {what}")
        frame = _flat_fma(frame, folder)
    rows = _rows_of(frame, path, options)
    paths = {row["path"]: folder / row["path"] for row in rows if row["path"]}
    # If a path is too long for the file system, os.path returns False, but Path raises.
    folders = {file.parent for file in paths.values() if os.path.isdir(file.parent)}
    there = (child for parent in folders for child in parent.iterdir())
    keys = _keys(child.as_posix() for child in there if os.path.isfile(child))
    found = {name: Path(_find(file.as_posix(), keys) or file) for name, file in paths.items()}
    files = {name: file for name, file in found.items() if os.path.isfile(file)}
    tracks = _tracks(path, rows, files)
    return MusicSource(
        path, "table", what, tracks, lambda: (Member(name, file) for name, file in files.items())
    )


def in_archive(path: Path, listing: Listing, options: Options) -> MusicSource | None:
    """The table inside a folder or archive, or one table per split; None if there is none.

    Tables per split are train.csv and test.csv, or AudioFolder's train/metadata.csv and
    test/metadata.csv. Raises InputError: there are several other tables.
    """
    found = _read_tables(listing, options)
    if not found:
        return None
    splits = {name: _split_of_table(name) for name in found}
    if len(found) > 1 and not all(splits.values()):
        raise InputError(
            f"{path} holds {len(found)} tables of paths and genres "
            f"({', '.join(sorted(found)[:3])}): give the one to use as the source."
        )
    keys = _keys(listing.audio)
    for name, rows in found.items():
        for row in rows:
            inside = posixpath.join(posixpath.dirname(name), row["path"])
            row["path"] = row["path"] and (_find(inside, keys) or posixpath.normpath(inside))
            if len(found) > 1:
                row.setdefault("split", splits[name])
    tracks = _tracks(path, [row for rows in found.values() for row in rows], set(listing.audio))
    return MusicSource(path, "table", "a table", tracks, has_marker=listing.has_marker)


def _split_of_table(name: str) -> str | None:
    """The split that a table, or the folder it lies in, is named after; None if there is none."""
    path = PurePosixPath(name.lower())
    return SPLIT_NAMES.get(path.stem) or SPLIT_NAMES.get(path.parent.name)


def _key(name: str) -> str:
    """The same key for "./a/b" and "a//B", and for composed and decomposed letters."""
    return unicodedata.normalize("NFC", posixpath.normpath(name)).casefold()


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Map what a table may write to file names: the exact name, its `_key`, or without suffix.

    Later entries win: an exact name takes precedence over a similar one.
    """
    names = list(names)
    keys = {_key(name): name for name in names}
    stems = {posixpath.splitext(k)[0]: name for k, name in keys.items() if Member(name).is_clip}
    return stems | keys | {posixpath.normpath(name): name for name in names}


def _find(name: str, keys: Mapping[str, str]) -> str | None:
    return keys.get(posixpath.normpath(name)) or keys.get(_key(name))


def _read_tables(listing: Listing, options: Options) -> dict[str, Rows]:
    found = {}
    for name, member in listing.tables.items():
        if member.basename in FEATURE_TABLES:
            continue
        try:
            found[name] = _rows_of(_read(member.read(), Path(name)), Path(name), options)
        except InputError:  # a table of another kind
            if options.columns:
                raise
    return found


def _rows_of(frame: pd.DataFrame, name: Path, options: Options) -> Rows:
    """The rows of a table, all cells as text. Raises InputError: a column is missing."""
    given = options.columns or {}
    have = {str(column).strip().casefold(): column for column in frame.columns}
    chosen = {}
    for field, candidates in DEFAULTS.items():
        names = (given[field].casefold(),) if field in given else candidates
        if column := next((n for n in names if n in have), None):
            chosen[field] = have[column]
    if missing := [field for field in ("path", "genre", *given) if field not in chosen]:
        listed = ", ".join(shown(str(column).strip()) for column in list(frame.columns)[:12])
        raise InputError(
            f"{name} has no column {given.get(missing[0], missing[0])}; it has {listed or 'none'}: "
            f"name the one to use with python -m data_prep --columns {missing[0]}=COLUMN."
        )
    table = frame[list(chosen.values())].set_axis(list(chosen), axis=1).astype(object)
    table = table.reset_index(drop=True)
    # Cells of Parquet and JSON may be lists: each genre gets a row, others keep the first value.
    for field in chosen.keys() - {"genre"}:
        table[field] = table[field].explode().groupby(level=0).first()
    table = table.explode("genre", ignore_index=True)
    cells = table.where(table.notna(), "").astype(str).apply(lambda column: column.str.strip())
    cells["path"] = cells["path"].str.replace("\\", "/", regex=False)  # written on Windows
    return cells.to_dict("records")


def _read(data: bytes, name: Path) -> pd.DataFrame:
    file, suffix = io.BytesIO(data), name.suffix.lower()
    try:
        if suffix == ".parquet":
            return pd.read_parquet(file)
        if suffix in (".json", ".jsonl"):
            return pd.read_json(file, lines=suffix == ".jsonl", dtype=False, convert_dates=False)
        if suffix == ".xlsx":
            return pd.read_excel(file, dtype=str, keep_default_na=False)
        return _read_text(_decode(data))
    except Exception as error:  # pandas and its readers raise many kinds
        raise InputError(f"{name} cannot be read as a table ({first_line(error)}).") from error


def _read_text(text: str) -> pd.DataFrame:
    head, _, rest = text.partition("\n")
    separator = max(",;\t", key=head.count)
    if head.strip().lower().startswith("sep="):  # a line that Excel reads
        separator, text = head.strip("\r ")[4:5] or ",", rest
    lines = text.split("\n", 3)
    is_fma = lines[0].startswith(",") and len(lines) > 2 and lines[2].startswith("track_id,")
    # Rows may end in a separator that the header lacks, which does not add a column.
    header = {"header": [0, 1], "index_col": 0} if is_fma else {"index_col": False}
    with warnings.catch_warnings(action="ignore", category=pd.errors.ParserWarning):
        return pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, **header
        )


def _decode(data: bytes) -> str:
    """Decode UTF-8, UTF-16 with a byte order mark, or the Western code page of Windows."""
    try:
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _fma_folder(path: Path) -> Path:
    """Find the folders 000, 001 and so on, beside tracks.csv or beside its folder."""
    siblings = [*path.parent.glob("fma_*"), *path.parent.parent.glob("fma_*")]
    for folder in (path.parent, *sorted(siblings)):
        if any(folder.glob("[0-9][0-9][0-9]")):
            return folder
    raise InputError(f"Unpack fma_small.zip into {path.parent}: {path} is FMA's table.")


def _flat_fma(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The tracks whose files exist, with the columns of other tables."""
    there = {file.stem: f"{file.parent.name}/{file.name}" for file in folder.glob("???/??????.*")}
    flat = pd.DataFrame({name: frame[c] for name, c in FMA_COLUMNS.items() if c in frame})
    flat["path"] = frame.index.astype(str).str.zfill(6).map(there)
    return flat.dropna(subset="path")


def _tracks(path: Path, rows: Rows, there: Iterable[str]) -> dict[str, Track]:
    """A track per path. Its status says what its row lacks, or that its rows have several genres.

    `there`: the paths that exist.
    """
    tracks: dict[str, Track] = {}
    for i, row in enumerate(rows, start=1):
        values = {key: one_line(row.get(key, "")) for key in COLUMNS if key != "path"}
        values["genre"] = unicodedata.normalize("NFC", values["genre"])
        if (split := values["split"].lower()) and split not in SPLIT_NAMES:
            raise InputError(
                f"{path} has the split {split[:40]} in row {i}: use train, validation and test."
            )
        values["split"] = SPLIT_NAMES.get(split, "")
        name = row["path"] or f"row {i}"
        if track := tracks.get(name):
            if values["genre"] not in ("", track.genre):
                both = f"{track.genre}, {values['genre']}"
                track.status = f"the table has several genres for it: {both}"
            continue
        track = tracks[name] = new_track(path, name, **values)
        if not row["path"]:
            track.status = "the table has no path for it"
        elif name not in there:
            track.leave_out_bad("there is no such file")
        elif not track.genre:
            track.status = "the table has no genre for it"
    if not any(name in there for name in tracks):
        example = f", such as {next(iter(tracks.values())).member}" if tracks else ""
        raise InputError(
            f"None of the {len(tracks):,} paths in {path} exists{example}: paths are relative to "
            "the table."
        )
    return tracks
