"""Tags are written and undone on files of every format, also when killed between any two steps."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile

from music_genre import old_audio as audio
from music_genre.library import fields, patches, tags
from music_genre.library.tags import Tagging


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state(paths: list[Path]) -> dict:
    return {
        path.name: (sha256(path), path.stat().st_mtime_ns, path.stat().st_mode) for path in paths
    }


def rows_of(paths: list[Path], genre: str = "jazz", confidence: float = 0.9) -> list[dict]:
    return [
        {
            "path": str(path),
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "genre": genre,
            "probabilities": [confidence, 1 - confidence],
        }
        for path in paths
    ]


@pytest.fixture
def music(originals, tmp_path) -> list[Path]:
    shutil.copytree(originals[0].parent, tmp_path / "music")
    return [tmp_path / "music" / path.name for path in originals]


SURE = dict.fromkeys(("jazz", "rock"), 0.6)


def write(paths: list[Path], folder: Path, tagging: Tagging | None = None, **options) -> str:
    tagging = tagging or Tagging(SURE, replace=True)
    return tags.write_tags(
        rows_of(paths, **options), tagging, folder / "log.jsonl", folder / "parts", True
    )


def test_undo_restores_every_format_byte_for_byte(music, tmp_path):
    music[3].chmod(0o640)
    before = state(music)
    samples = {path: audio.decode(path, 60)[0] for path in music}
    titles = {path: mutagen.File(path, easy=True).get("title") for path in music}
    report = write(music, tmp_path)
    assert f"{len(music)} written, 0 had it, 0 left unchanged" in report
    for path in music:
        file = mutagen.File(path, easy=True)
        assert file["genre"] == ["jazz"]
        assert file.get("title") == titles[path]
        np.testing.assert_array_equal(audio.decode(path, 60)[0], samples[path])
        assert state([path])[path.name][0] != before[path.name][0]
    assert (tmp_path / "music" / "old.mp3").read_bytes()[:4] == b"ID3\x03"
    assert music[3].stat().st_mode & 0o777 == 0o640
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert ["Bossa nova", "Samba"] in [entry.get("genre_before") for entry in log]
    size = (tmp_path / "log.jsonl").stat().st_size
    assert size < sum(path.stat().st_size for path in music), "no audio is in the log"
    report = tags.undo_tags(tmp_path / "log.jsonl")
    assert report == f"{len(music)} tags were undone, 0 were not."
    assert state(music) == before
    assert not (tmp_path / "log.jsonl").exists()


def test_undo_restores_files_that_were_tagged_twice(music, tmp_path):
    before = state(music)
    write(music, tmp_path)
    assert f"0 written, {len(music)} had it" in write(music, tmp_path)
    write(music, tmp_path, genre="rock")
    assert mutagen.File(music[0], easy=True)["genre"] == ["rock"]
    tags.undo_tags(tmp_path / "log.jsonl")
    assert state(music) == before


def test_nothing_is_changed_without_yes_or_below_the_confidence(music, tmp_path):
    before = state(music)
    report = tags.write_tags(
        rows_of(music), Tagging(SURE), tmp_path / "log", tmp_path / "parts", False
    )
    assert "No file was changed. Add --yes" in report
    assert "0 written" in write(music, tmp_path, confidence=0.55)
    assert state(music) == before


def test_a_file_that_cannot_be_tagged_safely_is_left(music, tmp_path):
    rows = rows_of(music[:3])
    os.link(music[0], tmp_path / "other name.mp3")
    music[1].write_bytes(music[1].read_bytes() + b"later")
    music[2].write_bytes(b"fLaC, or so it says")
    rows[2] |= {"size": music[2].stat().st_size, "mtime_ns": music[2].stat().st_mtime_ns}
    before = state(music)
    tagging = Tagging(SURE, replace=True)
    report = tags.write_tags(rows, tagging, tmp_path / "log", tmp_path / "parts", True)
    assert "0 written, 0 had it, 3 left" in report
    for reason in ("hard links", "changed since", "tags"):
        assert reason in report.split("\n", 1)[1]
    assert state(music) == before


def test_a_file_that_something_else_changed_since_is_not_undone(music, tmp_path):
    write(music[:2], tmp_path)
    music[0].write_bytes(music[0].read_bytes() + b"edited")
    edited = state(music[:1])
    log = tmp_path / "log.jsonl"
    assert "something else changed it" in tags.undo_tags(log)
    assert state(music[:1]) == edited
    assert log.exists(), "its entry stays"


def test_a_file_that_changes_while_it_is_tagged_is_left(music, tmp_path, monkeypatch):
    patch = tags.make_patch

    def edited_meanwhile(original: str, tagged: str) -> dict:
        os.utime(original, ns=(0, 0))
        return patch(original, tagged)

    monkeypatch.setattr(tags, "make_patch", edited_meanwhile)
    data = music[0].read_bytes()
    assert "something else is changing it" in write(music[:1], tmp_path)
    assert music[0].read_bytes() == data


def test_a_link_stays_a_link(music, tmp_path):
    link = tmp_path / "link.flac"
    link.symlink_to(tmp_path / "music" / "plain.flac")
    assert "1 written" in write([link], tmp_path)
    assert link.is_symlink()
    assert mutagen.File(link)["genre"] == ["jazz"]


def test_a_tag_that_would_change_the_audio_is_not_written(music, tmp_path, monkeypatch):
    def careless(path: str, genre: str, field: str) -> list[str]:
        with open(path, "r+b") as file:
            file.seek(-2000, os.SEEK_END)
            file.write(b"oops")
        return []

    monkeypatch.setattr(tags, "set_field", careless)
    before = state(music)
    report = write(music[:3], tmp_path)
    assert report.count("more than the tag") == 3
    assert state(music) == before


def test_a_change_that_could_not_be_undone_is_not_written(music, tmp_path, monkeypatch):
    patch = tags.make_patch

    def wrong_patch(original: str, tagged: str) -> dict:
        return patch(original, tagged) | {"patches": [[0, "b29wcw=="]]}

    monkeypatch.setattr(tags, "make_patch", wrong_patch)
    before = state(music)
    report = write(music[:3], tmp_path)
    assert report.count("could not be undone") == 3
    assert state(music) == before
    assert [name for name in os.listdir(music[0].parent) if "copy" in name] == []


def test_a_tag_that_changes_too_much_is_not_written(music, tmp_path, monkeypatch):
    monkeypatch.setattr(patches, "MAX_PATCH", 3)
    tagged = [path for path in music if path.name == "tagged.mp3"]
    before = state(music)
    assert "would change too much to be undone" in write(tagged, tmp_path)
    assert state(music) == before


def test_a_file_of_another_kind_than_its_suffix_is_left(tmp_path):
    path = tmp_path / "wave.mp3"
    soundfile.write(path, np.zeros(44_100), 44_100, format="WAV")
    before = state([path])
    assert "a kind that has no known tags" in write([path], tmp_path)
    assert state([path]) == before


def test_the_log_is_on_the_disk_before_the_file_is_replaced(music, tmp_path, monkeypatch):
    log, replace, fsync = tmp_path / "log.jsonl", os.replace, os.fsync
    synced, seen = set(), []

    def record_sync(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced.add((status.st_ino, status.st_size))

    def check_log(source: str, target: str) -> None:
        entry = json.loads(log.read_text().splitlines()[-1])
        seen.append(entry["path"] == target and entry["sha256"] == sha256(Path(source)))
        for path in (log, Path(source)):
            assert (path.stat().st_ino, path.stat().st_size) in synced, path
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", check_log)
    write(music[:3], tmp_path)
    assert seen == [True] * 3


def test_a_log_that_does_not_fit_changes_nothing(music, tmp_path):
    write(music[:2], tmp_path)
    log, tagged = tmp_path / "log.jsonl", state(music)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "patches" in line:
            line["patches"].append([5, "b29wcw=="])
    damaged = "".join(json.dumps(line) + "\n" for line in lines)
    log.write_text(damaged)
    report = tags.undo_tags(log)
    assert report.startswith("0 tags were undone, 2 were not.")
    assert report.count("the log does not fit it") == 2
    assert state(music) == tagged
    assert log.read_text() == "".join(damaged.splitlines(keepends=True)[1:]), "the entries stay"


def test_an_edit_that_reverts_the_tag_before_an_undo_is_kept(music, tmp_path):
    """The hash check alone notices it: the patch happens to make the original of this file, too."""
    path = next(path for path in music if path.name == "plain.flac")
    write([path], tmp_path)
    entry = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    data = bytearray(path.read_bytes())
    # In the bytes that undoing cuts out or overwrites, where someone edited the tag since.
    data[entry["head"]] ^= 1
    path.write_bytes(data)
    made = b"".join(patches.apply_patch(str(path), entry))
    assert hashlib.sha256(made).hexdigest() == entry["sha256_before"]
    assert "something else changed it since" in tags.undo_tags(tmp_path / "log.jsonl")
    assert path.read_bytes() == data


def test_a_file_that_is_gone_stays_in_the_log_and_the_others_are_undone(music, tmp_path):
    before = state(music)
    write(music[:3], tmp_path)
    music[1].rename(tmp_path / "away")
    log = tmp_path / "log.jsonl"
    assert tags.undo_tags(log).startswith("2 tags were undone, 1 were not.")
    (tmp_path / "away").rename(music[1])
    assert tags.undo_tags(log).startswith("1 tags were undone, 0 were not.")
    assert state(music) == before


def test_an_undo_that_was_interrupted_is_completed(music, tmp_path, monkeypatch):
    before = state(music)
    write(music[:2], tmp_path)
    write(music[:2], tmp_path, genre="rock")
    log = tmp_path / "log.jsonl"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tags, "_keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        tags.undo_tags(log)
    assert state(music) == before
    assert tags.undo_tags(log) == "4 tags were undone, 0 were not."
    assert state(music) == before


def test_an_incomplete_line_of_the_log_is_skipped(music, tmp_path):
    before = state(music)
    write(music[:2], tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"path": "/music/a.mp3", "sha2')
    write(music[2:4], tmp_path)
    assert (tmp_path / "log.jsonl").read_text().count('\n{"folders"') == 1, "on a line of its own"
    assert tags.undo_tags(tmp_path / "log.jsonl") == "4 tags were undone, 0 were not."
    assert state(music) == before


def test_a_tagged_file_is_newer_and_keeps_its_attributes(music, tmp_path):
    os.utime(music[0], ns=(10**18, 10**18))
    try:
        os.setxattr(music[0], "user.rating", b"5")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    write(music[:1], tmp_path)
    assert music[0].stat().st_mtime_ns > 10**18
    assert os.getxattr(music[0], "user.rating") == b"5"
    tags.undo_tags(tmp_path / "log.jsonl")
    assert music[0].stat().st_mtime_ns == 10**18
    assert os.getxattr(music[0], "user.rating") == b"5"


# --- what is written where ------------------------------------------------------------------


def without_genre(paths: list[Path]) -> list[Path]:
    return [path for path in paths if not (mutagen.File(path, easy=True).tags or {}).get("genre")]


def test_only_files_without_a_genre_are_tagged_unless_it_is_to_be_replaced(music, tmp_path):
    empty = without_genre(music)
    others = [path for path in music if path not in empty]
    assert len(empty) == 7 and len(others) == 11
    before = state(others)
    report = write(music, tmp_path, Tagging(SURE))
    assert "11 keep the genre that they have (--replace overwrites it): 7 written" in report
    assert state(others) == before
    assert all(mutagen.File(path, easy=True)["genre"] == ["jazz"] for path in empty)
    assert "18 keep the genre" in write(music, tmp_path, Tagging(SURE))
    assert "11 written, 7 had it" in write(music, tmp_path, Tagging(SURE, replace=True))
    tags.undo_tags(tmp_path / "log.jsonl")
    assert state(others) == before


def test_a_field_of_ones_own_leaves_the_genre_and_is_undone(music, tmp_path):
    before = state(music)
    genres = [mutagen.File(path, easy=True).get("genre") for path in music]
    tagging = Tagging(SURE, field="GENRE_PREDICTED")
    assert f"{len(music)} written" in write(music, tmp_path, tagging)
    for path, genre in zip(music, genres, strict=True):
        assert mutagen.File(path, easy=True).get("genre") == genre
        assert fields.read_field(str(path), "GENRE_PREDICTED") == ["jazz"]
    mp3 = next(path for path in music if path.name == "tagged.mp3")
    assert mutagen.File(mp3)["TXXX:GENRE_PREDICTED"].text == ["jazz"], "as players see it"
    assert "18 keep the GENRE_PREDICTED" in write(music, tmp_path, tagging, genre="rock")
    tags.undo_tags(tmp_path / "log.jsonl")
    assert state(music) == before


def test_each_genre_has_its_threshold_and_one_without_is_not_written(music, tmp_path):
    plain = without_genre(music)[:3]
    assert "0 written" in write(plain, tmp_path, Tagging({"jazz": 0.95, "rock": 0.1}))
    assert "0 written" in write(plain, tmp_path, Tagging({"rock": 0.1}))
    assert "3 written" in write(plain, tmp_path, Tagging({"jazz": 0.9}))


def test_a_dry_run_lists_what_would_change_and_changes_nothing(music, tmp_path):
    before, lines = state(music), []
    log = tmp_path / "log.jsonl"
    tagging = Tagging(SURE, replace=True)
    report = tags.write_tags(rows_of(music), tagging, log, tmp_path / "p", False, lines.append)
    assert report.endswith("18 to write. No file was changed.")
    assert f"{tmp_path}/music/plain.mp3: none -> jazz (90%)" in lines
    assert f"{tmp_path}/music/tagged.flac: Bossa nova, Samba -> jazz (90%)" in lines
    assert state(music) == before
    assert not log.exists()


@pytest.mark.parametrize("name", ["genre", "Artist", "a b", "1st", "x" * 50, ""])
def test_a_field_that_players_use_or_cannot_have_is_refused(name):
    assert "--tag_field" in fields.check_field(name)
    assert fields.check_field("GENRE_PREDICTED") is None


# --- killed ---------------------------------------------------------------------------------

# Tags the copy of the music in folder n, and is killed before the n-th step that leaves a trace on
# the disk, for every n; the last folder is tagged to its end. Forks, so that Python starts once.
KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path
import mutagen
from music_genre.library import table, tags

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
        (mutagen.FileType, "save"), (table.LineWriter, "append"),
    ]:
        setattr(module, name, counted(getattr(module, name)))

struck = []
for folder in sorted(Path(sys.argv[1]).iterdir()):
    pid = os.fork()
    if pid == 0:
        rows = json.loads((folder / "rows.json").read_text())
        kill_before(int(folder.name))
        tagging = tags.Tagging({"jazz": 0.6})
        tags.write_tags(rows, tagging, folder / "log.jsonl", folder / "parts", True)
        os._exit(0)
    struck.append(os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL)
print(json.dumps(struck))
"""
N_STEPS = 24  # more than 2 files take


