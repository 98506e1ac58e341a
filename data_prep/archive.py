"""Read archives of music safely, without extracting them: zip, tar (also compressed) or a folder.

`members_of(path)` yields one `Member` per file that can be audio or a table. Nothing is written to
disk, so a name such as ../../x has no effect. Sizes in headers are not trusted: MAX_MEMBER_BYTES
limits how much of a member is inflated, MAX_MEMBERS and MAX_TOTAL_BYTES limit a whole archive.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from music_genre import audio
from music_genre.errors import InputError, first_line

MARKER = "SYNTHETIC_MUSIC.txt"  # a file with this name marks an archive of synthesised music
MAX_MEMBER_BYTES = 64 * 2**20  # a minute of 24-bit stereo at 96 kHz is 35 MB
MAX_MEMBERS = 100_000  # the Kaggle zip has 2,000
MAX_TOTAL_BYTES = 8 * 2**30  # the Kaggle zip unpacks to 1.4 GB
MAX_HEADER_BYTES = 2**20  # of a header in a tar, such as a long name

ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})


class MemberError(InputError):
    """A member cannot be read; the message says why."""


@dataclass(frozen=True)
class Member:
    """A file of a source. It can be sent to another process and read there."""

    name: str
    path: Path | None = None  # of a file on disk, which need not be read as a whole
    archive: Path | None = None  # the zip that holds it
    data: bytes | None = None  # its bytes, if they had to be read immediately
    start: float = 0.0  # where it begins, in seconds into its track
    problem: str = ""  # why it cannot be read

    def read(self) -> bytes:
        """Return its bytes. Raises MemberError: they cannot be read or exceed MAX_MEMBER_BYTES."""
        if self.problem:
            raise MemberError(self.problem)
        if self.data is not None:
            return self.data
        if self.archive:
            return _read_zipped(self.archive, self.name)
        return _read_file(self.path)

    @property
    def basename(self) -> str:
        return PurePosixPath(self.name.replace("\\", "/")).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.basename).suffix.lower()

    @property
    def is_clip(self) -> bool:
        return self.suffix in audio.SUFFIXES


def members_of(path: Path, suffixes: Set[str] = audio.SUFFIXES) -> Iterator[Member]:
    """Yield the audio files and the marker of an archive in its own order, without hidden files.

    `suffixes` are the suffixes of the files to yield besides the marker, e.g. {".png"}.

    Raises InputError: the path does not exist, is not an archive, is damaged, or is too large.
    """
    if path.is_dir():
        yield from _folder_members(path, suffixes)
        return
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder.")
    read = _zip_members if zipfile.is_zipfile(path) else _tar_members
    try:
        yield from read(path, suffixes)
    except InputError:
        raise
    except Exception as error:  # zipfile, tarfile and the decompressors raise many kinds
        raise InputError(
            f"{path} is damaged or cut off ({first_line(error)}): download it again."
        ) from error


def parts_of(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def _is_hidden(name: str) -> bool:
    """Whether a file is hidden, or in a recycle bin or another folder that systems create."""
    return any(
        part.casefold() in audio.BINS or (part.startswith(".") and part not in (".", ".."))
        for part in parts_of(name)
    )


def _is_wanted(name: str, suffixes: Set[str]) -> bool:
    is_kind = Member(name).suffix in suffixes or Member(name).basename == MARKER
    return is_kind and not _is_hidden(name)


def _check_size(path: Path, n_members: int, n_bytes: int) -> None:
    if n_members > MAX_MEMBERS or n_bytes > MAX_TOTAL_BYTES:
        raise InputError(
            f"{path} holds more than {MAX_MEMBERS:,} files or {MAX_TOTAL_BYTES / 2**30:.0f} GB: "
            "unpack it and give the folder, or prepare a part of it."
        )


def _read_bounded(file: IO[bytes]) -> bytes:
    """Read to the end, whatever size a header claims, but not beyond the limit."""
    data = file.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise MemberError(
            f"larger than {MAX_MEMBER_BYTES // 2**20} MB: unpack the archive, give the folder"
        )
    return data


def _zip_members(path: Path, suffixes: Set[str]) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    wanted = [e for e in entries if not e.is_dir() and _is_wanted(e.filename, suffixes)]
    # zipfile never inflates more of a file than the size in the list.
    sizes = (min(entry.file_size, MAX_MEMBER_BYTES + 1) for entry in wanted)
    _check_size(path, len(entries), sum(sizes))
    for entry in wanted:
        problem = "a link, not a file" if stat.S_ISLNK(entry.external_attr >> 16) else ""
        yield Member(entry.filename, archive=path, problem=problem)


@lru_cache(maxsize=1)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip once for all members that a process reads, because its list of files is long."""
    return zipfile.ZipFile(path)


