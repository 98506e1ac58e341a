"""The output folder: replaced only where this program made it, finished or not there at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk

from data_prep import excerpts
from data_prep.prepare import prepare
from data_prep.prepared import load_prepared
from music_genre.errors import InputError
from tests.data_prep.archives import make_zip, three_of_each
from tests.data_prep.music import GENRES, by_genre, write, write_csv


@pytest.fixture
def path(tmp_path) -> Path:
    return make_zip(tmp_path / "a.zip", three_of_each())


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fingerprints(folder: Path) -> set[str]:
    return {split._fingerprint for split in load_from_disk(folder).values()}


def test_a_second_run_is_done_at_once_whatever_the_spelling(path, out, tmp_path, monkeypatch):
    first = prepare([path], out, split="random", seed=1)
    inode = (out / "manifest.csv").stat().st_ino
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for spelling in (path, "a.zip", "./link/a.zip"):
        assert prepare([spelling], out, split="random", seed=1) == first
    assert (out / "manifest.csv").stat().st_ino == inode


def test_an_output_folder_inside_the_source_is_no_change_of_it(tmp_path):
    source = write(tmp_path / "music", by_genre(10))
    first = prepare([source], source / "prepared")
    inode = (source / "prepared" / "manifest.csv").stat().st_ino
    assert prepare([source], source / "prepared") == first
    assert (source / "prepared" / "manifest.csv").stat().st_ino == inode


def test_a_number_out_of_range_is_refused_before_anything_is_decoded(path, out):
    for name, number in (("seed", -1), ("sampling_rate", 3_999), ("sampling_rate", 96_001)):
        with pytest.raises(InputError, match=f"--{name} must be .*, not {number}"):
            prepare([path], out, **{"split": "random", name: number})


def test_another_preparation_is_replaced_only_if_told_so(path, out, tmp_path):
    """`--dataset ~/Music` replaced the folder that somebody had made with options."""
    other = make_zip(tmp_path / "other.zip", three_of_each())
    first = prepare([path], out, split="random", seed=1)
    same = {"split": "random", "seed": 1}
    for source, options, difference in (
        (path, same | {"seed": 2}, "a different seed"),
        (path, same | {"split": "artist", "on_bad_clip": "fail"}, "a different on_bad_clip, split"),
        (path, same | {"genre_from": "gtzan"}, "a different genre_from"),
        (path, same | {"sampling_rate": 8000}, "a different sampling_rate"),
        (other, same, "a different source"),
    ):
        with pytest.raises(InputError, match=difference):
            prepare([source], out, **options)
    assert prepare([path], out, **same) == first
    done = prepare([path, other], out, split="random", seed=2, overwrite=True)
    assert json.loads((out / "preparation.json").read_text())["seed"] == done["seed"] == 2
    (out / "preparation.json").write_text('{"split": "random"}')  # of an earlier version
    with pytest.raises(InputError, match=r"\(with a different version of this program\). To train"):
        prepare([path], out, split="random")
    with pytest.raises(InputError, match="an earlier version: prepare it again with --overwrite"):
        load_prepared(out)
    done = prepare([path], out, split="random", overwrite=True)
    assert [source["name"] for source in done["sources"]] == ["a.zip"]


@pytest.mark.parametrize("kind", ["archive", "folder", "table"])
def test_a_source_that_has_changed_is_prepared_anew(path, out, tmp_path, kind, capsys):
    """Also a file that was edited in place, whose size is what it was."""
    source = file = path
    if kind != "archive":
        source = write(tmp_path / "m", by_genre(10))
        file = source / "Techno" / "0.wav"
    if kind == "table":
        rows = [{"path": f"{g}/{i}.wav", "genre": g} for g in GENRES for i in range(10)]
        source = write_csv(source / "t.csv", rows)
    first = prepare([source], out, split="random")
    if kind == "folder":  # what a file manager writes where a person looks is no change
        write(source, {".DS_Store": b"x", "Techno/Thumbs.db": b"x", "notes.txt": b"x"})
        assert prepare([source], out, split="random") == first
    before = fingerprints(out)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 64
    file.write_bytes(data)
    with pytest.raises(InputError, match="with a different seed"):
        prepare([source], out, split="random", seed=1)
    prepare([source], out, split="random")
    assert f"{source} has changed: {out} is prepared again." in capsys.readouterr().out
    assert fingerprints(out) != before


def test_the_same_archive_gives_the_same_bytes_and_another_seed_other_fingerprints(path, tmp_path):
    """Equal fingerprints would give one split what `Dataset.map` made of another."""
    found = set()
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        prepare([path], tmp_path / name, split="random", seed=seed)
        found |= fingerprints(tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(found) == 6


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("thesis.txt", "ten years of work"),
        ("preparation.json", "[1, 2]"),
        ("preparation.json", "no JSON"),
    ],
)
def test_a_folder_with_something_else_is_left_alone(path, out, name, text):
    out.mkdir()
    (out / name).write_text(text)
    for output_dir in (out, out / name):
        with pytest.raises(InputError, match="holds something else"):
            prepare([path], output_dir, split="random", overwrite=True)
    assert (out / name).read_text() == text


def test_a_file_that_a_user_put_into_the_dataset_survives(path, out):
    """Other options rebuild the folder; what this program did not make may not go with it."""
    prepare([path], out, split="random", seed=1)
    (out / "train" / "notes.txt").write_text("which tracks sound wrong")
    with pytest.raises(InputError, match=r"train/notes\.txt"):
        prepare([path], out, split="random", seed=2, overwrite=True)
    assert (out / "train" / "notes.txt").read_text() == "which tracks sound wrong"
    assert prepare([path], out, split="random", seed=1)["seed"] == 1
    (out / "train" / "notes.txt").unlink()
    (out / "more").symlink_to(path.parent)
    with pytest.raises(InputError, match="more is not a file of data_prep"):
        prepare([path], out, split="random", seed=2, overwrite=True)
    (out / "more").unlink()
    (out / "train" / "cache-0123456789abcdef.arrow").touch()  # what Dataset.map leaves
    assert prepare([path], out, split="random", seed=2, overwrite=True)["seed"] == 2


def test_a_file_that_comes_while_the_clips_are_decoded_survives(path, out, monkeypatch):
    def decode(*arguments, **options):
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("typed meanwhile")
        return original(*arguments, **options)

    original = excerpts.decode
    monkeypatch.setattr(excerpts, "decode", decode)
    with pytest.raises(InputError, match="holds something else"):
        prepare([path], out, split="random")
    assert (out / "notes.txt").read_text() == "typed meanwhile"


def test_a_users_folder_with_the_working_name_is_left_alone(path, out, tmp_path):
    thesis = tmp_path / ".out.partial" / "thesis.txt"
    write(thesis.parent, {thesis.name: b"ten years of work", "clips/1.wav": b""})
    with pytest.raises(InputError, match=r"\.out\.partial"):
        prepare([path], out, split="random")
    assert thesis.read_text() == "ten years of work"


def test_a_link_to_a_folder_elsewhere_stays_a_link(path, out, tmp_path):
    disk = tmp_path / "large disk"
    (disk / "gtzan").mkdir(parents=True)
    out.symlink_to(disk / "gtzan")
    for seed in (1, 2):
        prepare([path], out, split="random", seed=seed, overwrite=True)
    assert out.is_symlink()
    assert json.loads((disk / "gtzan" / "preparation.json").read_text())["seed"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "large disk", "out"]
    assert [p.name for p in disk.iterdir()] == ["gtzan"]


def test_the_current_folder_can_be_the_output(path, out, monkeypatch):
    out.mkdir()
    monkeypatch.chdir(out)
    assert prepare([path], Path(), split="random")["n_kept"] == 9
    assert (out / "dataset_dict.json").is_file()


def test_a_second_run_at_the_same_time_waits_and_takes_what_the_first_made(path, out, monkeypatch):
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
    said = second[0].communicate(timeout=120)[0].decode().splitlines()
    assert said == [f"{out} is prepared already: nothing to do.", "9"]
    assert sorted(p.name for p in out.parent.iterdir()) == ["a.zip", "out"]
