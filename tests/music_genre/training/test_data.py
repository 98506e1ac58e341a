"""The dataset of a run: what is prepared, by which command, and what is refused."""

import os
import shutil
import subprocess
import tarfile
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from music_genre.errors import InputError
from music_genre.training import data
from music_genre.training.arguments import DataArguments

RATE = 16_000


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """Those that would be run."""
    run: list[list[str]] = []

    def note(command: list[str], **_: object) -> subprocess.CompletedProcess:
        run.append(command[3:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", note)
    return run


def write_zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


def test_only_archives_with_gtzan_clips_are_found_newest_first(in_empty_folder):
    assert data.find_archives() == []
    folder = in_empty_folder / "data"
    write_zip(folder / "synthetic.zip", "genres_original/jazz/jazz.00000.wav")
    write_zip(folder / "photos.zip", "holiday.jpg", "jazz.mp3")
    assert data.find_archives() == []
    with pytest.raises(InputError, match="There is no GTZAN archive in data/"):
        data.find_dataset(None)
    for i, name in enumerate(["GTZAN Genre Collection.ZIP", "older.zip"]):
        write_zip(folder / name, "Data/genres_original/jazz/jazz.00000.wav")
        os.utime(folder / name, (1e9 - i, 1e9 - i))
    assert [p.name for p in data.find_archives()] == ["GTZAN Genre Collection.ZIP", "older.zip"]


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "TGZ"])
def test_an_archive_of_every_kind_is_found(in_empty_folder, archive, ending):
    with zipfile.ZipFile(archive) as source:
        source.extractall(in_empty_folder / "genres")
    with tarfile.open(in_empty_folder / "data" / f"genres.{ending}", "w") as packed:
        packed.add(in_empty_folder / "genres", "genres")
    (in_empty_folder / "data" / "tracks.csv.gz").write_bytes(b"a table")
    assert [path.name for path in data.find_archives()] == [f"genres.{ending}"]


def test_the_archive_that_is_used_is_named(in_empty_folder, archive, capsys):
    shutil.copy(archive, in_empty_folder / "data" / "a.zip")
    assert data.find_dataset(None) == str(Path("data", "a.zip"))
    line = "Training on data/a.zip, the newest GTZAN archive in data/."
    assert line in capsys.readouterr().out.splitlines()


def test_an_archive_that_cannot_be_read_is_named(in_empty_folder, archive):
    whole = archive.read_bytes()
    (in_empty_folder / "data" / "b.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"data/b\.zip is not a source of music"):
        data.find_dataset(None)


def test_what_is_prepared_is_not_prepared_again(prepared, commands, monkeypatch):
    monkeypatch.setenv("HOME", str(prepared.parent))
    for name in (str(prepared), f"~/{prepared.name}"):
        assert data.prepare(DataArguments(dataset=name), RATE) == prepared
    assert not commands


@pytest.mark.parametrize(
    ("options", "rate", "folder", "flags"),
    [
        ({}, RATE, "data/my-music-prepared", []),
        (
            {"split": "random", "split_seed": 3, "genre_from": "folders"},
            RATE,
            "data/my-music-random",
            ["--split", "random", "--seed", "3", "--genre_from", "folders"],
        ),
        ({}, 32_000, "data/my-music-prepared-32000", ["--sampling_rate", "32000"]),
    ],
)
def test_a_source_is_prepared_as_one_would_by_hand(
    options, rate, folder, flags, in_empty_folder, commands
):
    (in_empty_folder / "My Music").mkdir()
    assert data.prepare(DataArguments(dataset="My Music", **options), rate) == Path(folder)
    ((source, *given),) = commands
    assert source == "My Music"
    assert given[given.index("--output_dir") + 1] == folder
    assert all(text in given for text in flags)
    assert given[given.index("--sampling_rate") + 1] == str(rate)


def test_a_resumed_run_goes_on_with_what_was_prepared(in_empty_folder, prepared, commands):
    (in_empty_folder / "music").mkdir()
    arguments = DataArguments("music")
    shutil.copytree(prepared, in_empty_folder / "data" / "music-prepared")
    folder = data.prepare(arguments, RATE, is_resumed=True)
    assert folder == Path("data/music-prepared") and not commands
    data.prepare(arguments, RATE)
    assert len(commands) == 1, "a run that starts has a source prepared that has changed"


def test_the_other_processes_of_a_machine_take_what_its_first_one_prepared(
    in_empty_folder, commands, monkeypatch
):
    (in_empty_folder / "My Music").mkdir()
    other = SimpleNamespace(local_main_process_first=nullcontext, is_local_main_process=False)
    monkeypatch.setattr(data, "PartialState", lambda: other)
    found = data.prepare(DataArguments(dataset="My Music"), RATE)
    assert found == Path("data/my-music-prepared")
    assert not commands


def test_what_data_prep_refuses_ends_the_run_with_its_sentence(in_empty_folder, capfd):
    (in_empty_folder / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        data.prepare(DataArguments(dataset="empty"), RATE)
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("error: ")


def test_a_prepared_dataset_refuses_what_it_was_not_prepared_with(prepared, monkeypatch):
    with pytest.raises(InputError, match="prepared with split random: leave out --split artist"):
        data.load_data(prepared, DataArguments(split="artist"), RATE)
    with pytest.raises(InputError, match="prepared with split_seed 0: leave out --split_seed 3"):
        data.load_data(prepared, DataArguments(split_seed=3), RATE)
    with pytest.raises(InputError, match="prepared with genre_from gtzan: leave out --genre_from"):
        data.load_data(prepared, DataArguments(genre_from="tags"), RATE)
    with pytest.raises(InputError, match=r"the model takes 32,000 Hz.*--sampling_rate 32000"):
        data.load_data(prepared, DataArguments(), 32_000)
    _, known = data.load_data(prepared, DataArguments(split="random"), RATE)
    assert (known.dataset_name, known.is_synthetic) == ("synthesised music", True)
    assert known.leakage is None, "GTZAN's artists have nothing to do with synthesised music"
    dataset, known = data.load_prepared(prepared)
    without = dataset | {"validation": dataset["validation"].select([])}
    monkeypatch.setattr(data, "load_prepared", lambda _: (without, known))
    with pytest.raises(InputError, match=r"The validation split of .* is empty"):
        data.load_data(prepared, DataArguments(), RATE)


def test_what_data_prep_warned_of_is_printed_by_training(uneven, capsys):
    _, known = data.load_data(uneven, DataArguments(), RATE)
    assert known.split == "its own"
    data.prepare(DataArguments(str(uneven)), RATE)
    assert "warning: the validation split has no track of ambient" in capsys.readouterr().out
