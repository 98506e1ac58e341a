"""Store the rows of a library: first as Parquet parts, then as one table to read.

A scan appends its rows to OUTPUT.parts, up to 1,000 at a time, so a kill loses only the rows in
progress. A row is valid while its file has the same size and version (its modification time, or
what the object store reports). The last row of a file counts. The table is rewritten from the rows
in one step.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import compute, csv, dataset, parquet

from music_genre.errors import InputError, first_line
from music_genre.library.files import Found

PART_ROWS, PART_SECONDS = 1_000, 30.0  # limits of a part; the first one reached counts
N_ERRORS_SHOWN = 5
SETTINGS_FILE = "settings.json"
SCAN_COLUMNS = ("size", "version", "sha256", "is_temporary")  # of the parts, not of the table

Row = dict[str, Any]


def schema_of(labels: Sequence[str]) -> pa.Schema:
    """The columns of a part."""
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    return pa.schema(
        [
            *(("path", text), ("size", whole), ("version", whole)),
            *(("sha256", text), ("duration", number), ("genre", text)),
            *((f"p_{label}", number) for label in labels),
            *(("uncertainty", number), ("seconds_processed", number), ("lost_seconds", number)),
            *(("error", text), ("is_temporary", pa.bool_())),
        ]
    )


# --- parts ----------------------------------------------------------------------------------


def check_settings(parts: Path, settings: dict[str, Any]) -> None:
    """Check the settings of a scan, and store them beside its rows.

    Raises:
        InputError: the existing rows were made with other settings.
    """
    before = read_settings(parts) or settings
    for key in settings:
        if key != "model" and before.get(key) != settings[key]:
            is_commit = key == "revision" and not str(before.get(key)).startswith("sha256:")
            same = f"--revision {before.get(key)} for the same model, " if is_commit else ""
            raise InputError(
                f"The rows in {parts} were made by {before.get('model')} with {key} "
                f"{before.get(key)}, and this scan has {settings[key]}: give {same}another "
                f"--output, or delete {parts} to process all files again."
            )
    with replacing(parts / SETTINGS_FILE) as file:
        file.write(json.dumps(settings).encode())


def read_settings(parts: Path) -> dict[str, Any]:
    """Return the settings of the rows; empty if no scan has begun.

    Raises:
        InputError: the settings cannot be read.
    """
    path = parts / SETTINGS_FILE
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path} is damaged: delete {parts}, and scan again.") from error


def read_rows(parts: Path, labels: Sequence[str]) -> pa.Table:
    """Return the last row of each file that was ever scanned, in the schema of `schema_of`.

    Raises:
        InputError: a part is damaged.
    """
    in_order = sorted(map(str, parts.glob("*.parquet")))  # names begin with the time
    try:
        rows = dataset.dataset(in_order, schema_of(labels), format="parquet").to_table()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"A file in {parts} is damaged ({first_line(error)}): delete it, and the next scan "
            "processes its files again."
        ) from error
    keys = pa.table({"path": rows["path"], "row": pa.array(range(len(rows)), pa.int64())})
    return rows.take(keys.group_by("path").aggregate([("row", "max")])["row_max"])


class PartWriter:
    """Collects rows, and writes them as Parquet files that are never visible half-written."""

    def __init__(self, parts: Path, schema: pa.Schema) -> None:
        self.parts, self.schema = parts, schema
        self._rows: list[Row] = []
        self._began = time.monotonic()

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def append(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS or time.monotonic() - self._began > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            with replacing(self.parts / f"{time.time_ns()}-{uuid.uuid4().hex}.parquet") as file:
                parquet.write_table(pa.Table.from_pylist(self._rows, self.schema), file)
        self._rows, self._began = [], time.monotonic()


# --- files and their rows -------------------------------------------------------------------


def rows_of(files: pa.Table, rows: pa.Table) -> pa.Table:
    """The row of each file, in the order of the files; nulls where there is none."""
    return rows.take(compute.index_in(files["path"], value_set=rows["path"]))


def check_same_root(found: Found, rows: pa.Table) -> None:
    """Check that the rows belong to this root: they are known by their path below it.

    Raises:
        InputError: there are rows and files, but no file has a row.
    """
    has_row = compute.is_in(found.files["path"], value_set=rows["path"])
    # There may be no files, if a drive cannot be read this time.
    if len(rows) and len(has_row) and not compute.any(has_row).as_py():
        raise InputError(
            f"None of the table's {len(rows):,} files is in {found.base}. The table knows "
            "files by their path below the scanned folder: name the same folders, or make another "
            "table."
        )


def have_valid_row(files: pa.Table, file_rows: pa.Table) -> pa.ChunkedArray:
    """Return whether each file has a row that the next scan can keep; boolean.

    Args:
        file_rows: what `rows_of` returns.
    """
    is_same = compute.and_(
        compute.equal(files["size"], file_rows["size"]),
        compute.equal(files["version"], file_rows["version"]),
    )
    is_valid = compute.and_(is_same, compute.invert(file_rows["is_temporary"]))
    return compute.fill_null(is_valid, False)  # null where there is no row


# --- the table ------------------------------------------------------------------------------


def write_table(output: Path, rows: pa.Table, settings: dict[str, Any]) -> pa.Table:
    """Write the table in one step: a reader sees the old one or the new one, never half of it.

    Args:
        rows: in the schema of `schema_of`.

    Returns:
        The written table: sorted by path, without the columns that only a scan needs.
    """
    table = rows.drop_columns(list(SCAN_COLUMNS)).sort_by("path")
    for name in ("model", "revision"):
        column = pa.repeat(pa.scalar(settings[name], pa.string()), len(table))
        table = table.add_column(table.num_columns - 1, name, column)
    with replacing(output) as file:
        if output.suffix == ".parquet":
            parquet.write_table(table, file)
        elif output.suffix == ".csv":
            csv.write_csv(table, file)
        else:
            for row in rows_in(table):
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return table


def rows_in(table: pa.Table) -> Iterator[Row]:
    """Yield the rows as dicts, with few of them in memory at a time."""
    for batch in table.to_batches(max_chunksize=1_000):
        yield from batch.to_pylist()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` when it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def summarize(table: pa.Table) -> str:
    """Summarize genres, errors and losses for people, and list the first errors."""
    counts = compute.value_counts(compute.drop_null(table["genre"])).to_pylist()
    counts.sort(key=lambda one: -one["counts"])
    genres = ", ".join(f"{one['values']} {one['counts']:,}" for one in counts)
    errors = table.filter(compute.is_valid(table["error"]))
    text = f"{genres or 'no genres'}; {len(errors):,} with an error"
    if lost := compute.sum(table["lost_seconds"]).as_py():
        text += f"; {lost:.1f} s could not be decoded"
    first = rows_in(errors.slice(0, N_ERRORS_SHOWN))
    return "\n".join([f"{text}.", *(f"  {row['path']}: {row['error']}" for row in first)])
