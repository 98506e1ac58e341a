"""Find the audio files of a music library, each named by its path below the scanned folder.

    found = find_files([Path("~/Music").expanduser()], exclude=["Podcasts"])
    found.files["path"], found.unreadable

So a library keeps its rows when it is moved, or mounted elsewhere.
"""

import errno
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa

from music_genre.audio import BINS, SUFFIXES
from music_genre.errors import InputError

FILES = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])


@dataclass
class Found:
    """What is below some roots.

    files: of FILES, sorted by path.
    kinds: how many files of each suffix are read; `other_kinds`, are not.
    unreadable: folders and files that the system did not show: paths below the root, and why.
    links: linked folders; they are not followed.
    odd_names: of names that are no text: what stands for one -> as the system has it.
    """

    base: str
    files: pa.Table = field(default_factory=FILES.empty_table)
    kinds: Counter[str] = field(default_factory=Counter)
    other_kinds: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    odd_names: dict[str, str] = field(default_factory=dict)

    def location(self, path: str) -> str:
        return os.path.join(self.base, self.odd_names.get(path, path))

    def name_of(self, location: str) -> str:
        """The path below the root; bytes that are not UTF-8 become escapes such as \\xef."""
        below = os.path.relpath(location, self.base)
        text = os.fsencode(below).decode("utf-8", "backslashreplace")
        if text != below:
            self.odd_names[text] = below
        return text.replace(os.sep, "/")

    def note(self, error: OSError) -> None:
        """Something cannot be read this time."""
        self.unreadable[self.name_of(error.filename)] = error.strerror or str(error)


def find_files(roots: Sequence[Path], exclude: Sequence[str] = ()) -> Found:
    """All audio files below folders, by their suffix, and files given by name.

    Hidden files and folders, bins and linked folders are left out.

    Args:
        roots: that are there. Paths are below the folder that holds them all.
        exclude: patterns such as `Podcasts` or `*/live/*`, for names and for paths below the root.

    Raises:
        InputError: there are no files, or they are on several drives.
    """
    tops = [os.path.abspath(root) for root in roots]
    folders = [top if os.path.isdir(top) else os.path.dirname(top) for top in tops]
    try:
        found = Found(os.path.commonpath(folders))
    except ValueError as error:
        raise InputError("The folders are on several drives: scan each drive by itself.") from error
    rows = {}
    for top in tops:
        for location in [top] if os.path.isfile(top) else _walk(top, found, exclude):
            found.kinds[_suffix(location)] += 1
            name = found.name_of(location)
            rows[name] = (name, *_size_and_time(location, found))
    if not rows and not found.unreadable:
        raise InputError(f"There are no audio files in {', '.join(tops)}.{describe_others(found)}")
    columns = zip(*sorted(rows.values()), strict=True) if rows else [[]] * len(FILES)
    found.files = pa.table([list(column) for column in columns], schema=FILES)
    return found


def _walk(top: str, found: Found, exclude: Sequence[str]) -> Iterator[str]:
    patterns = [posixpath.normpath(one) for one in exclude]  # a shell completes to "Podcasts/"

    def is_wanted(folder: str, name: str) -> bool:
        below = os.path.relpath(os.path.join(folder, name), found.base)
        is_left_out = any(fnmatch(name, one) or fnmatch(below, one) for one in patterns)
        return not (is_left_out or name.startswith(".") or name.lower() in BINS)

    for folder, subfolders, names in os.walk(top, onerror=found.note):
        subfolders[:] = [one for one in subfolders if is_wanted(folder, one)]
        locations = [os.path.join(folder, one) for one in subfolders]
        found.links += [found.name_of(one) for one in locations if os.path.islink(one)]
        for name in names:
            if is_wanted(folder, name):
                if _suffix(name) in SUFFIXES:
                    yield os.path.join(folder, name)
                else:
                    found.other_kinds[_suffix(name)] += 1


def _size_and_time(location: str, found: Found) -> tuple[int | None, int | None]:
    try:
        status = os.stat(location)
    except OSError as error:
        if error.errno != errno.ENOENT:  # a link to nothing is no trouble of a drive
            found.note(error)
        return None, None
    return status.st_size, status.st_mtime_ns


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
