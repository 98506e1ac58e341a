"""The rows of a library's table: on disk as they come, then as one file to read.

Every process appends its rows to a file of its own in OUTPUT.parts as soon as it has them, so a
kill loses only the files in progress, which a journal there names. A row is valid while its file
has the same size and time of change. The table is written anew from the rows, in one step.
"""

import csv
import datetime
import errno
import io
import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from music_genre.errors import InputError

FORMATS = (".parquet", ".csv", ".jsonl")  # of the table
SYNC_SECONDS = 5.0  # a power cut loses the rows of so long; a kill loses none that was written
N_ERRORS_SHOWN = 5
ROW_GROUP = 10_000  # rows of the table in memory at a time
TEXT_COLUMNS = ("path", "genre", "model", "revision", "error")  # the others hold numbers


@dataclass(frozen=True, order=True, slots=True)
class File:
    path: str  # absolute
    size: int  # bytes
    mtime_ns: int


Row = dict[str, Any]
# Each row as a line of JSON, which takes a fraction of the memory; None where there is no row.
JsonRows = dict[File, bytes | None]
TEMPORARY = b'"is_temporary": true'  # in a name the quotation marks would be escaped


class ResultTable:
    """The rows of some files, in their order; each is parsed when it is needed."""

    def __init__(self, lines: Collection[bytes]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Row]:
        return map(json.loads, self._lines)


# --- rows on disk ---------------------------------------------------------------------------


def check_settings(parts: Path, settings: dict[str, Any]) -> None:
    """Keep the settings of a scan beside its rows.

    Raises:
        InputError: the rows that are there were made with other settings.
    """
    before = read_settings(parts) or settings
    changed = [key for key in settings if key != "model" and before.get(key) != settings[key]]
    if changed:
        was, now = (_describe(values, changed) for values in (before, settings))
        raise InputError(
            f"The rows in {parts} were made with {was}; this scan has {now}. One table holds the "
            "results of one model and one --seconds: give another --output, or delete "
            f"{parts} to process all files again."
        )
    if before == settings and (parts / "settings.json").exists():
        return
    # Other processes may do the same at the same time.
    with replacing(parts / "settings.json", f"{socket.gethostname()}-{os.getpid()}") as file:
        file.write(json.dumps(settings).encode())


def _describe(settings: dict[str, Any], names: list[str]) -> str:
    values = {name: settings.get(name) for name in ("model", *names)}
    if "seconds" in values and values["seconds"] is None:
        values["seconds"] = "all of each file"
    return ", ".join(f"{name} {value}" for name, value in values.items())


def read_settings(parts: Path) -> dict[str, Any]:
    try:
        return json.loads((parts / "settings.json").read_bytes())
    except FileNotFoundError:
        return {}


def lines_of(parts: Path, shard: str, suffix: str = ".jsonl") -> Iterator[bytes]:
    """What was written for a shard, such as 00003-of-00016, or in scans of other numbers of shards.

    What the others of 16 write is passed over.
    """
    of_others = re.compile(rf"[^-]+-(?!{shard})\d{{5}}-{shard.partition('-')[2]}-")
    for path in sorted(parts.glob(f"*{suffix}")):
        if not of_others.match(path.name):
            with path.open("rb") as file:
                yield from file


def read_rows(parts: Path, files: Iterable[File], shard: str) -> JsonRows:
    """The rows of these files, in their order. A line that a crash left incomplete is skipped."""
    rows: JsonRows = dict.fromkeys(files)
    for line in lines_of(parts, shard):
        try:
            row = json.loads(line)
            key = File(row["path"], row["size"], row["mtime_ns"])
        except (ValueError, KeyError, TypeError):
            continue
        # A clock that jumps changes the order of the lines: what is final stays.
        if key in rows and not (is_final(rows[key]) and TEMPORARY in line):
            rows[key] = line
    return rows


def is_final(line: bytes | None) -> bool:
    """Whether a row exists that the next scan need not make again."""
    return line is not None and TEMPORARY not in line


class LineWriter:
    """Appends lines of JSON to a file of its own; no two processes ever write to the same one."""

    def __init__(self, parts: Path, shard: str = "00000-of-00001", suffix: str = ".jsonl") -> None:
        parts.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.path = parts / f"{now}-{shard}-{socket.gethostname()}-{os.getpid()}{suffix}"
        self._file = self.path.open("xb", buffering=0)  # what is written survives a kill
        self._synced = time.monotonic()

    def __enter__(self) -> "LineWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def append(self, entry: dict[str, Any]) -> bytes:
        """Returns the line.

        Raises:
            OSError: the disk is full. What was cut there is skipped when it is read.
        """
        line = json.dumps(entry).encode() + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        return line


# --- the table ------------------------------------------------------------------------------


def write_table(output: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write the table in one step: a reader finds the old one or the new one, never a part.

    rows: as `flat` returns them.
    """
    with replacing(output) as file:
        if output.suffix == ".parquet":
            _write_parquet(file, iter(rows), columns)
        elif output.suffix == ".csv":
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.DictWriter(text, columns)
            writer.writeheader()
            writer.writerows(rows)
            text.detach()
        else:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def columns_of(labels: Iterable[str]) -> list[str]:
    return [
        *("path", "duration", "genre", *(f"p_{label}" for label in labels)),
        *("uncertainty", "seconds_processed", "model", "revision", "error"),
    ]


def flat(row: Row, settings: dict[str, Any]) -> Row:
    """A row as the table has it: one column per label, those of `columns_of`."""
    labels = settings["labels"]
    probabilities = row["probabilities"] or [None] * len(labels)
    values = {
        **row,
        **{f"p_{label}": p for label, p in zip(labels, probabilities, strict=True)},
        "path": printable(row["path"]),
        "model": settings["model"],
        "revision": settings["revision"],
    }
    return {column: values[column] for column in columns_of(labels)}


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
def replacing(path: Path, mark: str = "new") -> Iterator[BinaryIO]:
    """A file to write; it replaces `path` when it is complete and on the disk.

    mark: of the process, where several may write the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{mark}")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def first_errors(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each of the first files with an error."""
    with_error = (row for row in rows if row["error"])
    for row in islice(with_error, N_ERRORS_SHOWN):
        yield f"  {printable(row['path'])}: {row['error']}"


def summarize(rows: Iterable[Row]) -> str:
    genres, n_errors = Counter(), 0
    for row in rows:
        n_errors += row["error"] is not None
        genres.update([row["genre"]] if row["genre"] else [])
    counts = ", ".join(f"{genre} {n:,}" for genre, n in genres.most_common())
    return f"{counts or 'no genres'}; {n_errors:,} with an error"
