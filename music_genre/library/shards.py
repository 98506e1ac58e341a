"""Shares of a scan for processes and machines that know nothing of each other, and their tables.

`--shard 3/16`, or a launcher that sets RANK and WORLD_SIZE, gives a process the files whose paths
below the scanned folder have the hash 3 of 16. So no list goes from one to another, and the folder
may be mounted elsewhere on each machine. Each writes genres-00003-of-00016.parquet; these are one
dataset to `datasets.load_dataset`, and `merge` makes one table of them.
"""

import csv
import hashlib
import heapq
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pyarrow import parquet

from music_genre.errors import InputError
from music_genre.library.table import Row, write_table

BATCH = 1_000  # rows of each table in memory at a time


@dataclass(frozen=True)
class Shard:
    """Share `index`, counted from 0, of `count`."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index:05d}-of-{self.count:05d}"

    def has(self, path: str) -> bool:
        """Whether a file is in this share. path: below the scanned folder."""
        if self.count == 1:
            return True
        name = os.fsencode(path.replace(os.sep, "/"))
        number = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        return number % self.count == self.index

    def table(self, output: Path) -> Path:
        """Where the rows of this share go: `output` itself if there is no other one."""
        return output if self.count == 1 else output.with_stem(f"{output.stem}-{self}")


def shard_of(text: str | None) -> Shard:
    """What `--shard` says, such as 3/16; without it, what the launcher of this process says.

    Raises:
        InputError: it is none.
    """
    text = text or f"{os.environ.get('RANK', 0)}/{os.environ.get('WORLD_SIZE', 1)}"
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not (found and int(found[1]) < int(found[2]) <= 99_999):
        raise InputError(f"--shard {text} is none: of 16 shares they are 0/16 to 15/16.")
    return Shard(int(found[1]), int(found[2]))


def merge(output: Path) -> int:
    """Make one table of the tables of all shards, by path; a few rows are in memory at a time.

    Returns:
        The number of shards.

    Raises:
        InputError: there are none, some are missing, or they are of two models.
    """
    paths = _tables_of(output)
    with ExitStack() as stack:
        tables = [_open(path, stack) for path in paths]
        rows = heapq.merge(*(rows for _, rows in tables), key=lambda row: row["path"])
        columns = next((columns for columns, _ in tables if columns), [])
        write_table(output, columns, _of_one_model(rows, output))
    return len(paths)


def _tables_of(output: Path) -> list[Path]:
    form = re.compile(rf"{re.escape(output.stem)}-\d{{5}}-of-(\d{{5}}){re.escape(output.suffix)}")
    folder = output.parent
    counts = {int(found[1]) for path in folder.iterdir() if (found := form.fullmatch(path.name))}
    if len(counts) != 1:
        which = f"those of {', '.join(map(str, sorted(counts)))} shards" if counts else "none"
        raise InputError(f"--merge takes the tables of one scan in shards; {folder} has {which}.")
    (count,) = counts
    paths = [Shard(i, count).table(output) for i in range(count)]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise InputError(
            f"{len(missing):,} of {count:,} tables are not in {folder}, such as {missing[0]}: "
            "finish those shards, or copy their tables here."
        )
    return paths


def _open(path: Path, stack: ExitStack) -> tuple[Sequence[str], Iterator[Row]]:
    """A table's columns, if it has rows or its format says, and its rows."""
    if path.suffix == ".parquet":
        file = stack.enter_context(parquet.ParquetFile(path))
        batches = file.iter_batches(BATCH)
        return file.schema_arrow.names, (row for batch in batches for row in batch.to_pylist())
    text = stack.enter_context(path.open(encoding="utf-8", newline=""))
    if path.suffix == ".csv":
        reader = csv.DictReader(text)
        return reader.fieldnames or [], reader
    return [], map(json.loads, text)


def _of_one_model(rows: Iterator[Row], output: Path) -> Iterator[Row]:
    first = None
    for row in rows:
        first = first or row
        if row.keys() != first.keys() or row["revision"] != first["revision"]:
            raise InputError(
                f"The tables of {output} are of two models, {first['model']} and {row['model']}: "
                "scan all shards with one."
            )
        yield row
