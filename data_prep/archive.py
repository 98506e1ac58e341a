"""Safe reading of GTZAN archives, never extracted: zip, tar (.tar.gz and kin) or a folder.

`open_archive(path)` yields one `Member` per file that could be a clip or a table. Nothing is
written anywhere, so names that climb out of the folder have nowhere to go. What a header claims
about sizes is never trusted: reads are bounded by MAX_MEMBER_BYTES, whole archives by MAX_MEMBERS
and MAX_TOTAL_BYTES.
"""

import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep import InputError
from data_prep.gtzan import GENRES
from data_prep.synthetic import MARKER

AUDIO_SUFFIXES = {".wav", ".au", ".mp3", ".flac", ".ogg"}
FEATURE_TABLES = {"features_30_sec.csv", "features_3_sec.csv"}
MAX_MEMBER_BYTES = 64 * 2**20  # a minute of 24-bit stereo at 96 kHz is 35 MB
MAX_MEMBERS = 100_000  # the Kaggle zip has 2,000
MAX_TOTAL_BYTES = 16 * 2**30  # the Kaggle zip unpacks to 1.4 GB

CLIP_NAME = re.compile(rf"({'|'.join(GENRES)})\.(\d{{5}})", re.IGNORECASE)
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError,
    struct.error, RuntimeError, ValueError, OverflowError,
)  # fmt: skip


class ArchiveError(InputError):
    """An archive that cannot be used at all; the message names it and says what to do."""


class MemberError(ValueError):
    """One member that cannot be read; the message says why."""


@dataclass
class Member:
    """A file inside an archive: its name there and its bytes, or why they cannot be had."""

    name: str
    data: bytes = b""
    problem: str = ""

    @property
    def basename(self) -> str:
        return PurePosixPath(self.name.replace("\\", "/")).name

    @property
    def track_id(self) -> str | None:
        """GTZAN's id such as "blues.00000", or None where the name is not one of a clip."""
        match = CLIP_NAME.fullmatch(PurePosixPath(self.basename).stem)
        return match[0].lower() if match else None

    @property
    def is_clip(self) -> bool:
        return PurePosixPath(self.basename).suffix.lower() in AUDIO_SUFFIXES


def open_archive(path: Path) -> Iterator[Member]:
    """Yield the clips, feature tables and marker of an archive, in the archive's own order.

    Raises:
        ArchiveError: there is no such file, or it is no archive, or damaged or hostile as a whole.
    """
    if path.is_dir():
        members = _read_folder(path)
    elif not path.is_file():
        raise ArchiveError(f"{path}: there is no such file or folder.")
    elif zipfile.is_zipfile(path):
        members = _read_zip(path)
    else:
        members = _read_tar(path)
    try:
        yield from members
    except BROKEN_ARCHIVE as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f"{path} is damaged or cut off ({_first_line(error)}): download it again."
        ) from error


def _wanted(name: str) -> bool:
    basename = PurePosixPath(name.replace("\\", "/")).name
    if "__MACOSX" in name or basename.startswith("._"):  # litter of the macOS Finder
        return False
    suffix = PurePosixPath(basename).suffix.lower()
    return suffix in AUDIO_SUFFIXES or basename in FEATURE_TABLES or basename == MARKER


class _Budget:
    """Counts what an archive has given so far, and ends the reading of one that gives too much."""

    def __init__(self, path: Path) -> None:
        self.path, self.members, self.bytes = path, 0, 0

    def spend(self, n_bytes: int) -> None:
        self.members += 1
        self.bytes += n_bytes
        if self.members > MAX_MEMBERS or self.bytes > MAX_TOTAL_BYTES:
            raise ArchiveError(
                f"{self.path} holds more than {MAX_MEMBERS:,} files or "
                f"{MAX_TOTAL_BYTES / 2**30:.0f} GB: this is no GTZAN."
            )

    def read(self, name: str, claimed_bytes: int, read) -> Member:
        """Read one member by `read(n_bytes)`; damage that is its own becomes its `problem`."""
        too_large = f"larger than {MAX_MEMBER_BYTES // 2**20} MB: not a clip of 30 s"
        if claimed_bytes > MAX_MEMBER_BYTES:
            self.spend(0)
            return Member(name, problem=too_large)
        try:
            data = read(MAX_MEMBER_BYTES + 1)
        except MemberError as error:
            self.spend(0)
            return Member(name, problem=str(error))
        self.spend(len(data))
        if len(data) > MAX_MEMBER_BYTES:
            return Member(name, problem=too_large)
        return Member(name, data)


def _read_zip(path: Path) -> Iterator[Member]:
    budget = _Budget(path)
    with zipfile.ZipFile(path) as archive:
        if len(archive.filelist) > MAX_MEMBERS:
            budget.spend(MAX_TOTAL_BYTES + 1)
        for info in archive.infolist():
            if info.is_dir() or not _wanted(info.filename):
                continue

            def read(n_bytes: int, info: zipfile.ZipInfo = info) -> bytes:
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise MemberError("a symbolic link, not a file")
                if info.flag_bits & 0x1:
                    raise MemberError("encrypted: unpack it with its password first")
                try:
                    with archive.open(info) as file:
                        return file.read(n_bytes)
                except BROKEN_ARCHIVE as error:
                    raise MemberError(f"damaged in the archive ({_first_line(error)})") from error

            yield budget.read(info.filename, info.file_size, read)


class _BoundedTarInfo(tarfile.TarInfo):
    """tarfile reads long names and extended headers whole, however long they claim to be."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in tarfile.REGULAR_TYPES and self.size > 2**20:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)


def _read_tar(path: Path) -> Iterator[Member]:
    budget = _Budget(path)
    try:
        # "r|*" reads front to back: seeking in a compressed stream would start over every time.
        archive = tarfile.open(path, "r|*", tarinfo=_BoundedTarInfo)  # noqa: SIM115
    except BROKEN_ARCHIVE as error:
        raise ArchiveError(
            f"{path} is no zip, tar archive or folder, or its end is missing: download it again."
        ) from error
    with archive:
        for info in archive:
            archive.members.clear()  # the stream would keep every header it ever saw
            if info.isdir() or not _wanted(info.name):
                budget.spend(info.size)  # skipping it inflates it all the same
                continue

            def read(n_bytes: int, info: tarfile.TarInfo = info) -> bytes:
                if not info.isreg():
                    raise MemberError("a link or a device, not a file")
                return archive.extractfile(info).read(n_bytes)

            yield budget.read(info.name, info.size, read)


def _read_folder(path: Path) -> Iterator[Member]:
    budget = _Budget(path)
    for folder, subfolders, names in os.walk(path):
        subfolders.sort()
        for name in sorted(filter(_wanted, names)):
            file = Path(folder, name)

            def read(n_bytes: int, file: Path = file) -> bytes:
                if not file.is_file():  # a dangling link, a pipe: opening it could wait for ever
                    raise MemberError("a broken link or a device, not a file")
                try:
                    with file.open("rb") as opened:
                        return opened.read(n_bytes)
                except OSError as error:
                    raise MemberError(f"cannot be read ({error.strerror})") from error

            claimed = file.stat().st_size if file.is_file() else 0
            yield budget.read(file.relative_to(path).as_posix(), claimed, read)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
