"""Write genres into the files' own tags, and undo that to the last byte.

A genre that is there stays, unless it is to be replaced. A file is edited as a copy. The copy
replaces the file only after these checks: the compressed audio in it is the same, the original
can be made from it, and the log on the disk holds what that needs. `undo_tags` reads the log.
"""

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from music_genre.audio_files import packets_sha256
from music_genre.errors import InputError
from music_genre.library.fields import GENRE, SUFFIXES, TagError, read_field, set_field
from music_genre.library.patches import PatchError, apply_patch, make_patch
from music_genre.library.table import LineWriter, printable, replacing

COPY_MARK = ".genre-tag-copy"


@dataclass(frozen=True)
class Tagging:
    """What is written where."""

    thresholds: Mapping[str, float]  # genre -> its least probability; others are not written
    field: str = GENRE
    replace: bool = False  # also where the field has a value

    def is_sure(self, row: dict[str, Any]) -> bool:
        threshold = self.thresholds.get(row["genre"])
        return threshold is not None and max(row["probabilities"]) >= threshold


def write_tags(
    rows: Collection[dict[str, Any]],
    tagging: Tagging,
    log: Path,
    parts: Path,
    is_agreed: bool,
    show: Callable[[str], None] | None = None,
) -> str:
    """Write each row's genre into its file, where it is sure and the field is empty.

    Args:
        rows: of `library.scan`.
        log: for `undo_tags`.
        parts: gets the files' new sizes and times, so that the next scan knows the tagged files.
        is_agreed: otherwise no file is changed, and the files to change are counted.
        show: gets a line for each change that would be made; no file is changed.

    Returns:
        What happened, for people.
    """
    sure = [row for row in rows if row["genre"] and tagging.is_sure(row)]
    chosen = [row for row in sure if row["path"].lower().endswith(SUFFIXES)]
    left: list[str] = []
    empty, n_have = _without_value(chosen, tagging, left)
    counted = f"{len(chosen):,} of {len(rows):,} files have a genre that is sure enough"
    if len(sure) > len(chosen):
        counted += f" and can be tagged ({len(sure) - len(chosen):,} more have no such tags)"
    if n_have:
        counted += f"; {n_have:,} keep the {tagging.field} that they have (--replace overwrites it)"
    for row, before in empty if show else ():
        was = ", ".join(before) or "none"
        show(f"{printable(row['path'])}: {was} -> {row['genre']} ({max(row['probabilities']):.0%})")
    if show or not is_agreed:
        how = "" if show else " Add --yes to write the tags."
        return "\n".join([f"{counted}. {len(empty):,} to write. No file was changed.{how}", *left])
    n_written, n_had_it = 0, 0
    folders = sorted({os.path.dirname(os.path.realpath(row["path"])) for row, _ in empty})
    with _appending(log) as append, LineWriter(parts) as writer:
        append({"folders": folders})
        _remove_copies(folders)
        for row, _ in tqdm(empty, unit=" files", desc="tags"):
            try:
                status = tag_file(row, append, tagging.field)
            except (InputError, OSError) as error:
                left.append(f"{printable(row['path'])}: {error}")
                continue
            if status is None:
                n_had_it += 1
                continue
            writer.append(row | {"size": status.st_size, "mtime_ns": status.st_mtime_ns})
            n_written += 1
    text = f"{counted}: {n_written:,} written, {n_had_it:,} had it, {len(left):,} left unchanged."
    if n_written:
        text += f" --undo restores all of them from {log}."
    return "\n".join([text, *left])


def _without_value(
    rows: Iterable[dict[str, Any]], tagging: Tagging, left: list[str]
) -> tuple[list[tuple[dict[str, Any], list[str]]], int]:
    """The rows whose field may be written, each with its values, and how many others there are.

    Files whose tags cannot be read go into `left`, with the reason.
    """
    chosen, n_have = [], 0
    for row in rows:
        try:
            before = read_field(os.path.realpath(row["path"]), tagging.field)
        except (InputError, OSError) as error:
            left.append(f"{printable(row['path'])}: {error}")
            continue
        if before and not tagging.replace:
            n_have += 1
        else:
            chosen.append((row, before))
    return chosen, n_have


