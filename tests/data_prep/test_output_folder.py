"""The output folder: replaced only where this program made it, finished or not there at all."""

import errno
import json
import os
from pathlib import Path

import pytest
from datasets import load_from_disk

from data_prep import decoding
from data_prep.prepare import prepare
from music_genre import old_audio as audio
from music_genre.errors import InputError
from tests import forked
from tests.data_prep.archives import make_zip, three_of_each


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_run_is_done_at_once_and_other_options_rebuild(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    first = prepare([path], out, split="random", seed=1)
    inode = (out / "manifest.csv").stat().st_ino
    assert prepare([path], out, split="random", seed=1) == first
    assert (out / "manifest.csv").stat().st_ino == inode
    assert prepare([path], out, split="random", seed=2)["seed"] == 2
    assert (out / "manifest.csv").stat().st_ino != inode


def test_a_track_that_could_not_be_read_that_time_is_tried_again(tmp_path, monkeypatch):
    """The disk of the music, or the room to unpack a file, may be back in the next run."""
    path, clip = make_zip(tmp_path / "a.zip", three_of_each()), decoding._clip

    def fail_once(member):
        monkeypatch.setattr(decoding, "_clip", clip)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(decoding, "_clip", fail_once)
    first = prepare([path], tmp_path / "out", split="random")
    assert (first["n_temporary"], first["n_dropped"]) == (1, 1)
    second = prepare([path], tmp_path / "out", split="random")
    assert second["n_kept"] == first["n_kept"] + 1 and not second["n_temporary"]


def test_another_archive_of_the_same_name_and_size_is_prepared_anew(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    first = prepare([path], tmp_path / "out", split="random")
    os.utime(path, ns=(1, 1))
    second = prepare([path], tmp_path / "out", split="random")
    assert second["sources"] != first["sources"]


def test_the_same_archive_gives_the_same_bytes(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    prepare([path], tmp_path / "one", split="random")
    prepare([path], tmp_path / "two", split="random")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_what_datasets_caches_belongs_to_the_clips_of_one_split(tmp_path):
    """Equal fingerprints would give one split what `Dataset.map` made of another."""
    path = make_zip(tmp_path / "a.zip", three_of_each())
    fingerprints = []
    for seed in (1, 2):
        prepare([path], tmp_path / f"out{seed}", split="random", seed=seed)
        loaded = load_from_disk(tmp_path / f"out{seed}")
        fingerprints += [split._fingerprint for split in loaded.values()]
    assert len(set(fingerprints)) == 6


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match="holds something else"):
        prepare([path], out)
    assert (out / "thesis.txt").read_text() == "ten years of work"


def test_a_file_that_a_user_put_into_the_dataset_survives(tmp_path):
    """Other options rebuild the folder; what this program did not make may not go with it."""
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    prepare([path], out, split="random", seed=1)
    (out / "train" / "notes.txt").write_text("which tracks sound wrong")
    with pytest.raises(InputError, match=r"train/notes\.txt"):
        prepare([path], out, split="random", seed=2)
    assert (out / "train" / "notes.txt").read_text() == "which tracks sound wrong"
    assert prepare([path], out, split="random", seed=1)["seed"] == 1
    (out / "train" / "notes.txt").unlink()
    (out / "train" / "cache-0123456789abcdef.arrow").touch()  # what Dataset.map leaves
    assert prepare([path], out, split="random", seed=2)["seed"] == 2


def test_a_file_that_comes_while_the_clips_are_decoded_survives(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"

    def decode(*arguments, **options):
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("typed meanwhile")
        return original(*arguments, **options)

    original = audio.decode
    monkeypatch.setattr("music_genre.old_audio.decode", decode)
    with pytest.raises(InputError, match="holds something else"):
        prepare([path], out, split="random")
    assert (out / "notes.txt").read_text() == "typed meanwhile"


def test_a_users_folder_with_the_working_name_is_left_alone(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    other = tmp_path / ".out.partial"
    other.mkdir()
    (other / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match=r"\.out\.partial"):
        prepare([path], tmp_path / "out", split="random")
    assert (other / "thesis.txt").read_text() == "ten years of work"


@pytest.mark.parametrize("text", ["[1, 2]", '"text"', '{"rate": 16000}', "no JSON"])
def test_a_preparation_file_of_another_program_is_left_alone(tmp_path, text):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    out.mkdir()
    (out / "preparation.json").write_text(text)
    with pytest.raises(InputError, match="holds something else"):
        prepare([path], out, split="random")
    assert (out / "preparation.json").read_text() == text


def test_a_link_to_a_folder_elsewhere_stays_a_link(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    disk, out = tmp_path / "large disk", tmp_path / "out"
    (disk / "gtzan").mkdir(parents=True)
    out.symlink_to(disk / "gtzan")
    for seed in (1, 2):
        prepare([path], out, split="random", seed=seed)
    assert out.is_symlink()
    assert json.loads((disk / "gtzan" / "preparation.json").read_text())["seed"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "large disk", "out"]
    assert [p.name for p in disk.iterdir()] == ["gtzan"]


def test_the_current_folder_can_be_the_output(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert prepare([path], Path(), split="random")["n_kept"] == 9
    assert (tmp_path / "out" / "dataset_dict.json").is_file()


def test_a_second_run_at_the_same_time_is_refused(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    second = []

    def decode(*arguments, **options):
        """While the first run decodes, another process wants the same folder."""
        if not second:
            code = (
                "from pathlib import Path; from data_prep.prepare import prepare; "
                f"prepare([Path({str(path)!r})], Path({str(out)!r}), split='random')"
            )
            second.append(forked.run(["-c", code]))
        return original(*arguments, **options)

    original = audio.decode
    monkeypatch.setattr("music_genre.old_audio.decode", decode)
    assert prepare([path], out, split="random")["n_kept"] == 9
    assert "another run is preparing" in second[0].stderr.splitlines()[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "out"]


def test_a_dataset_that_a_killed_run_was_replacing_comes_back(tmp_path):
    """Killed between the two renames: the old dataset lies in the working folder."""
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out, work_dir = tmp_path / "out", tmp_path / ".out.partial"
    old = prepare([path], out, split="random", seed=1)
    manifest = (out / "manifest.csv").stat().st_ino
    work_dir.mkdir()
    (work_dir / "lock").touch()
    out.rename(work_dir / "replaced")
    assert prepare([path], out, split="random", seed=1) == old
    assert (out / "manifest.csv").stat().st_ino == manifest, "moved back, not made again"
    assert not work_dir.exists()
