"""Write genres into the files' own tags, and undo that.

    write_tags(found, rows, tagging, log, parts, is_agreed=True)
    undo_tags(found, log, parts, labels)

An existing genre stays unless it should be replaced. A file is edited as a copy, in an isolated
process. The copy replaces the file only after a check that its compressed audio is the same. Before
a file is changed, its old values are written to the log; `undo_tags` restores them.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
from tqdm import tqdm

from music_genre.errors import InputError
from music_genre.genre_names import is_no_genre
from music_genre.isolation import DecoderPool, result, run_in_pool
from music_genre.library.decoding import TIMEOUT, File
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
from music_genre.library.table import (
    PartWriter,
    Row,
    check_same_root,
    have_valid_row,
    read_rows,
    replacing,
    rows_in,
    rows_of,
    schema_of,
)

COPY_MARK = ".genre-tag-copy"

Change = tuple[File, Field, list[str]]  # a file, its field, and the genres to write


@dataclass(frozen=True)
class Tagging:
    """Which genres are written, and into which field."""

    min_confidence: float  # least probability of a genre that is written
    top_k: int = 1  # most genres per file
    field: str = GENRE
    replace: bool = False  # overwrite existing values

    def genres(self, row: Row) -> list[str]:
        """The genres that are probable enough, the most probable first."""
        probabilities = {
            name.removeprefix("p_"): p
            for name, p in row.items()
            if name.startswith("p_") and p is not None
        }
        ranked = sorted(probabilities, key=probabilities.get, reverse=True)[: self.top_k]
        return [genre for genre in ranked if probabilities[genre] >= self.min_confidence]

    def is_empty(self, values: Sequence[str]) -> bool:
        if self.field == GENRE:
            return all(map(is_no_genre, values))
        return not any(value.strip() for value in values)


def write_tags(
    found: Found, rows: pa.Table, tagging: Tagging, log: Path, parts: Path, is_agreed: bool
) -> str:
    """Write genres into the files for which the model is sure and the field is empty.

    Args:
        rows: from `table.read_rows`.
        log: gets the old values, for `undo_tags`.
        parts: gets rows with the files' new sizes and times, so that the next scan knows them.
        is_agreed: if False, no file is changed, and each change is printed.

    Returns:
        A summary for people.

    Raises:
        InputError: the root differs from that of the scan.
    """
    check_same_root(found, rows)
    file_rows = rows_of(found.files, rows)
    valid = file_rows.filter(have_valid_row(found.files, file_rows))
    files = [
        File(row["path"], found.location(row["path"]), row["size"], row["version"], known=row)
        for row in rows_in(valid)
        if tagging.genres(row) and row["path"].lower().endswith(SUFFIXES)
    ]
    changes, n_have, left = _changes(files, tagging)
    text = f"{len(files):,} of {len(file_rows):,} files have a sure enough genre and can hold tags"
    if n_new := len(file_rows) - len(valid):
        text += f"; {n_new:,} are new or changed since the scan (scan them again)"
    if n_have:
        text += f"; {n_have:,} keep the {tagging.field} that they have (--replace overwrites it)"
    if not is_agreed:
        for file, before, genres in changes:
            shown = ", ".join(f"{genre} ({file.known[f'p_{genre}']:.0%})" for genre in genres)
            print(f"{file.path}: {', '.join(before.values) or 'none'} -> {shown}")
        text += f". {len(changes):,} to write. No file was changed. Add --yes to write."
        return "\n".join([text, *left])
    n_written = 0
    with DecoderPool(1) as pool, PartWriter(parts, rows.schema) as writer:
        for change in tqdm(changes, unit=" files", desc="tags"):
            file = change[0]
            try:
                writer.append(file.known | _write(pool, change, tagging.field, log))
                n_written += 1
            except (InputError, OSError) as error:
                left.append(f"{file.path}: {error}")
    text += f": {n_written:,} written, {len(left):,} left unchanged."
    if n_written:
        text += f" --undo restores them from {log}."
    return "\n".join([text, *left])


def _changes(files: list[File], tagging: Tagging) -> tuple[list[Change], int, list[str]]:
    """Return the changes, how many files have a value, and why tags could not be read."""
    changes, n_have, left = [], 0, []
    calls = ((file, (os.path.realpath(file.location), tagging.field)) for file in files)
    with DecoderPool(joblib.cpu_count()) as pool:
        for file, field in run_in_pool(pool, read_field, calls, TIMEOUT):
            genres = tagging.genres(file.known)
            if isinstance(field, Exception):
                left.append(f"{file.path}: {field}")
            elif not tagging.is_empty(field.values) and not tagging.replace:
                n_have += 1
            elif field.values not in (genres, _to_write(genres, field)):
                changes.append((file, field, genres))
    return sorted(changes, key=lambda change: change[0].path), n_have, sorted(left)


def _to_write(genres: list[str], before: Field) -> list[str]:
    return [SEPARATOR.join(genres)] if before.is_single else genres


def _write(pool: DecoderPool, change: Change, field: str, log: Path) -> Row:
    """Change one file. Returns the new values of its row."""
    file, before, genres = change
    status = os.stat(file.location)
    if (status.st_size, status.st_mtime_ns) != (file.size, file.version):
        raise TagError("it changed since it was scanned: scan it again")
    entry = {"path": file.path, "field": field, "stored": before.stored, "written": genres}
    with log.open("ab") as lines:  # the previous line may be incomplete
        lines.write(b"\n" + json.dumps(entry).encode() + b"\n")
        lines.flush()
        os.fsync(lines.fileno())
    path = os.path.realpath(file.location)
    sha256 = _replace(pool, path, _to_write(genres, before), field)
    return _new_in_row(file.location, sha256)


def _new_in_row(path: str, sha256: str) -> Row:
    status = os.stat(path)
    return {"size": status.st_size, "version": status.st_mtime_ns, "sha256": sha256}


def _replace(pool: DecoderPool, path: str, values: list[str] | None, field: str) -> str:
    """Replace a file, which is not a link, by an edited copy. Returns the copy's SHA-256.

    Raises:
        TagError: the file cannot be edited without changing more than the tag.
    """
    before, copy = os.stat(path), _copy_of(path)
    if before.st_nlink > 1:
        raise TagError("it has other hard links, which would keep the old tags")
    try:
        arguments = [path, copy, values, field]
        sha256 = result(pool.schedule(edit_copy, args=arguments, timeout=TIMEOUT))
        if (os.stat(copy).st_uid, os.stat(copy).st_gid) != (before.st_uid, before.st_gid):
            os.chown(copy, before.st_uid, before.st_gid)
        shutil.copystat(path, copy)
        os.utime(copy)
        now = os.stat(path)
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise TagError("something else is changing it")
        os.replace(copy, path)
        return sha256
    finally:
        Path(copy).unlink(missing_ok=True)


def _copy_of(path: str) -> str:
    """Where the copy of a file is edited. After a kill, the next run overwrites or removes it."""
    file = Path(path)
    return str(file.with_name(f".{file.stem}{COPY_MARK}{file.suffix}"))


# --- undo -----------------------------------------------------------------------------------


def undo_tags(found: Found, log: Path, parts: Path, labels: Sequence[str]) -> str:
    """Restore the old values. Returns a summary for people.

    A file that something else has changed since is left unchanged, and stays in the log. If no file
    had to be changed, the whole log is kept: these may be other files with the same names.

    Args:
        parts: of the scan with these labels; gets rows with the files' new sizes and times.

    Raises:
        InputError: there is no such log, or the root differs from that of the scan.
    """
    if not log.is_file():
        raise InputError(f"There is nothing to undo: there is no log {log}.")
    undone, kept, left, n_changed = set(), {}, {}, 0
    table = read_rows(parts, labels)
    check_same_root(found, table)
    rows = {row["path"]: row for row in rows_in(table)}
    with DecoderPool(1) as pool, PartWriter(parts, schema_of(labels)) as writer:
        for entry in tqdm(read_log(log)[::-1], unit=" changes", desc="undo"):  # the last one first
            path = os.path.realpath(found.location(entry["path"]))
            key = entry["path"], entry["field"]
            try:
                sha256 = _undo(pool, path, entry)
                undone.add(entry["path"])
                if sha256 is None:  # a killed undo got this far: later changes are undone
                    kept.pop(key, None)
                    left.pop(key, None)
                    continue
                n_changed += 1
                if row := rows.get(entry["path"]):
                    writer.append(row | _new_in_row(path, sha256))
            except (InputError, OSError) as error:
                left[key] = f"{entry['path']}: {error}"
                kept.setdefault(key, []).insert(0, entry)
    messages = {path: message for (path, _), message in left.items()}
    n_undone = len(undone - messages.keys())
    text = f"{n_undone:,} files have their old tags again, {len(messages):,} were left unchanged."
    if not n_changed:
        text += f" No file had to be changed, so {log} is kept."
    elif kept:
        with replacing(log) as file:
            for entries in reversed(kept.values()):
                file.writelines(json.dumps(entry).encode() + b"\n" for entry in entries)
    else:
        log.unlink()
    return "\n".join([text, *messages.values()])


def _undo(pool: DecoderPool, path: str, entry: dict[str, Any]) -> str | None:
    """Undo one change. Returns the file's SHA-256, or None if there was nothing to undo."""
    field = entry["field"]
    now = result(pool.schedule(read_field, args=[path, field], timeout=TIMEOUT))
    # A kill came before the change or after its undo. Other tags may have been added meanwhile.
    if (now.stored or None) == (entry["stored"] or None):
        Path(_copy_of(path)).unlink(missing_ok=True)
        return None
    if now.stored in (entry["written"], [SEPARATOR.join(entry["written"])]):
        return _replace(pool, path, entry["stored"], field)
    raise TagError("something else changed it since")


def read_log(log: Path) -> list[dict[str, Any]]:
    """Read the log. An incomplete line, from a crash, is skipped: its file was not changed yet."""
    entries = []
    for line in log.read_bytes().splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