def tag_file(
    row: dict[str, Any], append: Callable[[dict[str, Any]], None], field: str = GENRE
) -> os.stat_result | None:
    """Write one row's genre into a field; `append` logs how to undo it.

    Returns:
        The file's new status, or None where it had that genre.

    Raises:
        TagError: it changed since it was scanned, or it cannot be tagged so that all of it but the
            tag stays the same and the tag can be undone.
    """
    path = os.path.realpath(row["path"])  # a link stays one
    before = os.stat(path)
    if (before.st_size, before.st_mtime_ns) != (row["size"], row["mtime_ns"]):
        raise TagError("it changed since it was scanned; the same command scans it again")
    if before.st_nlink > 1:
        raise TagError("it has other hard links, which would keep the old tags")
    with _copy_beside(path) as copy:
        shutil.copyfile(path, copy)
        _take_on(copy, before, path)
        genre_before = set_field(copy, row["genre"], field)
        if genre_before == [row["genre"]]:
            return None
        _sync(copy)
        entry = _log_entry(path, copy, before) | {
            "genre_before": genre_before,
            "genre": row["genre"],
        }
        if packets_sha256(path) != packets_sha256(copy):
            raise TagError("writing its tag would change more than the tag")
        now = os.stat(path)
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise TagError("something else is changing it")
        append(entry)
        os.replace(copy, path)
        _sync(os.path.dirname(path))
        return os.stat(path)


def _log_entry(path: str, copy: str, before: os.stat_result) -> dict[str, Any]:
    """What undoing needs, after a check that the original can be made from it."""
    try:
        patch = make_patch(path, copy)
    except PatchError as error:
        raise TagError("writing its tag would change too much to be undone") from error
    entry = {
        "path": path,
        "mtime_ns": before.st_mtime_ns,
        "sha256_before": _sha256(path),
        "sha256": _sha256(copy),
        **patch,
    }
    undone = hashlib.sha256()
    for block in apply_patch(copy, entry):
        undone.update(block)
    if undone.hexdigest() != entry["sha256_before"]:
        raise TagError("writing its tag could not be undone")
    return entry


def undo_tags(log: Path) -> str:
    """Restore all files of a log, the last change first. Returns what happened, for people.

    A file that something else changed since is left as it is, and stays in the log.

    Raises:
        InputError: there is no such log.
    """
    if not log.is_file():
        raise InputError(f"There is nothing to undo: there is no log {log}.")
    lines = list(_read(log))
    _remove_copies({folder for line in lines for folder in line.get("folders", ())})
    entries = [line for line in lines if "sha256" in line]
    earlier = defaultdict(list)  # by path, what the file was before each entry up to this one
    for entry in entries:
        earlier[entry["path"]].append(entry["sha256_before"])
    n_restored, kept, left = 0, [], []
    for entry in tqdm(entries[::-1], unit=" files", desc="undo"):
        try:
            _undo(entry, earlier[entry["path"]])
            n_restored += 1
        except (TagError, OSError) as error:
            left.append(f"{printable(entry['path'])}: {error}")
            kept.insert(0, entry)
        earlier[entry["path"]].pop()
    _keep(log, kept)
    return "\n".join([f"{n_restored:,} tags were undone, {len(left):,} were not.", *left])


def _undo(entry: dict[str, Any], earlier: Collection[str]) -> None:
    path = entry["path"]
    with _copy_beside(path) as copy:
        found = _sha256(path)
        if found != entry["sha256"]:
            if found in earlier:
                return  # a kill came before the change that was logged, or after it was undone
            raise TagError("something else changed it since")
        with open(copy, "wb") as file:
            file.writelines(apply_patch(path, entry))
        if _sha256(copy) != entry["sha256_before"]:
            raise TagError("the log does not fit it")
        now = os.stat(path)
        _take_on(copy, now, path)
        os.utime(copy, ns=(now.st_atime_ns, entry["mtime_ns"]))
        _sync(copy)
        os.replace(copy, path)
        _sync(os.path.dirname(path))


# --- files ----------------------------------------------------------------------------------


@contextmanager
def _copy_beside(path: str) -> Iterator[str]:
    """The path of a copy to work on, in the same folder; removed afterwards."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    copy = os.path.join(folder, f".{stem}{COPY_MARK}{suffix}")
    try:
        yield copy
    finally:
        if os.path.lexists(copy):
            os.remove(copy)


def _take_on(copy: str, status: os.stat_result, path: str) -> None:
    """Give a copy the owner, mode and extended attributes of a file."""
    if (os.stat(copy).st_uid, os.stat(copy).st_gid) != (status.st_uid, status.st_gid):
        os.chown(copy, status.st_uid, status.st_gid)
    shutil.copystat(path, copy)


def _remove_copies(folders: Iterable[str]) -> None:
    """Remove the copies that a kill left behind."""
    for folder in folders:
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


def _read(log: Path) -> Iterator[dict[str, Any]]:
    with log.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:  # incomplete after a crash: its file was not changed yet
                continue


def _keep(log: Path, entries: Sequence[dict[str, Any]]) -> None:
    if not entries:
        log.unlink()
        return
    with replacing(log) as file:
        file.writelines(json.dumps(entry).encode() + b"\n" for entry in entries)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
