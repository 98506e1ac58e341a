"""What `members_of` promises about hostile archives, in each of its forms."""

import errno
import io
import os
import pickle
import stat
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from data_prep import archive
from data_prep.archive import MARKER, MemberError, members_of
from music_genre.errors import InputError
from tests.data_prep.archives import make_zip
from tests.data_prep.music import write

ARCHIVES = ("zip", "tar", "tar.gz")
FORMS = (*ARCHIVES, "folder")
CLIP, OTHER = "genres/blues/blues.00000.wav", "genres/blues/blues.00001.wav"


def make(path: Path, form: str, members: dict[str, bytes]) -> Path:
    """An archive of one of FORMS."""
    if form == "zip":
        make_zip(path, members)
    elif form == "folder":
        write(path, members)
    else:
        with tarfile.open(path, "w:gz" if form == "tar.gz" else "w") as file:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return path


def read_all(path: Path) -> dict[str, bytes | str]:
    """Member -> its bytes, or why it cannot be read."""
    found = {}
    for member in members_of(path):
        try:
            found[member.name] = member.read()
        except MemberError as error:
            found[member.name] = str(error)
    return found


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
def test_a_large_member_is_refused_without_being_read_whole(tmp_path, form, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 2**20)
    path = make(tmp_path / "a", form, {CLIP: bytes(2**20), OTHER: bytes(2**26)})
    next(members_of(path)).read()  # what the libraries allocate once
    tracemalloc.start()
    try:
        found = read_all(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[CLIP] == bytes(2**20), "the limit itself is allowed"
    assert "larger than 1 MB" in found[OTHER]
    assert peak < 2**23, "64 MB would be whole"


@pytest.mark.parametrize("form", ARCHIVES)
def test_the_bytes_of_all_members_are_limited(tmp_path, form, monkeypatch):
    """Also what is skipped: a compressed stream is inflated to its end."""
    if form == "zip":
        path = make(tmp_path / "a", form, {"filler.bin": b"", CLIP: bytes(120_000)})
    else:
        path = make(tmp_path / "a", form, {"filler.bin": bytes(60_000), CLIP: bytes(60_000)})
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 120_000)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    assert CLIP in read_all(path)
    for name, value in (("MAX_TOTAL_BYTES", 119_999), ("MAX_MEMBERS", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(archive, name, value)
            with pytest.raises(InputError, match="prepare a part of it"):
                read_all(path)


def test_a_huge_tar_header_is_refused(tmp_path):
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**21
    path = make(tmp_path / "a.tar", "tar", {CLIP: b"1"})
    first, rest = path.read_bytes()[:1024], path.read_bytes()[1024:]
    path.write_bytes(first + header.tobuf() + b"a" * 2**21 + rest)
    with pytest.raises(InputError, match="a header of 2,097,152 bytes"):
        read_all(path)


def test_a_member_that_cannot_be_unpacked_says_so_and_hides_no_others(tmp_path):
    path = make(tmp_path / "a.zip", "zip", {CLIP: os.urandom(1000), OTHER: b"2"})
    whole = path.read_bytes()
    entry = whole.find(b"PK\x01\x02")  # of the first member, in the central directory
    for at, bits, reason in (
        (entry + 8, 1, "is encrypted, password required"),
        (entry + 10, 1, "compression method"),  # 9, Deflate64
        (len(CLIP) + 100, 255, "cannot be unpacked"),
    ):
        data = bytearray(whole)
        data[at] ^= bits
        (tmp_path / f"{at}.zip").write_bytes(data)
        found = read_all(tmp_path / f"{at}.zip")
        assert reason in found[CLIP] and "give the folder" in found[CLIP]
        assert found[OTHER] == b"2"


def test_of_two_members_of_one_name_the_last_is_read(tmp_path):
    """As unpacking the archive would leave it."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(CLIP, b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr(CLIP, b"2")
    assert [member.read() for member in members_of(tmp_path / "a.zip")] == [b"2", b"2"]


def test_links_and_devices_in_a_zip_or_tar_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        link = zipfile.ZipInfo(CLIP)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    assert read_all(tmp_path / "a.zip") == {CLIP: "a link, not a file"}

    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for i, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"blues.{i:05d}.wav")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    found = read_all(tmp_path / "a.tar")
    assert list(found.values()) == ["a link or a device, not a file"] * len(kinds)


@pytest.mark.parametrize("form", FORMS)
def test_a_member_can_be_read_in_another_process(tmp_path, form):
    path = make(tmp_path / "a", form, {CLIP: b"1", OTHER: b"2"})
    sent = [pickle.dumps(member) for member in members_of(path)]
    assert [pickle.loads(member).read() for member in sent] == [b"1", b"2"]


def test_links_to_folders_are_followed_once(tmp_path):
    """Those that lead back into the folder, or to one that holds it, would have no end."""
    elsewhere = make(tmp_path / "elsewhere", "folder", {"rock.00000.wav": b"1"})
    make(tmp_path / "private", "folder", {"rock.00001.wav": b"of someone else"})
    folder = make(tmp_path / "folder", "folder", {CLIP: b"1"})
    links = {"a": elsewhere, "b": elsewhere, "c": folder, "d": tmp_path, "e": folder / "genres"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    assert list(read_all(folder)) == ["a/rock.00000.wav", CLIP]


def test_a_folder_that_may_not_be_read_is_no_folder_without_music(tmp_path, monkeypatch):
    """It was left out without a word. Root may read all folders, so the refusal is an imitation."""

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    scan = os.scandir
    folder = make(tmp_path / "folder", "folder", {CLIP: b"1", "locked/rock.00000.wav": b"2"})
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"locked cannot be read \(Permission denied\)"):
        read_all(folder)


def test_a_file_that_may_not_be_read_is_left_out_by_name(tmp_path, monkeypatch):
    def refuse(self, *arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    folder = make(tmp_path / "folder", "folder", {CLIP: b"1"})
    monkeypatch.setattr(Path, "open", refuse)
    assert read_all(folder) == {CLIP: "cannot be read (Permission denied)"}


def test_links_and_devices_in_a_folder(tmp_path):
    folder = make(tmp_path / "folder", "folder", {CLIP: b"1"})
    (folder / "jazz.00000.wav").symlink_to(folder / "nothing")
    os.mkfifo(folder / "jazz.00001.wav")  # opening it would wait for ever
    refused = "a broken link or a device, not a file"
    found = {}
    reading = threading.Thread(target=lambda: found.update(read_all(folder)), daemon=True)
    reading.start()
    reading.join(60)
    assert found == {"jazz.00000.wav": refused, "jazz.00001.wav": refused, CLIP: b"1"}


@pytest.mark.parametrize("form", FORMS)
def test_only_clips_and_the_marker_come_out(tmp_path, form):
    wanted = {CLIP: b"1", f"as Windows has it\\{MARKER}": b"3", "B.FLAC": b"4"}
    litter = {"__MACOSX/blues.00000.wav": b"x", "a/._blues.00001.wav": b"x", "a/notes.csv": b"x",
              "images/blues00000.png": b"x", "blues.00000.wav.txt": b"x"}  # fmt: skip
    assert read_all(make(tmp_path / "a", form, wanted | litter)) == wanted
