"""What was written into tags is undone later, whatever came meanwhile."""

import shutil
from pathlib import Path

import mutagen
import pytest
from mutagen import id3

from music_genre.errors import InputError
from music_genre.library import tags
from music_genre.library.fields import read_field
from music_genre.library.files import find_files
from tests.music_genre.library.tagging import (
    LABELS,
    all_tags,
    keep,
    rows_of,
    state,
    sure,
    undo,
    write,
)


@pytest.fixture
def music(originals, tmp_path) -> Path:
    return shutil.copytree(originals[0].parent, tmp_path / "music")


@pytest.mark.usefixtures("here")
def test_files_that_were_tagged_twice_or_moved_get_their_first_tags_back(music):
    """And a line of the log that a crash left incomplete is skipped."""
    keep(music, "plain.mp3", "v1.mp3", "tagged.flac", "tagged.m4a")
    before = state(music)
    write(music)
    with (music.parent / "log").open("a") as file:
        file.write('{"path": "a.mp3", "sto')
    write(music, jazz=0.1, rock=0.8)
    moved = music.rename(music.parent / "elsewhere")
    assert read_field(moved / "plain.mp3").values == ["rock"]
    assert undo(moved).startswith(f"{len(before)} files have their old tags again")
    assert state(moved) == before


@pytest.mark.usefixtures("here")
def test_an_edit_of_someone_else_is_kept(music):
    keep(music, "plain.flac", "plain.ogg", "tagged.mp3")
    write(music)
    assert ": 0 written" in write(music), "they have that genre"
    write(music, jazz=0.1, rock=0.8)
    edited = mutagen.File(music / "plain.flac")
    edited["genre"] = ["Bossa nova"]
    edited.save()
    (music / "plain.ogg").rename(music.parent / "away")
    said = undo(music)
    assert "2 were left unchanged" in said
    assert "plain.flac: something else changed it since" in said
    assert "plain.ogg: " in said
    assert read_field(music / "plain.flac").values == ["Bossa nova"]
    (music.parent / "away").rename(music / "plain.ogg")
    assert undo(music).startswith("1 files have their old tags again, 1 were left")
    assert read_field(music / "plain.ogg").values == []


@pytest.mark.usefixtures("here")
def test_someone_elses_genre_between_two_of_ours_comes_back(music):
    keep(music, "plain.flac")
    write(music)
    edited = mutagen.File(music / "plain.flac")
    edited["genre"] = ["Bossa nova"]
    edited.save()
    write(music, jazz=0.1, rock=0.8)
    assert undo(music).startswith("0 files have their old tags again, 1 were left")
    assert read_field(music / "plain.flac").values == ["Bossa nova"]


@pytest.mark.usefixtures("here")
def test_tags_that_another_program_added_since_stay(music):
    """In files of every format that had no tags, or ID3v1 alone."""
    chosen = [path for path in music.iterdir() if "plain" in path.name or "v1" in path.name]
    keep(music, *(path.name for path in chosen))
    write(music)
    for path in chosen:
        file = mutagen.File(path)
        if path.suffix in (".mp3", ".aiff", ".wav"):
            file.tags.add(id3.TPE2(encoding=1, text=["added"]))
        else:
            file["\xa9alb" if path.suffix == ".m4a" else "album"] = ["added"]
        file.save()
    log = (music.parent / "log").read_bytes()
    assert "0 were left unchanged" in undo(music)
    (music.parent / "log").write_bytes(log)
    assert "0 were left unchanged" in undo(music)
    for path in chosen:
        assert "added" in str(all_tags(path)), path
        assert "jazz" not in str(all_tags(path)), path


@pytest.mark.usefixtures("here")
def test_a_folder_inside_or_around_the_scanned_one_is_refused(music):
    keep(music, "plain.flac", "plain.mp3")
    (music / "Jazz").mkdir()
    (music / "plain.flac").rename(music / "Jazz" / "plain.flac")
    rows = rows_of(music)
    log, parts = music.parent / "log", music.parent / "parts"
    for root in (music / "Jazz", music.parent):
        with pytest.raises(InputError, match="name the same folders"):
            tags.write_tags(find_files([root]), rows, sure(), log, parts, is_agreed=True)
    assert "2 written" in write(music)
    for root in (music / "Jazz", music.parent):
        with pytest.raises(InputError, match="name the same folders"):
            tags.undo_tags(find_files([root]), log, parts, LABELS)
    assert undo(music).startswith("2 files have their old tags again, 0 were left")


@pytest.mark.usefixtures("here")
def test_an_undo_that_was_killed_before_its_end_is_finished_by_the_next(music):
    keep(music, "plain.flac", "tagged.mp3")
    before = state(music)
    for rock in (0.0, 0.8):
        write(music, jazz=0.9 - rock, rock=rock)
    log = (music.parent / "log").read_bytes()
    (music.parent / "away").mkdir()
    (music / "plain.flac").rename(music.parent / "away" / "plain.flac")
    undo(music)  # of the other file
    (music.parent / "away" / "plain.flac").rename(music / "plain.flac")
    (music.parent / "log").write_bytes(log)
    assert undo(music).startswith("2 files have their old tags again, 0 were left")
    assert state(music) == before and not (music.parent / "log").exists()


@pytest.mark.usefixtures("here")
def test_an_undo_of_other_files_of_the_same_names_keeps_the_log(music):
    keep(music, "plain.flac", "plain.mp3")
    before = state(music)
    other = shutil.copytree(music, music.parent / "other")
    write(music)
    log, parts = music.parent / "log", music.parent / "parts"
    said = tags.undo_tags(find_files([other]), log, parts, LABELS)
    assert f"No file had to be changed, so {log} is kept." in said
    undo(music)
    assert state(music) == before and not log.exists()
