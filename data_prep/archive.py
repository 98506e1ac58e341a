"""Read archives of music safely, without extracting them: zip, tar (also compressed) or a folder.

`open_archive(path)` yields one `Member` per file that can be audio or a table. Nothing is written
to disk, so a name such as ../../x has no effect. Sizes in headers are not trusted: reads are
bounded by MAX_MEMBER_BYTES, whole archives by MAX_MEMBERS and MAX_TOTAL_BYTES.
"""

import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from music_genre import old_audio as audio
from music_genre.errors import InputError

FEATURE_TABLES = {"features_30_sec.csv", "features_3_sec.csv"}
MARKER = "SYNTHETIC_MUSIC.txt"  # a file of this name marks an archive of synthesised music
MAX_MEMBER_BYTES = 64 * 2**20  # a minute of 24-bit stereo at 96 kHz is 35 MB
MAX_MEMBERS = 100_000  # the Kaggle zip has 2,000
MAX_TOTAL_BYTES = 8 * 2**30  # the Kaggle zip unpacks to 1.4 GB

BROKEN_ARCHIVE = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError,
    struct.error, RuntimeError, ValueError, OverflowError,
)  # fmt: skip


class ArchiveError(InputError):
    """An archive that cannot be used at all; the message names it and says what to do."""


class MemberError(InputError):
    """One member that cannot be read; the message says why."""


@dataclass(frozen=True)
class Member:
    """A file inside an archive. `read()` returns its bytes or raises MemberError, in any thread.

    `path` is where it lies on the disk, if it is a file in a folder: it need not be read whole.
    """

    name: str
    read: Callable[[], bytes]
    path: Path | None = None

    @property
    def basename(self) -> str:
        return PurePosixPath(self.name.replace("\\", "/")).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.basename).suffix.lower()

    @property
    def is_clip(self) -> bool:
        return self.suffix in audio.SUFFIXES


