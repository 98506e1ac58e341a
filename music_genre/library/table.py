"""The rows of a library's table: on disk as they come, then as one file to read.

Every process appends its rows to a file of its own in OUTPUT.parts as soon as it has them, so a
kill loses only the files in progress. A row is valid while its file has the same size and time of
change. The table is written anew from the rows, in one step.
"""

import csv
import datetime
import io
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from music_genre.errors import InputError

FORMATS = (".parquet", ".csv", ".jsonl")  # of the table
SYNC_SECONDS = 5.0  # a power cut loses the rows of so long; a kill loses none that was written
ROW_GROUP = 10_000  # rows of the table in memory at a time
TEXT_COLUMNS = ("path", "genre", "model", "revision", "error")  # the others hold numbers


@dataclass(frozen=True, order=True)
class File:
    path: str  # absolute
    size: int  # bytes
    mtime_ns: int


Row = dict[str, Any]
JsonRows = dict[File, bytes]  # each row as a line of JSON, which takes a fraction of the memory


class ResultTable:
    """The rows of some files, in their order; each is parsed when it is needed."""

    def __init__(self, files: Sequence[File], rows: JsonRows) -> None:
        self._files, self._rows = files, rows

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Row]:
        return (json.loads(self._rows[file]) for file in self._files)


# --- rows on disk ---------------------------------------------------------------------------


def check_settings(parts: Path, settings: dict[str, Any]) -> None:
    """Keep the settings of a scan beside its rows.

    Raises:
        InputError: the rows that are there were made with other settings.
    """
    before = read_settings(parts) or settings
    changed = [key for key in settings if key != "model" and before.get(key) != settings[key]]
    if changed:
        was = ", ".join(f"{key} {before.get(key)}" for key in ("model", *changed))
        now = ", ".join(f"{key} {settings[key]}" for key in ("model", *changed))
        raise InputError(
            f"The rows in {parts} were made with {was}; this scan has {now}. One table holds the "
            "results of one model and one --seconds: give another --output, or delete "
            f"{parts} to process all files again."
        )
    with replacing(parts / "settings.json") as file:
        file.write(json.dumps(settings).encode())


def read_settings(parts: Path) -> dict[str, Any]:
    try:
        return json.loads((parts / "settings.json").read_bytes())
    except FileNotFoundError:
        return {}


def read_rows(parts: Path) -> JsonRows:
    """The rows of all processes and scans. A line that a crash left incomplete is skipped."""
    rows: JsonRows = {}
    for path in sorted(parts.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    rows[File(row["path"], row["size"], row["mtime_ns"])] = line
                except (ValueError, KeyError, TypeError):
                    continue
    return rows


def is_final(line: bytes | None) -> bool:
    """Whether a row exists that the next scan need not make again."""
    return line is not None and not json.loads(line)["is_temporary"]


class RowWriter:
    """Appends rows to a file of its own; no two processes ever write to the same one."""

    def __init__(self, parts: Path, process_index: int = 0) -> None:
        parts.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.path = parts / f"{now}-{process_index}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._file = self.path.open("xb", buffering=0)  # what is written survives a kill
        self._synced = time.monotonic()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def append(self, row: Row) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()


# --- the table ------------------------------------------------------------------------------


def write_table(output: Path, settings: dict[str, Any], rows: Iterable[Row]) -> None:
    """Write the table in one step: a reader finds the old one or the new one, never a part."""
    table = (_flat(row, settings) for row in rows)
    first = next(table)  # there is one: a scan of no files is refused
    columns, table = list(first), chain([first], table)
    with replacing(output) as file:
        if output.suffix == ".parquet":
            _write_parquet(file, table, columns)
        elif output.suffix == ".csv":
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.DictWriter(text, columns)
            writer.writeheader()
            writer.writerows(table)
            text.detach()
        else:
            for row in table:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _flat(row: Row, settings: dict[str, Any]) -> Row:
    """A row as the table has it: one column per label."""
    labels = settings["labels"]
    probabilities = row["probabilities"] or [None] * len(labels)
    return {
        "path": printable(row["path"]),
        "duration": row["duration"],
        "genre": row["genre"],
        **{f"p_{label}": p for label, p in zip(labels, probabilities, strict=True)},
        "uncertainty": row["uncertainty"],
        "seconds_processed": row["seconds_processed"],
        "model": settings["model"],
        "revision": settings["revision"],
        "error": row["error"],
    }


def printable(path: str) -> str:
    """A path as text: names that are not UTF-8 get escapes such as \\xef."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _write_parquet(file: BinaryIO, table: Iterator[Row], columns: Sequence[str]) -> None:
    text, number = pyarrow.string(), pyarrow.float64()
    types = [(name, text if name in TEXT_COLUMNS else number) for name in columns]
    schema = pyarrow.schema(types)
    with parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(table, ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it replaces `path` when it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def summarize(rows: Iterable[Row]) -> str:
    genres, n_errors = Counter(), 0
    for row in rows:
        n_errors += row["error"] is not None
        genres.update([row["genre"]] if row["genre"] else [])
    counts = ", ".join(f"{genre} {n:,}" for genre, n in genres.most_common())
    return f"{counts or 'no genres'}; {n_errors:,} with an error"
