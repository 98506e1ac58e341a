"""Which files are found, and what is said of the others."""

import os
import re
from pathlib import Path

import pytest
import soundfile

from music_genre.errors import InputError
from music_genre.library.files import describe_others, find_files
from tests.music_genre.library.conftest import n_part_rows


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def paths(*roots: Path, **options) -> list[str]:
    return find_files(roots, **options).files["path"].to_pylist()


def test_hidden_files_bins_and_patterns_are_left_out(tmp_path):
    bins = ("#recycle", "@eaDir/x.mp3", "lost+found", "$RECYCLE.BIN/S-1-5", "@Recycle", "#snapshot")
    touch(tmp_path, *(f"{name}/a.mp3" for name in (*bins, "System Volume Information", ".trash")))
    touch(tmp_path, ".a.mp3", "a.mp3", "Podcasts/b.mp3", "x/Podcasts/c.mp3", "x/live/d.MP3")
    assert paths(tmp_path) == ["Podcasts/b.mp3", "a.mp3", "x/Podcasts/c.mp3", "x/live/d.MP3"]
    for pattern in ("Podcasts", "Podcasts/"):
        assert paths(tmp_path, exclude=[pattern]) == ["a.mp3", "x/live/d.MP3"]
    assert "Podcasts/b.mp3" not in paths(tmp_path, exclude=["./Podcasts"])
    assert paths(tmp_path, exclude=["x/P*", "*.MP3"]) == ["Podcasts/b.mp3", "a.mp3"]
    touch(tmp_path, "Live [FLAC]/e.mp3", "x/Live [FLAC]/f.mp3")
    excluded = ["Podcasts", "live", "Live [FLAC]/"]
    assert paths(tmp_path, exclude=excluded) == ["a.mp3"]
    assert "x/Live [FLAC]/f.mp3" not in paths(tmp_path, exclude=["x/Live [FLAC]"])


def test_kinds_are_counted_and_linked_folders_named(tmp_path):
    touch(tmp_path, "a.mp3", "b.MP3", "c.ape", "x.jpg", "y.jpg", "z.mid", "README")
    for name in ("more", "d", "e", "f"):
        (tmp_path / name).symlink_to(tmp_path)
    found = find_files([tmp_path])
    assert found.kinds == {".mp3": 2, ".ape": 1}
    said = describe_others(found)
    assert "kinds that are not read: 2 .jpg, 1 without a suffix, 1 .mid." in said
    assert re.search(r"4 linked folders were not followed: (\w+, ){2}\w+\. To scan them, nam", said)


def test_several_roots_are_named_below_the_folder_that_holds_them(tmp_path):
    touch(tmp_path, "a/1.mp3", "b/c/1.mp3", "b/2.mp3")
    assert paths(tmp_path / "a") == ["1.mp3"]
    assert paths(tmp_path / "a", tmp_path / "b" / "c") == ["a/1.mp3", "b/c/1.mp3"]
    assert paths(tmp_path / "b" / "2.mp3", tmp_path / "b") == ["2.mp3", "c/1.mp3"]


def test_a_name_that_is_no_text_is_escaped_and_found(tmp_path):
    name = os.fsencode(tmp_path) + b"/na\xefve.wav"
    Path(os.fsdecode(name)).write_bytes(b"x")
    found = find_files([tmp_path])
    assert found.files["path"].to_pylist() == ["na\\xefve.wav"]
    assert os.path.exists(found.location("na\\xefve.wav"))


def test_a_link_to_nothing_is_no_trouble_of_a_drive(tmp_path):
    touch(tmp_path, "a.mp3")
    (tmp_path / "far.mp3").symlink_to(tmp_path / "not mounted" / "far.mp3")
    os.mkfifo(tmp_path / "pipe.mp3")  # whoever opens it waits
    found = find_files([tmp_path])
    assert found.files["path"].to_pylist() == ["a.mp3"]
    assert not found.unreadable


def test_nothing_to_scan_is_one_sentence(tmp_path):
    touch(tmp_path, "a.jpg")
    with pytest.raises(InputError, match=r"no audio files(.|\n)*1 \.jpg"):
        find_files([tmp_path])


@pytest.mark.parametrize("how", ["listing", "stat"])
def test_rows_of_what_cannot_be_read_this_time_are_kept(how, tmp_path, monkeypatch, noise, scan_to):
    music, output = tmp_path / "music", tmp_path / "out.csv"
    for name in ("open/a.wav", "locked/b.wav", "locked/deep/c.wav", "locked too/d.wav"):
        (music / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(music / name, noise(1), 16_000)
    before = scan_to(output, music)
    assert scan_to.is_complete
    (music / "locked too" / "d.wav").unlink()
    name = {"listing": "scandir", "stat": "stat"}[how]
    real = getattr(os, name)

    def refuse(path, *args, **options):
        if f"{music}/locked" in str(path) and "too" not in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        by_name = music / "locked" / "b.wav"  # found although its folder cannot be listed
        assert scan_to(output, music, by_name) == before
    assert n_part_rows(output) == 4, "none was processed again"
    assert not scan_to.is_complete
    assert "could not be read: locked" in scan_to.said
    assert "All rows of earlier scans are kept this time." in scan_to.said
    (music / "locked" / "b.wav").unlink()
    assert len(scan_to(output, music)) == 2
    assert "2 files of earlier scans are not there now" in scan_to.said
    assert scan_to.is_complete