def _read_zipped(path: Path, name: str) -> bytes:
    try:
        with _open_zip(path).open(name) as file:
            return _read_bounded(file)
    except MemberError:
        raise
    except Exception as error:
        raise MemberError(
            f"it cannot be unpacked ({first_line(error)}): unpack it yourself, give the folder"
        ) from error


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses large headers: tarfile reads long names and extended headers whole, at any size."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type not in tarfile.REGULAR_TYPES and info.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {info.size:,} bytes")
        return info


def _open_tar(path: Path) -> tarfile.TarFile:
    try:
        # "r|*" never seeks: a seek in a compressed stream would start again at the front.
        return tarfile.open(path, "r|*", tarinfo=_BoundedTarInfo)
    except Exception as error:
        raise InputError(
            f"{path} is not a source of music: give a folder with a folder per genre, a table of "
            "paths and genres (.csv, .tsv, .json, .jsonl, .parquet, .xlsx), or a zip or tar of "
            "these. If it is one of these, it is cut off: download it again."
        ) from error


def _tar_members(path: Path, suffixes: Set[str]) -> Iterator[Member]:
    n_members = n_bytes = 0
    with _open_tar(path) as archive:
        for info in archive:
            archive.members.clear()  # tarfile would keep every header
            n_members += 1
            n_bytes += info.size  # skipped members are inflated too
            _check_size(path, n_members, n_bytes)
            if info.isdir() or not _is_wanted(info.name, suffixes):
                continue
            if not info.isreg():
                yield Member(info.name, problem="a link or a device, not a file")
                continue
            try:  # read it now: the stream cannot go back
                yield Member(info.name, data=_read_bounded(archive.extractfile(info)))
            except MemberError as error:
                yield Member(info.name, problem=str(error))


def _folder_members(path: Path, suffixes: Set[str]) -> Iterator[Member]:
    """Follow each link to a folder once, except links to folders inside or above `path`."""
    root = path.resolve()
    seen = {root}

    def is_to_follow(folder: Path) -> bool:
        target = folder.resolve()
        is_around = target.is_relative_to(root) or root.is_relative_to(target)
        if target in seen or (folder.is_symlink() and is_around):
            return False
        seen.add(target)
        return True

    for folder, subfolders, names in os.walk(path, onerror=_refuse, followlinks=True):
        visible = (name for name in sorted(subfolders) if not _is_hidden(name))
        subfolders[:] = [name for name in visible if is_to_follow(Path(folder, name))]
        for file in sorted(Path(folder, name) for name in names):
            name = file.relative_to(path).as_posix()
            if _is_wanted(name, suffixes):
                yield Member(name, file)


def _refuse(error: OSError) -> None:
    raise InputError(
        f"{error.filename} cannot be read ({error.strerror}): change that, or move it elsewhere."
    ) from error


def _read_file(path: Path) -> bytes:
    if not path.is_file():  # a broken link, or a pipe that would block when opened
        raise MemberError("a broken link or a device, not a file")
    try:
        with path.open("rb") as file:
            return _read_bounded(file)
    except OSError as error:
        raise MemberError(f"cannot be read ({error.strerror})") from error
