"""Datasets that data_prep did not make: another column name, rate, no splits, and no torchcodec."""

import io
import json
import logging
import os
import shutil
import sys
import zipfile

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Value,
    concatenate_datasets,
)

from data_prep.leakage import describe_leakage
from music_genre import old_audio as audio
from music_genre.errors import InputError
from music_genre.training.clips import ClipDataset
from music_genre.training.data import find_archives, load_data
from music_genre.training.options import check_dataset_name
from music_genre.training.standardize import missing_genres, standardize


def clip(i: int, sampling_rate: int = 8_000) -> bytes:
    tone = 0.4 * np.sin(2 * np.pi * (200 + 10 * i) * np.arange(2 * sampling_rate) / sampling_rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, sampling_rate, format="FLAC")
    return buffer.getvalue()


def foreign_dataset(n: int = 40) -> Dataset:
    features = Features(audio=Audio(), label=ClassLabel(names=["low", "high"]), id=Value("int64"))
    rows = [
        {"audio": {"bytes": clip(i), "path": f"song{i}.flac"}, "label": i % 2, "id": i}
        for i in range(n)
    ]
    return Dataset(pa.Table.from_pylist(rows, schema=features.arrow_schema))


@pytest.fixture
def without_torchcodec(monkeypatch):
    for name in ("torchcodec", "torchcodec.encoders", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("datasets.config.TORCHCODEC_AVAILABLE", False)


def test_a_foreign_dataset_is_brought_to_form(tmp_path, without_torchcodec):
    DatasetDict(train=foreign_dataset()).save_to_disk(tmp_path / "foreign")
    dataset, source = load_data(str(tmp_path / "foreign"), None, seed=0)
    assert {name: len(split) for name, split in dataset.items()} == {
        "train": 32,
        "validation": 4,
        "test": 4,
    }
    assert (source.split, source.leakage, source.is_synthetic) == ("random", None, False)
    row = dataset["train"][0]
    assert dataset["train"].features["genre"].names == ["low", "high"]
    assert row["track_id"].startswith("song")
    info = soundfile.info(io.BytesIO(row["audio"]["bytes"]))
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    assert audio.n_samples(row["audio"]["bytes"]) == 32_000


def test_its_own_splits_are_kept(tmp_path):
    parts = DatasetDict(
        train=foreign_dataset(20), validation=foreign_dataset(6), test=foreign_dataset(8)
    )
    parts.save_to_disk(tmp_path / "foreign")
    dataset, source = load_data(str(tmp_path / "foreign"), None, seed=0)
    assert [len(split) for split in dataset.values()] == [20, 6, 8]
    assert source.split == "its own"


def test_what_is_missing_is_said(tmp_path):
    DatasetDict(train=foreign_dataset().remove_columns("label")).save_to_disk(tmp_path / "foreign")
    with pytest.raises(InputError, match=r"a column `audio`, and genres.*it has audio, id"):
        load_data(str(tmp_path / "foreign"), None, seed=0)


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


def test_only_archives_with_gtzan_clips_are_found_newest_first(in_empty_folder):
    assert find_archives() == []
    data = in_empty_folder / "data"
    write_zip(data / "synthetic.zip", "genres_original/jazz/jazz.00000.wav")
    write_zip(data / "photos.zip", "holiday.jpg", "jazz.mp3")
    assert find_archives() == []
    with pytest.raises(InputError, match="There is no GTZAN archive in data/"):
        load_data(None, None, seed=0)
    for i, name in enumerate(["GTZAN Genre Collection.ZIP", "older.zip"]):
        write_zip(data / name, "Data/genres_original/jazz/jazz.00000.wav")
        os.utime(data / name, (1e9 - i, 1e9 - i))
    assert [path.name for path in find_archives()] == ["GTZAN Genre Collection.ZIP", "older.zip"]


def test_a_damaged_archive_is_named_instead_of_running_the_quickstart(in_empty_folder, archive):
    whole = archive.read_bytes()
    (in_empty_folder / "data" / "GTZAN.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"GTZAN\.zip .*download it again"):
        load_data(None, None, seed=0)


def test_the_archive_that_is_used_is_named(in_empty_folder, archive, capsys):
    for name in ("a.zip", "b.zip"):
        shutil.copy(archive, in_empty_folder / "data" / name)
    os.utime(in_empty_folder / "data" / "a.zip", (1e9, 1e9))
    load_data(None, "random", seed=0)
    line = "Training on data/b.zip, the newest of 2 GTZAN archives there."
    assert line in capsys.readouterr().out.splitlines()


# --- other sources --------------------------------------------------------------------------


def test_a_folder_of_parquet_files_is_loaded(tmp_path):
    for split, n in (("train", 30), ("test", 6)):
        foreign_dataset(n).to_parquet(tmp_path / "clips" / "data" / f"{split}-00000.parquet")
    dataset, source = load_data(str(tmp_path / "clips"), None, seed=0)
    assert {name: len(split) for name, split in dataset.items()} == {
        "train": 26, "validation": 4, "test": 6,
    }  # fmt: skip
    assert (source.name, source.split) == ("clips", "its own")


def test_a_folder_per_genre_is_prepared(in_empty_folder, tmp_path):
    for i in range(24):
        path = tmp_path / "mine" / "train" / ("low", "high")[i % 2] / f"song{i}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip(i))
    dataset, source = load_data(str(tmp_path / "mine"), None, seed=0)
    assert dataset["train"].features["genre"].names == ["high", "low"]
    assert [len(split) for split in dataset.values()] == [20, 2, 2]
    assert source.name == "mine"


def test_a_single_saved_dataset_is_split(tmp_path):
    foreign_dataset(20).save_to_disk(tmp_path / "foreign")
    dataset, _ = load_data(str(tmp_path / "foreign"), None, seed=0)
    assert [len(split) for split in dataset.values()] == [16, 2, 2]


def test_a_folder_without_audio_is_one_sentence(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("no audio")
    with pytest.raises(InputError, match="needs a column `audio`") as error:
        load_data(str(tmp_path / "texts"), None, seed=0)
    assert len(str(error.value).splitlines()) == 1


def test_a_prepared_dataset_refuses_another_split(prepared):
    with pytest.raises(InputError, match="has the random split: leave out --split artist"):
        load_data(str(prepared), "artist", seed=0)
    _, source = load_data(str(prepared), "random", seed=0)
    assert source.is_synthetic
    assert source.leakage is None, "GTZAN's artists have nothing to do with synthesised music"


def test_a_dataset_of_an_earlier_version_is_one_sentence(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "old")
    path = tmp_path / "old" / "preparation.json"
    old = json.loads(path.read_text())
    path.write_text(json.dumps({k: old[k] for k in old if k != "dataset_name"}))
    with pytest.raises(InputError, match="by an earlier version: prepare it again"):
        load_data(str(tmp_path / "old"), None, seed=0)


# --- names of datasets ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["data/nothere", "./x/y", "nothere", "a/b/c", "/x", "~/y", "you/set.zip", "you/", "tests/x"],
)
def test_a_path_that_does_not_exist_is_told_without_asking_the_hub(name, monkeypatch, root):
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match=f"There is no file or folder {name}"):
        check_dataset_name(name)


def test_an_unreachable_hub_is_one_sentence_without_warnings(monkeypatch, caplog):
    def fail(*args, **kwargs):
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s [Retry 1/5].")
        raise OSError("unreachable")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", fail)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=r"nobody/nothing.*the Hub cannot be reached"):
        load_data("nobody/nothing", None, seed=0)
    assert not caplog.records


# --- splits that are drawn ------------------------------------------------------------------


def labelled(genres, names=("blues", "jazz", "rock")) -> Dataset:
    features = Features(audio=Audio(), genre=ClassLabel(names=list(names)))
    rows = [{"audio": {"bytes": clip(i), "path": None}, "genre": g} for i, g in enumerate(genres)]
    return Dataset(pa.Table.from_pylist(rows, schema=features.arrow_schema))


def test_every_genre_is_in_every_split_of_18_clips():
    """Six clips a genre, with train and test: stratifying by scikit-learn raised ValueError."""
    given = DatasetDict(train=labelled(6 * [0, 1, 2]), test=labelled([0, 1, 2]))
    dataset, drawn_by, leakage = standardize(given, "mine", seed=0)
    assert (drawn_by, leakage) == (None, None), "the test split is the source's own"
    assert [sorted(split["genre"]) for split in dataset.values()] == [
        5 * [0] + 5 * [1] + 5 * [2], [0, 1, 2], [0, 1, 2],
    ]  # fmt: skip


def test_a_genre_of_one_clip_stays_in_train():
    dataset, *_ = standardize(labelled([0] + 5 * [1] + 2 * [2]), "mine", seed=0)
    assert 0 in dataset["train"]["genre"]
    assert 0 not in [*dataset["validation"]["genre"], *dataset["test"]["genre"]]
    assert missing_genres(dataset) == [
        "validation has no clip of blues: the model is compared and calibrated without them.",
        "test has no clip of blues, rock: its scores do not cover them.",
    ]


def test_a_missing_test_split_is_drawn_from_train():
    given = DatasetDict(train=labelled(6 * [0, 1, 2]), validation=labelled([0, 1, 2]))
    dataset, *_ = standardize(given, "mine", seed=0)
    assert [len(split) for split in dataset.values()] == [15, 3, 3]


def test_genres_as_text_get_the_same_numbers_in_every_split():
    features = Features(audio=Audio(), label=Value("string"))

    def of(genres):
        rows = [
            {"audio": {"bytes": clip(i), "path": None}, "label": g} for i, g in enumerate(genres)
        ]
        return Dataset(pa.Table.from_pylist(rows, schema=features.arrow_schema))

    given = DatasetDict(
        train=of(["rock", "jazz", "rock"]), validation=of(["rock"]), test=of(["rock"])
    )
    dataset, *_ = standardize(given, "mine", seed=0)
    assert dataset["test"].features["genre"].names == ["jazz", "rock"]
    assert dataset["test"]["genre"] == [1]


# --- artists and tracks ---------------------------------------------------------------------


def songs(artists, **columns) -> Dataset:
    """A clip for each artist, whose name starts with its genre; with columns that are made of i."""
    genres = ["blues", "jazz"]
    features = Features(audio=Audio(), genre=ClassLabel(names=genres), artist=Value("string"))
    features |= {name: Value("string") for name in columns}
    rows = [
        {"audio": {"bytes": clip(i), "path": None}, "genre": genres.index(artist.split()[0]),
         "artist": artist} | {name: value(i) for name, value in columns.items()}
        for i, artist in enumerate(artists)
    ]  # fmt: skip
    return Dataset(pa.Table.from_pylist(rows, schema=Features(features).arrow_schema))


def test_artists_are_kept_and_what_leaks_is_counted(tmp_path):
    """The linear probe, the margin and the intervals go by artists: a dataset of the Hub has them.

    They were dropped, so that tracks of one artist chose the regularization for each other.
    """
    DatasetDict(
        train=songs(["blues A", "jazz B", "jazz B"]), validation=songs(["blues C"]),
        test=songs(["jazz B", "blues D"]),
    ).save_to_disk(tmp_path / "songs")  # fmt: skip
    dataset, source = load_data(str(tmp_path / "songs"), None, seed=0)
    assert ClipDataset(dataset["test"], 16_000).artists == ["jazz B", "blues D"]
    assert source.split == "its own"
    assert (source.leakage["artist_in_train"], source.leakage["artist_unknown"]) == (1, 0)
    assert "share artist and title" not in describe_leakage(source.leakage), "it has no titles"


def test_splits_are_drawn_by_artist_where_artists_are_known():
    artists = [f"{genre} {name}" for genre in ("blues", "jazz") for name in "ABCDEFGHIJ"]
    dataset, drawn_by, leakage = standardize(songs(3 * artists), "mine", seed=0)
    assert [len(split) for split in dataset.values()] == [48, 6, 6]
    train, validation, test = (set(split["artist"]) for split in dataset.values())
    assert not (train & test or train & validation or validation & test)
    assert (drawn_by, leakage["artist_in_train"]) == ("artist", 0)


def test_unknown_artists_are_not_one_artist():
    """With all clips by "Unknown Artist" there was one artist, and no linear probe."""
    given = songs(["blues", "jazz"] * 9).remove_columns("artist")
    given = given.add_column("artist", ["Unknown Artist", "Various Artists", "Nina"] * 6)
    dataset, *_ = standardize(given, "mine", seed=0)
    artists = {artist for clips in dataset.values() for artist in clips["artist"]}
    assert artists == {"", "Nina"}


@pytest.mark.parametrize("kind", [Value("string"), ClassLabel(names=["x", "y"])])
def test_the_genre_is_the_column_of_that_name(kind):
    """Another ClassLabel came first, and the run learned to tell that apart."""
    given = labelled([0, 1] * 9, names=["blues", "jazz"])
    others = [i % 2 if isinstance(kind, ClassLabel) else "ab"[i % 2] for i in range(18)]
    first = Dataset.from_dict({"gender": [0] * 18}, Features(gender=ClassLabel(names=["f", "m"])))
    if not isinstance(kind, ClassLabel):
        given = given.cast_column("genre", Value("string"))
    both = concatenate_datasets([first, given.add_column("mood", others)], axis=1)
    dataset, *_ = standardize(both, "mine", seed=0)
    assert len(dataset["train"].features["genre"].names) == 2
    assert "gender" not in dataset["train"].column_names
    unnamed = both.rename_column("genre", "style").cast_column("style", ClassLabel(2))
    with pytest.raises(InputError, match="in its only ClassLabel"):
        standardize(unnamed, "mine", seed=0)


def test_excerpts_of_a_song_stay_one_track(tmp_path):
    """As data_prep makes them: clips with one track_id and a start."""
    clips = songs(40 * ["blues ?"] + 40 * ["jazz ?"], track_id=lambda i: f"song {i // 4}")
    clips = clips.remove_columns("artist").add_column("start", [float(i % 4) for i in range(80)])
    clips.save_to_disk(tmp_path / "songs")
    dataset, source = load_data(str(tmp_path / "songs"), None, seed=0)
    assert source.split == "random"
    tracks = {split: ClipDataset(clips, 16_000) for split, clips in dataset.items()}
    assert [len(split) for split in tracks.values()] == [16, 2, 2]
    assert {len(rows) for split in tracks.values() for rows in split.tracks} == {4}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: DatasetDict(test=labelled([0, 1])), "needs a train split; it has test"),
        (lambda: labelled([0, 1, None]), "clips without a genre"),
        (lambda: labelled([0, 0], names=["blues"]), "only one genre"),
        (
            lambda: DatasetDict(
                train=labelled([0, 1, 2]), test=labelled([0, 1], names=["jazz", "blues", "rock"])
            ),
            "another order of them",
        ),
    ],
)
def test_a_dataset_that_cannot_be_used_is_one_sentence(given, message):
    with pytest.raises(InputError, match=message):
        standardize(given(), "mine", seed=0)


def test_a_clip_that_cannot_be_decoded_is_named():
    rows = [{"audio": {"bytes": b"noise", "path": "bad.mp3"}, "genre": 0}]
    features = Features(audio=Audio(), genre=ClassLabel(names=["blues", "jazz"]))
    broken = Dataset(pa.Table.from_pylist(rows, schema=features.arrow_schema))
    given = DatasetDict(train=broken, validation=labelled([0], ["blues", "jazz"]))
    with pytest.raises(InputError, match=r"mine: clip bad\.mp3 cannot be decoded"):
        standardize(given | {"test": given["validation"]}, "mine", seed=0)


def test_genres_without_a_clip_to_train_on_are_named(prepared):
    dataset, _ = load_data(str(prepared), None, seed=0)
    assert missing_genres(dataset) == []
    without = dataset["train"].filter(lambda genre: genre > 1, input_columns="genre")
    assert missing_genres({"train": without}) == [
        "train has no clip of blues, classical: the model cannot learn them."
    ]
