"""Write genres into the files' own tags, and undo that.

    write_tags(found, rows, tagging, log, parts, is_agreed=True)
    undo_tags(found, log)

A genre that is there stays, unless it is to be replaced. A file is edited as a copy, in an isolated
process. The copy replaces the file only after a check that the compressed audio in it is the same.
The log holds the old values before a file is changed; `undo_tags` writes them back.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
from pebble import ProcessPool
from tqdm import tqdm

from music_genre.errors import InputError
from music_genre.genre_names import is_no_genre
from music_genre.isolation import decoder_pool
from music_genre.library.decoding import TIMEOUT, File, in_processes, outcome
from music_genre.library.fields import (
    GENRE,
    SEPARATOR,
    SUFFIXES,
    Field,
    TagError,
    edit_copy,
    read_field,
)
from music_genre.library.files import Found
from music_genre.library.table import PartWriter, Row, have_valid_row, replacing, rows_in, rows_of

COPY_MARK = ".genre-tag-copy"
Show = Callable[[str], None]


@dataclass(frozen=True)
class Tagging:
    """What is written where."""

    thresholds: Mapping[str, float]  # genre -> its least probability; others are not written
    top_k: int = 1  # genres of a file, at most
    field: str = GENRE
    replace: bool = False  # also where the field has a value

    def genres(self, row: Row) -> list[str]:
        """The likeliest first; none where the likeliest is not sure enough."""
        ranked = sorted(self.thresholds, key=lambda genre: row[f"p_{genre}"], reverse=True)
        best = max(value for name, value in row.items() if name.startswith("p_"))
        if not ranked or row[f"p_{ranked[0]}"] < best:
            return []  # the likeliest genre has no threshold
        sure = takewhile(lambda genre: row[f"p_{genre}"] >= self.thresholds[genre], ranked)
        return list(sure)[: self.top_k]

    def is_empty(self, values: Sequence[str]) -> bool:
        if self.field == GENRE:
            return all(map(is_no_genre, values))
        return not any(value.strip() for value in values)


@dataclass(frozen=True)
class Change:
    """One file's field: what is in it, and what is to be."""

    file: File  # its row is `known`
    before: Field
    genres: list[str]

    def __str__(self) -> str:
        was = ", ".join(self.before.values) or "none"
        shown = [f"{genre} ({self.file.known[f'p_{genre}']:.0%})" for genre in self.genres]
        return f"{self.file.path}: {was} -> {', '.join(shown)}"


def write_tags(
    found: Found,
    rows: pa.Table,
    tagging: Tagging,
    log: Path,
    parts: Path,
    is_agreed: bool,
    show: Show = print,
) -> str:
    """Write each file's genres into it, where the model is sure and the field is empty.

    Args:
        rows: of `table.read_rows`.
        log: for `undo_tags`.
        parts: gets rows with the files' new sizes and times, so that the next scan knows them.
        is_agreed: otherwise no file is changed, and each change goes to `show`.

    Returns:
        What happened, for people.
    """
    chosen, counted = _sure_files(found, rows, tagging)
    changes, n_have, left = _changes(chosen, tagging)
    if n_have:
        counted += f"; {n_have:,} keep the {tagging.field} that they have (--replace overwrites it)"
    if not is_agreed:
        for change in changes:
            show(str(change))
        text = f"{counted}. {len(changes):,} to write. No file was changed. Add --yes to write."
        return "\n".join([text, *left])
    n_written = 0
    with (
        _one_process() as pool,
        _appending(log) as append,
        PartWriter(parts, rows.schema) as writer,
    ):
        _remove_copies(found, read_log(log))
        for change in tqdm(changes, unit=" files", desc="tags"):
            try:
                status = _write(pool, change, tagging.field, append)
            except (InputError, OSError) as error:
                left.append(_reason(change.file.path, error))
                continue
            new = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
            writer.append(change.file.known | new | {"scanned_ns": time.time_ns()})
            n_written += 1
    text = f"{counted}: {n_written:,} written, {len(left):,} left unchanged."
    if n_written:
        text += f" --undo restores them from {log}."
    return "\n".join([text, *left])


def _sure_files(found: Found, rows: pa.Table, tagging: Tagging) -> tuple[list[File], str]:
    """The files that the model is sure of, and how many there are, for people."""
    of_files = rows_of(found.files, rows)
    is_valid = have_valid_row(found.files, of_files)
    sure: list[File] = []
    for row in rows_in(of_files.filter(is_valid)):
        if row["genre"] and tagging.genres(row):
            key = (row["path"], found.location(row["path"]), row["size"], row["mtime_ns"])
            sure.append(File(*key, known=row))
    chosen = [file for file in sure if file.path.lower().endswith(SUFFIXES)]
    text = f"{len(chosen):,} of {len(of_files):,} files have a genre that is sure enough"
    if len(sure) > len(chosen):
        text += f" and tags ({len(sure) - len(chosen):,} more are of kinds without)"
    n_new = len(of_files) - pa.compute.sum(is_valid).as_py()
    if n_new:
        text += f"; {n_new:,} are new or changed since the scan (scan them again)"
    return chosen, text


def _changes(files: Iterable[File], tagging: Tagging) -> tuple[list[Change], int, list[str]]:
    """What is to be written, how many files have a value, and why tags could not be read."""
    changes, n_have, left = [], 0, []
    tasks = ((file, (os.path.realpath(file.location), tagging.field)) for file in files)
    for file, field in in_processes(read_field, tasks):
        if isinstance(field, InputError):
            left.append(_reason(file.path, field))
        elif not tagging.is_empty(field.values) and not tagging.replace:
            n_have += 1
        elif field.values != (genres := tagging.genres(file.known)):
            changes.append(Change(file, field, genres))
    return sorted(changes, key=lambda change: change.file.path), n_have, sorted(left)


