"""Write genres into the files' own tags, and take them back to the last byte.

ID3 (MP3), Vorbis comments (FLAC, Ogg, Opus) and MP4, by mutagen. A file is edited as a copy; before
the copy takes the file's place, it is checked that the compressed audio in it is the same and that
the original can be made from it, and what that needs is on the disk in a log. `undo_tags` reads it.
"""

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from music_genre import audio
from music_genre.errors import InputError
from music_genre.library.results import Part, printable, replacing

TAGGED_SUFFIXES = (".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".m4b")
TAGGED_TYPES = ("EasyMP3", "EasyMP4", "FLAC", "OggVorbis", "OggOpus", "OggFLAC")  # of mutagen
COPY_MARK = ".genre-tag-copy"
MAX_PATCH = 2**20  # bytes of a file that a tag may change, beside what it moves
BLOCK = 2**24  # bytes compared at a time
NEAR = 64  # bytes; changes that lie closer are noted as one


class TagError(InputError):
    """A file that is left as it is, with the reason."""


def write_tags(
    rows: Collection[dict[str, Any]], min_confidence: float, is_agreed: bool, log: Path, parts: Path
) -> str:
    """Write each row's genre into its file, where the genre is at least so probable.

    Args:
        rows: of `library.scan`.
        is_agreed: else nothing is changed, and what would be is counted.
        log: where `undo_tags` will read.
        parts: gets the files' new sizes and times, so that the next scan need not hear them again.

    Returns:
        What happened, for people.
    """
    from tqdm import tqdm

    sure = [row for row in rows if row["genre"] and max(row["probabilities"]) >= min_confidence]
    chosen = [row for row in sure if row["path"].lower().endswith(TAGGED_SUFFIXES)]
    counted = f"{len(chosen):,} of {len(rows):,} files have a genre of {min_confidence:.0%} or more"
    if len(sure) > len(chosen):
        counted += f" and tags to write it in ({len(sure) - len(chosen):,} more have no such tags)"
    if not is_agreed:
        return f"{counted}. No file was changed: --yes lets --write-tags do it."
    n_written, n_had_it, left = 0, 0, []
    folders = sorted({os.path.dirname(os.path.realpath(row["path"])) for row in chosen})
    with _appending(log) as append, Part(parts) as part:
        append({"folders": folders})
        _sweep(folders)
        for row in tqdm(chosen, unit=" files", desc="tags"):
            try:
                status = tag_file(row, append)
            except (InputError, OSError) as error:
                left.append(f"{printable(row['path'])}: {error}")
                continue
            if status is None:
                n_had_it += 1
                continue
            part.append(row | {"size": status.st_size, "mtime_ns": status.st_mtime_ns})
            n_written += 1
    text = f"{counted}: {n_written:,} written, {n_had_it:,} had it, {len(left):,} left as they are."
    if n_written:
        text += f" --undo takes all back, by {log}."
    return "\n".join([text, *left])


def tag_file(
    row: dict[str, Any], append: Callable[[dict[str, Any]], None]
) -> os.stat_result | None:
    """Write one row's genre; `append` keeps how to undo it.

    Returns:
        The file's new status, or None where it had that genre.

    Raises:
        TagError: it changed since it was heard, cannot be tagged, or not so that it can be undone.
    """
    path = os.path.realpath(row["path"])  # a link stays one
    before = os.stat(path)
    if (before.st_size, before.st_mtime_ns) != (row["size"], row["mtime_ns"]):
        raise TagError("it changed since it was heard; the same command hears it again")
    if before.st_nlink > 1:
        raise TagError("it has other hard links, which would keep the old tags")
    with _beside(path) as copy:
        shutil.copyfile(path, copy)
        _take_on(copy, before, path)
        genre_before = _set_genre(copy, row["genre"])
        if genre_before == [row["genre"]]:
            return None
        _sync(copy)
        patch = make_patch(path, copy)
        entry = {
            "path": path,
            "genre_before": genre_before,
            "genre": row["genre"],
            "mtime_ns": before.st_mtime_ns,
            "sha256_before": _sha256(path),
            "sha256": _sha256(copy),
            **patch,
        }
        undone = hashlib.sha256()
        for part in patched(copy, entry):
            undone.update(part)
        if undone.hexdigest() != entry["sha256_before"]:
            raise TagError("writing its tag could not be undone")
        if audio.packets_sha256(path) != audio.packets_sha256(copy):
            raise TagError("writing its tag would change more than the tag")
        now = os.stat(path)
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise TagError("something else is changing it")
        append(entry)
        os.replace(copy, path)
        _sync(os.path.dirname(path))
        return os.stat(path)


def _set_genre(path: str, genre: str) -> list[str]:
    """Returns the genres it had."""
    import mutagen

    try:
        file = mutagen.File(path, easy=True)
        if type(file).__name__ not in TAGGED_TYPES:
            raise TagError("no tags are known for what is in it")
        if file.tags is None:
            file.add_tags()
        before = [str(value) for value in file.get("genre", [])]
        if before != [genre]:
            file["genre"] = [genre]
            # Players of the time of ID3v2.3 do not read 2.4: a tag stays what it was.
            is_old = type(file).__name__ == "EasyMP3" and _begins_with(path, b"ID3\x03")
            file.save(**({"v2_version": 3} if is_old else {}))
        return before
    except TagError:
        raise
    except Exception as error:  # whatever mutagen makes of broken tags
        raise TagError(f"its tags cannot be written ({type(error).__name__}: {error})") from error


def _begins_with(path: str, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def undo_tags(log: Path) -> str:
    """Make all files of a log what they were, the last change first. Returns what happened.

    A file that was changed since by others is left as it is, and stays in the log.

    Raises:
        InputError: there is no such log.
    """
    from tqdm import tqdm

    if not log.is_file():
        raise InputError(f"There is nothing to undo: no tags were written by {log}.")
    lines = list(_read(log))
    _sweep({folder for line in lines for folder in line.get("folders", ())})
    entries = [line for line in lines if "sha256" in line]
    n_done, kept, left = 0, [], []
    for entry in tqdm(entries[::-1], unit=" files", desc="undo"):
        try:
            _undo(entry)
            n_done += 1
        except (TagError, OSError) as error:
            left.append(f"{printable(entry['path'])}: {error}")
            kept.insert(0, entry)
    _keep(log, kept)
    return "\n".join([f"{n_done:,} files are what they were, {len(left):,} are left.", *left])


def _undo(entry: dict[str, Any]) -> None:
    path = entry["path"]
    with _beside(path) as copy:
        found = _sha256(path)
        if found == entry["sha256_before"]:
            return  # the change was logged, and the program killed before it was made
        if found != entry["sha256"]:
            raise TagError("something else changed it since")
        with open(copy, "wb") as file:
            file.writelines(patched(path, entry))
        if _sha256(copy) != entry["sha256_before"]:
            raise TagError("the log does not fit it")
        now = os.stat(path)
        _take_on(copy, now, path)
        os.utime(copy, ns=(now.st_atime_ns, entry["mtime_ns"]))
        _sync(copy)
        os.replace(copy, path)
        _sync(os.path.dirname(path))


# --- what an original needs to be made from its tagged copy -------------------------------------


def make_patch(original: str, changed: str) -> dict[str, Any]:
    """How to make a file from one with another tag.

    Tags lie before the audio, behind it, or both; what lies behind a tag that grew is moved. So the
    original is the changed file without `skip` bytes after the first `head`, or with `insert` zeros
    there, and over that `patches`: [offset in the original, bytes in base64].

    Raises:
        TagError: they differ in more than MAX_PATCH bytes.
    """
    a, b = _mapped(original), _mapped(changed)
    grown = len(b) - len(a)
    patch = {"head": _n_common(a, b), "skip": max(0, grown), "insert": max(0, -grown)}
    patches, offset, n_bytes = [], 0, 0
    for part in _moved_back(b, patch):
        for start, end in _differences(a[offset : offset + len(part)], part):
            data = a[offset + start : offset + end].tobytes()
            patches.append([offset + start, base64.b64encode(data).decode()])
            n_bytes += len(data)
            if n_bytes > MAX_PATCH:
                raise TagError("writing its tag would change too much to be undone")
        offset += len(part)
    return patch | {"patches": patches}


def patched(changed: str, patch: dict[str, Any]) -> Iterator[bytes]:
    """Yield the original in parts; `make_patch` explains."""
    patches = [(offset, base64.b64decode(text)) for offset, text in patch["patches"]]
    at = 0
    for part in _moved_back(_mapped(changed), patch):
        block = bytearray(part)
        for offset, data in patches:
            first, last = max(offset, at), min(offset + len(data), at + len(block))
            if first < last:
                block[first - at : last - at] = data[first - offset : last - offset]
        yield bytes(block)
        at += len(block)


def _moved_back(changed: np.ndarray, patch: dict[str, Any]) -> Iterator[np.ndarray]:
    """The changed file with what is behind its tag where that was, in blocks; uint8."""
    head = patch["head"]
    inserted = np.zeros(patch["insert"], np.uint8)
    for part in (changed[:head], inserted, changed[head + patch["skip"] :]):
        for start in range(0, len(part), BLOCK):
            yield part[start : start + BLOCK]


def _n_common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of what two files begin with alike."""
    n = min(len(a), len(b))
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        differs = a[start:stop] != b[start:stop]
        if differs.any():
            return start + int(differs.argmax())
    return n


def _differences(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int]]:
    """Runs in which arrays of one length differ: from where to where; near ones as one."""
    where = np.flatnonzero(a != b)
    if len(where):
        for run in np.split(where, np.flatnonzero(np.diff(where) > NEAR) + 1):
            yield int(run[0]), int(run[-1]) + 1


# --- files ----------------------------------------------------------------------------------


def _mapped(path: str) -> np.ndarray:
    """A file's bytes, uint8, of which only what is looked at is read."""
    return np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.zeros(0, np.uint8)


@contextmanager
def _beside(path: str) -> Iterator[str]:
    """The name of a copy to work on, which is gone afterwards."""
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
    os.utime(copy)  # players look for files that are newer


def _sweep(folders: Iterable[str]) -> None:
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
            file.write(b"\n")  # the last line may be torn; empty ones are no harm

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
            except ValueError:  # torn by a crash: the file it speaks of was not yet changed
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
