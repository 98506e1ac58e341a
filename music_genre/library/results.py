"""The rows of a library's table: on disk as they come, then as one file to read.

Every process appends its rows to a file of its own in OUTPUT.parts as soon as it has them, so that
a kill costs the files being heard at that moment and no more. A row counts for as long as its file
has the size and the time of change it had then. The table is written anew from the rows, in one
step.
"""

import csv
import datetime
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from music_genre.errors import InputError

if TYPE_CHECKING:
    from music_genre.classifier import GenreClassifier
    from music_genre.library.batches import Answer

FORMATS = (".parquet", ".csv", ".jsonl")  # of the table
SYNC_SECONDS = 5.0  # rows reach the disk at least so often; a kill alone loses none of them
ROW_GROUP = 10_000  # rows of the table in memory at a time


@dataclass(frozen=True, order=True)
class File:
    path: str  # absolute
    size: int  # bytes
    mtime_ns: int


Row = dict[str, Any]
Lines = dict[File, bytes]  # rows as JSON, which takes a fraction of the memory


class Table:
    """The rows of some files, in their order; each is parsed when its turn comes."""

    def __init__(self, files: Sequence[File], lines: Lines) -> None:
        self._files, self._lines = files, lines

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Row]:
        return (json.loads(self._lines[file]) for file in self._files)


# --- rows on disk ---------------------------------------------------------------------------


def settings_of(classifier: "GenreClassifier", seconds: float | None) -> dict[str, Any]:
    """What all rows of a table have in common. A local model's revision is a hash of its files."""
    return {
        "model": classifier.model_id,
        "revision": classifier.commit or _hash_of_model(Path(classifier.model_id)),
        "window_seconds": classifier.window_seconds,
        "seconds": seconds,
        "labels": classifier.labels,
    }


def _hash_of_model(folder: Path) -> str:
    import hashlib

    total = hashlib.sha256()
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def check_settings(parts: Path, settings: dict[str, Any]) -> None:
    """Raises InputError where the rows that are there were made with others; else keeps these."""
    before = read_settings(parts) or settings
    changed = [key for key in settings if key != "model" and before.get(key) != settings[key]]
    if changed:
        was = ", ".join(f"{key} {before.get(key)}" for key in ("model", *changed))
        now = ", ".join(f"{key} {settings[key]}" for key in ("model", *changed))
        raise InputError(
            f"The rows in {parts} were made with {was}; this would be {now}. One table holds one "
            f"kind of answer: name another --output, or delete {parts} to hear all files anew."
        )
    with replacing(parts / "settings.json") as file:
        file.write(json.dumps(settings).encode())


def read_settings(parts: Path) -> dict[str, Any]:
    try:
        return json.loads((parts / "settings.json").read_bytes())
    except FileNotFoundError:
        return {}


def read_parts(parts: Path) -> Lines:
    """The rows of all parts. A line torn by a crash is no row."""
    lines: Lines = {}
    for path in sorted(parts.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    lines[File(row["path"], row["size"], row["mtime_ns"])] = line
                except (ValueError, KeyError, TypeError):
                    continue
    return lines


def is_settled(line: bytes | None) -> bool:
    return line is not None and not json.loads(line)["is_passing"]


class Part:
    """A file that one process appends rows to; no two ever write to the same."""

    def __init__(self, parts: Path, rank: int = 0) -> None:
        parts.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.path = parts / f"{now}-{rank}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._file = self.path.open("xb", buffering=0)  # what is written survives a kill
        self._synced = time.monotonic()

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def append(self, row: Row) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()


def to_row(file: File, answer: "Answer", labels: Sequence[str]) -> Row:
    """Probabilities are rounded to six places.

    `uncertainty` is the entropy of the probabilities over that of a uniform guess: 0 is certain,
    1 is no idea.
    """
    row: Row = vars(file) | {
        "duration": answer.duration and round(answer.duration, 3),
        "seconds_heard": round(answer.seconds_heard, 3),
        "genre": None,
        "uncertainty": None,
        "probabilities": None,
        "error": answer.error,
        "is_passing": answer.is_passing,
    }
    if answer.probabilities is not None:
        p = answer.probabilities
        entropy = -(p * np.log(np.maximum(p, 1e-30))).sum()
        row["genre"] = labels[int(p.argmax())]
        row["uncertainty"] = round(float(entropy / np.log(len(p))), 6) if len(p) > 1 else 0.0
        row["probabilities"] = [round(value, 6) for value in p.tolist()]
    return row


# --- the table ------------------------------------------------------------------------------


def write_table(output: Path, settings: dict[str, Any], rows: Iterable[Row]) -> None:
    """Write the table in one step: whoever looks finds the old one or the new one, whole."""
    labels = settings["labels"]
    table = (_flat(row, labels, settings) for row in rows)
    with replacing(output) as file:
        if output.suffix == ".parquet":
            _write_parquet(file, table, labels)
        elif output.suffix == ".csv":
            _write_csv(file, table)
        else:
            for row in table:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _flat(row: Row, labels: Sequence[str], settings: dict[str, Any]) -> Row:
    probabilities = row["probabilities"] or [None] * len(labels)
    return {
        "path": printable(row["path"]),
        "duration": row["duration"],
        "genre": row["genre"],
        **{f"p_{label}": p for label, p in zip(labels, probabilities, strict=True)},
        "uncertainty": row["uncertainty"],
        "seconds_heard": row["seconds_heard"],
        "model": settings["model"],
        "revision": settings["revision"],
        "error": row["error"],
    }


def printable(path: str) -> str:
    """Names that are no UTF-8 can neither be printed nor stand in a table as they are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _write_parquet(file: BinaryIO, table: Iterator[Row], labels: Sequence[str]) -> None:
    from itertools import islice

    import pyarrow
    from pyarrow import parquet

    text, number = pyarrow.string(), pyarrow.float64()
    types = {"path": text, "duration": number, "genre": text}
    types |= {f"p_{label}": number for label in labels}
    types |= {"uncertainty": number, "seconds_heard": number}
    types |= {"model": text, "revision": text, "error": text}
    schema = pyarrow.schema(types.items())
    with parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(table, ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _write_csv(file: BinaryIO, table: Iterable[Row]) -> None:
    import io

    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = None
    for row in table:
        if writer is None:
            writer = csv.DictWriter(text, row)
            writer.writeheader()
        writer.writerow(row)
    text.detach()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def summarise(rows: Iterable[Row]) -> str:
    genres, n_errors = Counter(), 0
    for row in rows:
        n_errors += row["error"] is not None
        genres.update([row["genre"]] if row["genre"] else [])
    counts = ", ".join(f"{genre} {n:,}" for genre, n in genres.most_common())
    return f"{counts or 'no genres'}; {n_errors:,} with an error"
