"""Tags are written and undone in files of every format, also when killed between any two steps."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen import id3

from music_genre.errors import InputError
from music_genre.library import fields, table, tags
from music_genre.library.decoding import sha256_of
from music_genre.library.fields import read_field
from music_genre.library.files import find_files
from music_genre.library.table import read_rows
from tests.music_genre.library.endings import elsewhere
from tests.music_genre.library.tagging import LABELS, data, keep, rows_of, state, sure, undo, write


@pytest.fixture
def music(originals, tmp_path) -> Path:
    return shutil.copytree(originals[0].parent, tmp_path / "music")


# --- written and undone ---------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_undo_writes_the_old_tags_back_in_every_format(music):
    (music / "plain.flac").chmod(0o640)
    before = state(music)
    said = write(music)
    assert f"{len(before)} written, 0 left unchanged" in said
    after = state(music)
    for path in music.iterdir():
        assert read_field(path).values == ["jazz"], path
        assert after[path.name][1:] == before[path.name][1:]
        others = {k: v for k, v in (after[path.name][0] or {}).items() if "jazz" not in v}
        assert others.items() <= (before[path.name][0] or {}).items(), path
    assert undo(music).startswith(f"{len(before)} files have their old tags again, 0 were left")
    assert state(music) == before
    assert not (music.parent / "log").exists()
    files, rows = find_files([music]).files, read_rows(music.parent / "parts", LABELS)
    is_known = table.have_valid_row(files, table.rows_of(files, rows))
    assert is_known.to_pylist() == [True] * len(before), "the next scan need not process them"


@pytest.mark.usefixtures("here")
def test_id3_keeps_its_version_and_its_v1(music):
    keep(music, "v2.3.mp3", "v2.3 and v1.mp3", "v1.mp3", "tagged.mp3")
    v1 = (music / "v2.3 and v1.mp3").read_bytes()[-128:]
    write(music)
    for name, version in (("v2.3", 3), ("v2.3 and v1", 3), ("v1", 3), ("tagged", 4)):
        assert (music / f"{name}.mp3").read_bytes()[3] == version, name
    assert (music / "v2.3 and v1.mp3").read_bytes()[-128:] == v1
    assert str(mutagen.File(music / "v1.mp3")["TIT2"]) == "a title", "players look at ID3v2 only"
    undo(music)
    assert not (music / "v1.mp3").read_bytes().startswith(b"ID3")
    for name in ("v1", "tagged"):
        fields.set_field(music / f"{name}.mp3", ["演歌"])
        assert read_field(music / f"{name}.mp3").values == ["演歌"]


def test_id3_of_1998_becomes_one_that_players_read(music):
    path = music / "plain.mp3"
    frames = b"TT2\0\0\x02\0A" + b"TYE\0\0\x05\x001999" + b"TCO\0\0\x05\0(17)"
    path.write_bytes(b"ID3\2\0\0\0\0\0" + bytes([len(frames)]) + frames + path.read_bytes())
    assert read_field(path) == (["Rock"], ["Rock"], True)
    fields.set_field(path, ["jazz"])
    assert path.read_bytes()[3] == 3
    written = id3.ID3(path, translate=False)
    assert {key: str(frame) for key, frame in written.items()} == {
        **{"TIT2": "A", "TYER": "1999", "TCON": "jazz"}
    }


@pytest.mark.usefixtures("here")
def test_only_files_without_a_genre_are_tagged_unless_it_is_to_be_replaced(music):
    have = [path.name for path in music.iterdir() if "tagged" in path.name]
    have += ["v2.3.mp3", "v2.3 and v1.mp3", "v1.mp3"]
    shutil.copy(music / "plain.mp3", music / "a kind that is not tagged.wv")
    (music / "v1 zero.mp3").rename(music / "V1 ZERO.MP3")
    before = data(music)
    said = write(music, sure())
    assert f"{len(have)} keep the genre that they have (--replace overwrites it): 8 written" in said
    assert {name for name, old in data(music).items() if old == before[name]} == {
        *("a kind that is not tagged.wv", *have)
    }
    assert "0 written" in write(music, sure())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("text", ["Other", "(255)", ""])
def test_a_genre_that_is_none_is_overwritten_and_comes_back(music, text):
    path = music / "v2.3.mp3"
    keep(music, path.name)
    file = id3.ID3(path)
    file.add(id3.TCON(encoding=3, text=[text]))
    file.save(path, v2_version=4)
    before = state(music)
    assert "1 written" in write(music, sure())
    undo(music)
    assert state(music) == before


@pytest.mark.usefixtures("here")
def test_several_genres_are_separated_as_players_expect(music):
    keep(music, "plain.flac", "tagged.m4a", "tagged.mp3", "v2.3.mp3")
    tagging = sure(0.3, top_k=2, replace=True)
    before = state(music)
    write(music, tagging, jazz=0.35, rock=0.5)
    assert mutagen.File(music / "plain.flac")["genre"] == ["rock", "jazz"]
    assert mutagen.File(music / "tagged.m4a")["\xa9gen"] == ["rock", "jazz"]
    assert mutagen.File(music / "tagged.mp3")["TCON"].text == ["rock", "jazz"], "ID3v2.4"
    assert mutagen.File(music / "v2.3.mp3")["TCON"].text == ["rock; jazz"], "ID3v2.3"
    assert "0 written" in write(music, tagging, jazz=0.35, rock=0.5), "they have it already"
    undo(music)
    assert state(music) == before


@pytest.mark.usefixtures("here")
def test_several_values_that_were_in_id3v23_come_back_as_several(music):
    path = music / "v2.3.mp3"
    keep(music, path.name)
    file = id3.ID3(path)
    file.add(id3.TCON(encoding=1, text=["Rock", "Pop"]))
    file.save(path, v2_version=3, v23_sep=None)
    before = state(music)
    assert "1 written" in write(music, sure(0.1, top_k=2, replace=True))
    assert mutagen.File(path)["TCON"].text == ["jazz; rock"]
    undo(music)
    assert mutagen.File(path)["TCON"].text == ["Rock", "Pop"]
    assert state(music) == before


def test_which_genres_are_sure():
    row = {"p_rock": 0.5, "p_jazz": 0.35, "p_blues": 0.15}
    assert sure(0.51, top_k=3).genres(row) == []
    assert sure(0.35, top_k=3).genres(row) == ["rock", "jazz"]
    assert sure(0.1, top_k=2).genres(row) == ["rock", "jazz"]
    assert sure(0.1).genres({"p_rock": 0.2, "p_jazz": 0.5, "p_blues": 0.3}) == ["jazz"]
    assert sure(0.0, top_k=2).genres(dict.fromkeys(row)) == [], "a file with an error"
    assert sure(field="MOOD").is_empty([" "]) and not sure(field="MOOD").is_empty(["", "Other"])


@pytest.mark.usefixtures("here")
def test_a_field_of_ones_own_leaves_the_genre_and_is_undone(music):
    before = state(music)
    genres = {path: read_field(path) for path in music.iterdir()}
    tagging = sure(field="GENRE_PREDICTED")
    assert f"{len(before)} written" in write(music, tagging)
    for path, genre in genres.items():
        assert read_field(path, "GENRE_PREDICTED").values == ["jazz"], path
        if genre.stored is not None:
            assert read_field(path).stored == genre.stored, path
    assert mutagen.File(music / "tagged.mp3")["TXXX:GENRE_PREDICTED"].text == ["jazz"]
    undo(music)
    assert state(music) == before


@pytest.mark.usefixtures("here")
def test_nothing_is_changed_without_consent(music, capsys):
    before = data(music)
    said = write(music, sure(), is_agreed=False)
    listed = capsys.readouterr().out
    assert said.endswith("8 to write. No file was changed. Add --yes to write.")
    assert "plain.mp3: none -> jazz (70%)" in listed
    assert "v1 zero.mp3: none -> jazz (70%)" in listed
    assert listed.splitlines() == sorted(listed.splitlines())
    write(music, sure(replace=True), is_agreed=False)
    assert "tagged.flac: Bossa nova, Samba -> jazz (70%)" in capsys.readouterr().out
    assert data(music) == before
    assert "0 of 18 files have a sure enough genre" in write(music, is_agreed=False, jazz=0.55)
    assert not (music.parent / "log").exists()


@pytest.mark.usefixtures("here")
def test_a_tagged_file_is_known_to_the_next_scan(music):
    keep(music, "plain.mp3", "tagged.flac", "tagged.m4a")
    write(music)
    files = find_files([music]).files.to_pylist()
    rows = read_rows(music.parent / "parts", LABELS).to_pylist()
    assert sorted((r["path"], r["size"], r["version"], r["sha256"]) for r in rows) == [
        (*file.values(), sha256_of(str(music / file["path"]))) for file in files
    ], "also if all times shift later"


# --- left as they are -----------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_a_file_that_cannot_be_tagged_safely_is_left(music):
    for path in music.iterdir():
        if "plain" not in path.name:
            path.unlink()
    os.link(music / "plain.mp3", music.parent / "other name.mp3")
    (music / "plain.flac").write_bytes(b"fLaC, or so it says")
    soundfile.write(music / "plain.ogg", np.zeros(44_100), 44_100, format="CAF")
    before = data(music)
    said = write(music)
    assert "4 written, 3 left" in said
    for reason in ("has other hard links", "kind that has no known tags", "read or written ("):
        assert reason in said, said
    assert {name for name, old in data(music).items() if old == before[name]} == {
        *("plain.mp3", "plain.flac", "plain.ogg")
    }


@pytest.mark.usefixtures("here")
def test_a_file_that_changed_since_the_scan_is_left(music):
    keep(music, "plain.mp3", "plain.flac", "plain.ogg")
    rows = rows_of(music)
    os.utime(music / "plain.mp3", ns=(0, 0))
    found, before = find_files([music]), data(music)
    os.utime(music / "plain.flac", ns=(0, 0))
    folder, tagging = music.parent, sure(replace=True)
    said = tags.write_tags(found, rows, tagging, folder / "log", folder / "parts", True)
    assert "1 are new or changed since the scan (scan them again)" in said
    assert "plain.flac: it changed since it was scanned: scan it again" in said
    assert {name for name, old in before.items() if data(music)[name] == old} == {
        *("plain.mp3", "plain.flac")
    }


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("what", ["audio", "time"])
def test_a_copy_with_other_audio_or_a_file_in_use_is_not_replaced(music, monkeypatch, what):
    set_field = fields.set_field

    def careless(path: str, values: list[str], field: str) -> None:
        set_field(path, values, field)
        if what == "audio":
            with open(path, "r+b") as file:
                file.seek(-1000, os.SEEK_END)
                file.write(b"oops")
        else:
            original = path.replace(tags.COPY_MARK, "").replace("/.", "/")
            os.utime(original, ns=(0, 0))

    monkeypatch.setattr(fields, "set_field", careless)
    keep(music, "plain.mp3", "plain.flac", "plain.ogg")
    before = data(music)
    said = write(music)
    reason = "more than the tag" if what == "audio" else "something else is changing it"
    assert said.count(reason) == 3, said
    assert data(music) == before


@pytest.mark.usefixtures("here")
def test_a_link_stays_a_link_and_attributes_stay(music):
    keep(music, "plain.flac")
    real = music.parent / "real.flac"
    (music / "plain.flac").rename(real)
    (music / "plain.flac").symlink_to(real)
    os.utime(real, ns=(10**18, 10**18))
    if not os.getuid():
        os.chown(real, 12, 34)
    before = real.stat()
    write(music)
    assert (real.stat().st_uid, real.stat().st_gid) == (before.st_uid, before.st_gid)
    assert (music / "plain.flac").is_symlink()
    assert mutagen.File(real)["genre"] == ["jazz"]
    assert real.stat().st_mtime_ns > 10**18, "programs that look for changes see one"


@pytest.mark.parametrize("name", ["genre", "Artist", "description", "a b", "MOOD 2"])
def test_a_field_that_players_use_or_cannot_have_is_refused(name):
    with pytest.raises(InputError, match="--tag_field"):
        fields.check_field(name)
    fields.check_field("GENRE_PREDICTED")


def test_a_genre_that_is_a_number_is_not_written_as_another():
    fields.check_genres(["Hip-Hop", "8-bit", "演歌"])
    with pytest.raises(InputError, match="The genre 3 means Dance in ID3 tags"):
        fields.check_genres(["jazz", "3"])


def test_strangers_tags_are_read_in_other_processes_only(music, monkeypatch):
    """mutagen inflates compressed frames without a bound; there is one on those processes."""
    here = [os.getpid()]
    read, edit = fields.read_field, fields.edit_copy
    monkeypatch.setattr(tags, "read_field", partial(elsewhere, read, here))
    monkeypatch.setattr(tags, "edit_copy", partial(elsewhere, edit, here))
    keep(music, "plain.flac")
    assert "1 written, 0 left" in write(music)
    assert "1 files have their old tags" in undo(music)


# --- killed ---------------------------------------------------------------------------------

# Tags the copy of the music in folder n, and is killed before the n-th step that leaves a trace on
# the disk, for every n; the last folder is tagged to its end. Forks, so that Python starts once.
KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path
import mutagen
from music_genre.library import table, tags
from tests.pool_here import PoolHere
from tests.music_genre.library.tagging import write

tags.DecoderPool = PoolHere

def kill_before(n):
    n_left = [n]
    def counted(step):
        def wrapper(*arguments, **options):
            n_left[0] -= 1
            if n_left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)
        return wrapper
    for module, name in [
        (os, "replace"), (os, "remove"), (os, "fsync"), (os, "utime"), (shutil, "copyfile"),
        (mutagen.FileType, "save"), (table.PartWriter, "append"),
    ]:
        setattr(module, name, counted(getattr(module, name)))

struck = []
for folder in sorted(Path(sys.argv[1]).iterdir()):
    pid = os.fork()
    if pid == 0:
        kill_before(int(folder.name))
        write(folder / "music")
        os._exit(0)
    struck.append(os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL)
print(json.dumps(struck))
"""
N_STEPS = 24  # more than 2 files take