@contextmanager
def open_archive(path: Path, suffixes: Set[str] = audio.SUFFIXES) -> Iterator[Iterator[Member]]:
    """Open an archive for its audio, feature tables and marker, in the archive's own order.

    Members can be read, in any thread, until the context ends.

    Args:
        suffixes: of the files that are wanted besides tables and marker, e.g. {".png"}.

    Raises:
        ArchiveError: there is no such file, it is not an archive, or it is damaged, or too large;
            the iterator raises it, too.
    """
    with ExitStack() as stack:
        budget, wanted = _Budget(path), partial(_wanted, suffixes)
        if path.is_dir():
            members = _folder_members(path, budget, wanted)
        elif not path.is_file():
            raise ArchiveError(f"{path}: there is no such file or folder.")
        elif zipfile.is_zipfile(path):
            with _damage_named(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
            members = _zip_members(archive, budget, wanted)
        else:
            members = _tar_members(stack.enter_context(_open_tar(path)), budget, wanted)
        yield _until_damage(members, path)


def _until_damage(members: Iterator[Member], path: Path) -> Iterator[Member]:
    with _damage_named(path):
        yield from members


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except ArchiveError:
        raise
    except BROKEN_ARCHIVE as error:
        raise ArchiveError(
            f"{path} is damaged or cut off ({_first_line(error)}): download it again."
        ) from error


def _wanted(suffixes: Set[str], name: str) -> bool:
    basename = PurePosixPath(name.replace("\\", "/")).name
    if "__MACOSX" in name or basename.startswith("._"):  # litter of the macOS Finder
        return False
    suffix = PurePosixPath(basename).suffix.lower()
    return suffix in suffixes or basename in FEATURE_TABLES or basename == MARKER


class _Budget:
    """Counts what was read from an archive, and refuses an archive that is too large."""

    def __init__(self, path: Path) -> None:
        self.path, self.members, self.bytes = path, 0, 0

    def spend(self, members: int = 0, n_bytes: int = 0) -> None:
        self.members += members
        self.bytes += n_bytes
        if self.members > MAX_MEMBERS or self.bytes > MAX_TOTAL_BYTES:
            raise ArchiveError(
                f"{self.path} holds more than {MAX_MEMBERS:,} files or "
                f"{MAX_TOTAL_BYTES / 2**30:.0f} GB: prepare a part of it, or list the files to use "
                "in a table."
            )

    def read(self, file: IO[bytes]) -> bytes:
        """Read a member to its end, whatever size its header has, but not beyond the limit."""
        data = file.read(MAX_MEMBER_BYTES + 1)
        self.spend(n_bytes=len(data))
        if len(data) > MAX_MEMBER_BYTES:
            raise MemberError(
                f"larger than {MAX_MEMBER_BYTES // 2**20} MB: unpack the archive, give the folder"
            )
        return data


def _zip_members(
    archive: zipfile.ZipFile, budget: _Budget, wanted: Callable[[str], bool]
) -> Iterator[Member]:
    budget.spend(members=len(archive.filelist))
    for info in archive.infolist():
        if not info.is_dir() and wanted(info.filename):
            yield Member(info.filename, partial(_read_zipped, archive, info, budget))


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> bytes:
    if stat.S_ISLNK(info.external_attr >> 16):
        raise MemberError("a symbolic link, not a file")
    if info.flag_bits & 0x1:
        raise MemberError("encrypted: unpack it with its password first")
    try:
        with archive.open(info) as file:
            return budget.read(file)
    except (ArchiveError, MemberError):
        raise
    except BROKEN_ARCHIVE as error:
        raise MemberError(f"damaged in the archive ({_first_line(error)})") from error


class _BoundedTarInfo(tarfile.TarInfo):
    """tarfile reads long names and extended headers whole, whatever their size; this does not."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in tarfile.REGULAR_TYPES and self.size > 2**20:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)


def _open_tar(path: Path) -> tarfile.TarFile:
    try:
        # "r|*" reads from front to back: a seek in a compressed stream would start it again.
        return tarfile.open(path, "r|*", tarinfo=_BoundedTarInfo)
    except BROKEN_ARCHIVE as error:
        raise ArchiveError(
            f"{path} is not a zip, tar archive or folder, or its end is missing: download it again."
        ) from error


def _tar_members(
    archive: tarfile.TarFile, budget: _Budget, wanted: Callable[[str], bool]
) -> Iterator[Member]:
    for info in archive:
        archive.members.clear()  # tarfile would keep every header
        budget.spend(members=1)
        if info.isdir() or not wanted(info.name):
            budget.spend(n_bytes=info.size)  # it is decompressed even if it is skipped
        elif not info.isreg():
            yield Member(info.name, partial(_refuse, "a link or a device, not a file"))
        else:  # read at once: the stream cannot go back
            try:
                data = budget.read(archive.extractfile(info))
            except MemberError as error:
                yield Member(info.name, partial(_refuse, str(error)))
            else:
                yield Member(info.name, lambda data=data: data)


def _refuse(reason: str) -> bytes:
    raise MemberError(reason)


def _folder_members(path: Path, budget: _Budget, wanted: Callable[[str], bool]) -> Iterator[Member]:
    for folder, subfolders, names in os.walk(path):
        subfolders.sort()
        for file in sorted(Path(folder, name) for name in names):
            name = file.relative_to(path).as_posix()
            if wanted(name):
                budget.spend(members=1)
                yield file_member(name, file, budget)


def file_member(name: str, path: Path, budget: _Budget | None = None) -> Member:
    """A file on the disk as a member; a pipe or a broken link is one that cannot be read."""
    read = partial(_read_file, path, budget or _Budget(path))
    return Member(name, read, path if path.is_file() else None)


def _read_file(path: Path, budget: _Budget) -> bytes:
    if not path.is_file():  # a broken link, or a pipe that opening would wait on
        raise MemberError("a broken link or a device, not a file")
    try:
        with path.open("rb") as file:
            return budget.read(file)
    except OSError as error:
        raise MemberError(f"cannot be read ({error.strerror})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