def _reason(path: str, error: Exception) -> str:
    return f"{path}: {getattr(error, 'strerror', None) or error}"


def _write(
    pool: ProcessPool, change: Change, field: str, append: Callable[[dict], None]
) -> os.stat_result:
    file, status = change.file, os.stat(change.file.location)
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise TagError("it changed since it was scanned: scan it again")
    entry = {"path": file.path, "field": field, "stored": change.before.stored}
    append(entry | {"has_tags": change.before.has_tags, "written": change.genres})
    return _replace(pool, file.location, change.genres, field)


# --- undo -----------------------------------------------------------------------------------


def undo_tags(found: Found, log: Path) -> str:
    """Write the old values back. Returns what happened, for people.

    A file that something else changed since is left as it is, and stays in the log.

    Raises:
        InputError: there is no such log.
    """
    if not log.is_file():
        raise InputError(f"There is nothing to undo: there is no log {log}.")
    entries = read_log(log)
    _remove_copies(found, entries)
    n_undone, kept, left = 0, [], []
    with _one_process() as pool:
        for chain in tqdm(_chains(entries), unit=" files", desc="undo"):
            try:
                _undo(pool, found, chain)
                n_undone += 1
            except (InputError, OSError) as error:
                left.append(_reason(chain[0]["path"], error))
                kept += chain
    if kept:
        with replacing(log) as file:
            file.writelines(json.dumps(entry).encode() + b"\n" for entry in kept)
    else:
        log.unlink()
    text = f"{n_undone:,} files have their old tags again, {len(left):,} were left unchanged."
    return "\n".join([text, *left])


def _chains(entries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The last changes of each file's field that follow each other without another's between."""
    chains: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        chain = chains.setdefault((entry["path"], entry["field"]), [])
        if chain and not _is_same(chain[-1]["written"], entry["stored"]):
            chain.clear()
        chain.append(entry)
    return list(chains.values())


def _undo(pool: ProcessPool, found: Found, chain: Sequence[dict[str, Any]]) -> None:
    first, path = chain[0], os.path.realpath(found.location(chain[0]["path"]))
    now = outcome(pool.schedule(read_field, args=[path, first["field"]], timeout=TIMEOUT))
    if isinstance(now, InputError):
        raise now
    if now.stored == first["stored"]:
        return  # a kill came before the change, or after it was undone
    if not any(_is_same(now.stored, entry["written"]) for entry in chain):
        raise TagError("something else changed it since")
    _replace(pool, path, first["stored"], first["field"], is_removed=not first["has_tags"])


def _is_same(stored: Sequence[str], written: Sequence[str]) -> bool:
    return list(stored) in (list(written), [SEPARATOR.join(written)])


# --- files ----------------------------------------------------------------------------------


@contextmanager
def _one_process() -> Iterator[ProcessPool]:
    pool = decoder_pool(1)
    try:
        yield pool
    finally:
        pool.stop()
        pool.join()


def _replace(
    pool: ProcessPool, location: str, values: list[str], field: str, is_removed: bool = False
) -> os.stat_result:
    """Put an edited copy in the place of a file. Returns its new status.

    Raises:
        TagError: it cannot be edited so that all of it but the tag stays the same.
    """
    path = os.path.realpath(location)  # a link stays one
    before = os.stat(path)
    if before.st_nlink > 1:
        raise TagError("it has other hard links, which would keep the old tags")
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    copy = os.path.join(folder, f".{stem}{COPY_MARK}{suffix}")
    try:
        arguments = [path, copy, values, field, is_removed]
        done = outcome(pool.schedule(edit_copy, args=arguments, timeout=TIMEOUT))
        if isinstance(done, InputError):
            raise done
        _take_on(copy, before, path)
        now = os.stat(path)
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise TagError("something else is changing it")
        os.replace(copy, path)
        _sync(folder)
        return os.stat(path)
    finally:
        if os.path.lexists(copy):
            os.remove(copy)


def _take_on(copy: str, status: os.stat_result, path: str) -> None:
    """Give a copy the owner, mode and extended attributes of a file; it is newer."""
    if (os.stat(copy).st_uid, os.stat(copy).st_gid) != (status.st_uid, status.st_gid):
        os.chown(copy, status.st_uid, status.st_gid)
    shutil.copystat(path, copy)
    os.utime(copy)
    _sync(copy)


def _remove_copies(found: Found, entries: Iterable[dict[str, Any]]) -> None:
    """Remove the copies that a kill left behind; the log names their folders before they exist."""
    locations = {os.path.realpath(found.location(entry["path"])) for entry in entries}
    for folder in {os.path.dirname(location) for location in locations}:
        for copy in Path(folder).glob(f".*{COPY_MARK}.*"):
            copy.unlink(missing_ok=True)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _appending(log: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that adds a line to the log and returns when it is on the disk."""
    with log.open("ab") as file:
        if file.tell():
            file.write(b"\n")  # the last line may be incomplete; empty lines do no harm

        def append(entry: dict[str, Any]) -> None:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

        yield append


def read_log(log: Path) -> list[dict[str, Any]]:
    """A line that a crash left incomplete is skipped: its file was not changed yet."""
    entries = []
    for line in log.read_bytes().splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