@pytest.mark.usefixtures("here")
def test_killed_before_any_step_a_file_is_old_or_new_and_undo_knows(originals, root, tmp_path):
    chosen = [path for path in originals if path.name in ("v1.mp3", "tagged.flac")]
    for n in range(N_STEPS):
        folder = tmp_path / f"{n:02}" / "music"
        folder.mkdir(parents=True)
        for path in chosen:
            shutil.copy2(path, folder)
    before = state(tmp_path / "00" / "music")
    result = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert not result.returncode, result.stderr[-3000:]
    struck = json.loads(result.stdout.splitlines()[-1])
    n_struck = sum(struck)
    assert struck == [True] * n_struck + [False] * (N_STEPS - n_struck)
    assert 12 < n_struck < N_STEPS, "some were tagged to their end"
    n_tagged = []
    for n in range(n_struck + 1):
        music = tmp_path / f"{n:02}" / "music"
        names = [name for name in before if read_field(music / name).values == ["jazz"]]
        n_tagged.append(len(names))
        if (music.parent / "log").exists():
            assert ", 0 were left unchanged" in undo(music)
        assert state(music) == before, n
        assert {path.name for path in music.iterdir()} == set(before), n
    assert n_tagged == sorted(n_tagged)
    assert set(n_tagged) == {0, 1, 2}, "kills struck before, between and after the files"
