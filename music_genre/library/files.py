"""Find the audio files of a music library, each named by its path below the scanned folder.

    found = find_files(["/mnt/music"], exclude=["Podcasts"])
    found = find_files(["s3://bucket/music"])
    found.files["path"], found.unreadable

Because of these names, a library keeps its rows when it is moved or mounted elsewhere.
"""

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from music_genre.audio import BINS, SUFFIXES
from music_genre.errors import InputError
from music_genre.library.object_store import is_url, list_objects

# A file's version is its modification time in nanoseconds; for objects, see object_store.py.
FILES = pa.schema([("path", pa.string()), ("size", pa.int64()), ("version", pa.int64())])
Rows = dict[str, tuple]  # rows of FILES, by path


@dataclass
class Found:
    """The files below some roots.

    files: with the schema FILES, sorted by path.
    kinds: suffix -> number of files that are read; `other_kinds`: that are not.
    unreadable: path of a folder or file below the root -> why it cannot be read.
    links: linked folders; they are not followed.
    names: path -> name in the object store, or the system's name if that is not valid text.
    """

    base: str
    files: pa.Table = field(default_factory=FILES.empty_table)
    kinds: Counter[str] = field(default_factory=Counter)
    other_kinds: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def location(self, path: str) -> str:
        """Where a file is on this machine, or its name in the object store."""
        name = self.names.get(path, path)
        return name if is_url(self.base) else os.path.join(self.base, name)

    def name_of(self, location: str) -> str:
        """The path below the root; bytes that are not UTF-8 become escapes such as \\xef."""
        below = os.path.relpath(location, self.base)
        text = os.fsencode(below).decode("utf-8", "backslashreplace")
        if text != below:
            self.names[text] = below
        return text.replace(os.sep, "/")

    def note(self, error: OSError) -> None:
        """Note a folder or file that cannot be read this time."""
        self.unreadable[self.name_of(error.filename)] = error.strerror or str(error)


def find_files(roots: Sequence[str | Path], exclude: Sequence[str] = ()) -> Found:
    """Find all audio files below folders, by their suffix, and files given by name.

    Hidden files and folders, bins, linked folders and broken links are left out.

    Args:
        roots: must exist. Paths are relative to the folder that holds them all. The URL of a folder
            in an object store must be the only root.
        exclude: patterns such as `Podcasts` or `*/live/*`, for names and for paths below the root.

    Raises:
        InputError: there are no files, they are on several drives, or a store cannot be listed.
    """
    patterns = [posixpath.normpath(one) for one in exclude]  # a shell completes to "Podcasts/"
    in_store = any(map(is_url, roots))
    found, rows = (_find_objects if in_store else _find_here)(roots, patterns)
    if not rows and not found.unreadable:
        names = ", ".join(map(str, roots))
        raise InputError(f"There are no audio files in {names}.{describe_others(found)}")
    found.kinds.update(map(_suffix, rows))
    columns = zip(*sorted(rows.values()), strict=True) if rows else [[]] * len(FILES)
    found.files = pa.table([list(column) for column in columns], schema=FILES)
    return found


def _find_objects(roots: Sequence[str | Path], patterns: Sequence[str]) -> tuple[Found, Rows]:
    if len(roots) > 1:
        raise InputError("A folder in an object store is scanned alone: name no other PATH.")
    found, rows = Found(str(roots[0]).rstrip("/")), {}
    for path, name, size, version in list_objects(found.base):
        with_folders = accumulate(path.split("/"), "{}/{}".format)
        if all(_is_wanted(one, patterns) for one in with_folders) and _is_audio(path, found):
            rows[path] = (path, size, version)
            found.names[path] = name
    return found, rows


def _find_here(roots: Sequence[str | Path], patterns: Sequence[str]) -> tuple[Found, Rows]:
    tops = [os.path.abspath(root) for root in roots]
    folders = [top if os.path.isdir(top) else os.path.dirname(top) for top in tops]
    try:
        found = Found(os.path.commonpath(folders))
    except ValueError as error:
        raise InputError("The folders are on several drives: scan each drive by itself.") from error
    rows = {}
    for top in tops:
        for location in [top] if os.path.isfile(top) else _walk(top, found, patterns):
            try:
                status = os.stat(location)
            except FileNotFoundError:  # a broken link is not a failing drive
                continue
            except OSError as error:
                found.note(error)
                continue
            if not stat.S_ISREG(status.st_mode):  # reading a pipe may block
                continue
            name = found.name_of(location)
            rows[name] = (name, status.st_size, status.st_mtime_ns)
    return found, rows


def _walk(top: str, found: Found, patterns: Sequence[str]) -> Iterator[str]:
    def is_wanted(folder: str, name: str) -> bool:
        return _is_wanted(os.path.relpath(os.path.join(folder, name), found.base), patterns)

    for folder, subfolders, names in os.walk(top, onerror=found.note):
        subfolders[:] = [one for one in subfolders if is_wanted(folder, one)]
        locations = [os.path.join(folder, one) for one in subfolders]
        found.links += [found.name_of(one) for one in locations if os.path.islink(one)]
        for name in names:
            if is_wanted(folder, name) and _is_audio(name, found):
                yield os.path.join(folder, name)


def _is_wanted(path: str, patterns: Sequence[str]) -> bool:
    """path: of a file or folder, below the root."""
    name = os.path.basename(path)
    # Compare for equality, too: brackets in an album's name are sets of letters in a pattern.
    is_left_out = any(
        one in (name, path) or fnmatch(name, one) or fnmatch(path, one) for one in patterns
    )
    return not (is_left_out or name.startswith(".") or name.lower() in BINS)


def _is_audio(path: str, found: Found) -> bool:
    """Decide by the suffix; files of other kinds are counted."""
    is_audio = _suffix(path) in SUFFIXES
    if not is_audio:
        found.other_kinds[_suffix(path)] += 1
    return is_audio


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def describe_kinds(kinds: Counter[str]) -> str:
    """The commonest kinds, such as `12 .jpg, 3 .txt`."""
    commonest = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))[:12]
    return ", ".join(f"{n:,} {kind or 'without a suffix'}" for kind, n in commonest)


def describe_others(found: Found) -> str:
    """What was left out, and why, for people."""
    text = ""
    if found.other_kinds:
        text += f"\nFiles of kinds that are not read: {describe_kinds(found.other_kinds)}."
    if found.links:
        names = ", ".join(found.links[:3])
        text += f"\n{len(found.links):,} linked folders were not followed: {names}. To scan them, "
        text += "name them as well."
    return text
