"""The output folder: replaced only where this program made it, finished or not there at all."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk

from data_prep import decoding, excerpts
from data_prep.options import SourceOptions
from data_prep.prepare import AnotherPreparationError, prepare
from music_genre.errors import InputError
from tests.data_prep.archives import make_zip, three_of_each
from tests.data_prep.music import GENRES, by_genre, write, write_csv


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_run_is_done_at_once(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    first = prepare([path], out, split="random", seed=1)
    inode = (out / "manifest.csv").stat().st_ino
    assert prepare([path], out, split="random", seed=1) == first
    assert (out / "manifest.csv").stat().st_ino == inode


def test_another_preparation_is_replaced_only_if_told_so(tmp_path):
    """`--dataset ~/Music` replaced the folder that somebody had made with options."""
    path = make_zip(tmp_path / "a.zip", three_of_each())
    other = make_zip(tmp_path / "other.zip", three_of_each())
    out = tmp_path / "out"
    first = prepare([path], out, split="random", seed=1)
    for arguments, options, difference in (
        ([path], {"split": "random", "seed": 2}, "with another --seed"),
        ([path], {"split": "artist", "seed": 1}, "with another --split"),
        (
            [path],
            {"split": "random", "seed": 1, "source_options": SourceOptions(genre_from="gtzan")},
            "with another --genre_from",
        ),
        ([path], {"split": "random", "seed": 1, "sampling_rate": 8000}, "another --sampling_rate"),
        ([other], {"split": "random", "seed": 1}, r"of .*a\.zip"),
    ):
        with pytest.raises(AnotherPreparationError, match=difference):
            prepare(arguments, out, **options)
    assert prepare([path], out, split="random", seed=1) == first
    done = prepare([path], out, split="random", seed=2, overwrite=True)
    assert json.loads((out / "preparation.json").read_text())["seed"] == done["seed"] == 2


def test_two_sources_are_replaced_by_one(tmp_path):
    """With --overwrite it was a ValueError."""
    paths = [make_zip(tmp_path / f"{name}.zip", three_of_each()) for name in "ab"]
    prepare(paths, tmp_path / "out", split="random")
    done = prepare(paths[:1], tmp_path / "out", split="random", overwrite=True)
    assert [source["name"] for source in done["sources"]] == ["a.zip"]


def test_a_passing_error_is_not_prepared_again_at_every_start(tmp_path, monkeypatch):
    """With several processes, each start renamed the dataset away under the others."""
    path, decode = make_zip(tmp_path / "a.zip", three_of_each()), decoding.decode_member

    def fail_first(*arguments):
        if arguments[1].name == "000000":
            raise OSError(errno.EIO, "Input/output error")
        return decode(*arguments)

    monkeypatch.setattr(decoding, "decode_member", fail_first)
    first = prepare([path], tmp_path / "out", split="random")
    assert (first["n_temporary"], first["n_dropped"]) == (1, 1)
    monkeypatch.setattr(decoding, "decode_member", decode)
    assert prepare([path], tmp_path / "out", split="random") == first
    again = prepare([path], tmp_path / "out", split="random", overwrite=True)
    assert again["n_kept"] == first["n_kept"] + 1 and not again["n_temporary"]


def test_a_source_has_one_state_whatever_its_spelling(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    first = prepare([path], tmp_path / "out", split="random")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for spelling in ("a.zip", "./link/a.zip"):
        assert prepare([spelling], tmp_path / "out", split="random") == first


@pytest.mark.parametrize("kind", ["archive", "folder", "table"])
def test_a_source_that_has_changed_is_prepared_anew(tmp_path, kind, capsys):
    """Also a file that was edited in place, whose size is what it was."""
    if kind == "archive":
        source = file = make_zip(tmp_path / "a.zip", three_of_each())
    else:
        source = write(tmp_path / "m", by_genre(10))
        file = source / "Techno" / "0.wav"
        if kind == "table":
            rows = [{"path": f"{g}/{i}.wav", "genre": g} for g in GENRES for i in range(10)]
            source = write_csv(source / "t.csv", rows)
    prepare([source], tmp_path / "out", split="random")
    before = content(tmp_path / "out")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 64
    file.write_bytes(data)
    with pytest.raises(AnotherPreparationError, match="with another --seed"):
        prepare([source], tmp_path / "out", split="random", seed=1)
    prepare([source], tmp_path / "out", split="random")
    assert f"{source} has changed: {tmp_path / 'out'} is prepared anew." in capsys.readouterr().out
    assert content(tmp_path / "out") != before


def test_files_that_are_no_music_change_no_source(tmp_path):
    """A file manager writes .DS_Store or Thumbs.db where a person looks."""
    source = write(tmp_path / "m", by_genre(10))
    first = prepare([source], tmp_path / "out", split="random")
    write(source, {".DS_Store": b"x", "Techno/Thumbs.db": b"x", "notes.txt": b"x"})
    assert prepare([source], tmp_path / "out", split="random") == first


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
        prepare([path], out, split="random", seed=2, overwrite=True)
    assert (out / "train" / "notes.txt").read_text() == "which tracks sound wrong"
    assert prepare([path], out, split="random", seed=1)["seed"] == 1
    (out / "train" / "notes.txt").unlink()
    (out / "train" / "cache-0123456789abcdef.arrow").touch()  # what Dataset.map leaves
    assert prepare([path], out, split="random", seed=2, overwrite=True)["seed"] == 2


def test_a_file_that_comes_while_the_clips_are_decoded_survives(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"

    def decode(*arguments, **options):
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("typed meanwhile")
        return original(*arguments, **options)

    original = excerpts.decode
    monkeypatch.setattr(excerpts, "decode", decode)
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
        prepare([path], out, split="random", seed=seed, overwrite=True)
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


def test_a_second_run_at_the_same_time_waits_and_takes_what_the_first_made(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    second = []

    def decode(*arguments, **options):
        """While the first run decodes, another process wants the same folder."""
        if not second:
            code = (
                "from pathlib import Path; from data_prep.prepare import prepare; "
                f"done = prepare([{str(path)!r}], Path({str(out)!r}), split='random'); "
                "print(done['n_kept'])"
            )
            second.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
            assert b"waiting for its end" in second[0].stdout.readline()
        return original(*arguments, **options)

    original = excerpts.decode
    monkeypatch.setattr(excerpts, "decode", decode)
    assert prepare([path], out, split="random")["n_kept"] == 9
    inode = (out / "manifest.csv").stat().st_ino
    said = second[0].communicate(timeout=120)[0].decode().splitlines()
    assert said == [f"{out} is prepared already: nothing to do.", "9"]
    assert (out / "manifest.csv").stat().st_ino == inode
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