def test_killed_before_any_step_a_file_is_old_or_new_and_undo_restores_it(
    originals, root, tmp_path
):
    chosen = [path for path in originals if path.name in ("plain.mp3", "plain.flac")]
    before = state(chosen)
    for n in range(N_STEPS):
        folder = tmp_path / f"{n:02}"
        folder.mkdir()
        copies = [Path(shutil.copy2(path, folder)) for path in chosen]
        (folder / "rows.json").write_text(json.dumps(rows_of(copies)))
    result = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    struck = json.loads(result.stdout.splitlines()[-1])
    n_struck = sum(struck)
    assert struck == [True] * n_struck + [False] * (N_STEPS - n_struck)
    assert 12 < n_struck < N_STEPS, "some were tagged to their end"
    n_tagged = []
    for n in range(n_struck + 1):
        paths = [tmp_path / f"{n:02}" / path.name for path in chosen]
        n_tagged.append(0)
        for path in paths:
            is_old = state([path])[path.name] == before[path.name]
            is_new = mutagen.File(path, easy=True).get("genre") == ["jazz"]
            assert is_old or is_new, (n, path)
            n_tagged[-1] += is_new
        log = paths[0].with_name("log.jsonl")
        if log.exists():
            tags.undo_tags(log)
        assert state(paths) == before, n
        left = {path.name for path in paths[0].parent.iterdir()}
        assert left - {"parts", "rows.json"} == set(before), n
    assert n_tagged == sorted(n_tagged)
    assert set(n_tagged) == {0, 1, 2}, "kills struck before, between and after the files"
