"""A dataset of save_to_disk, or a folder of Parquet files, whose columns have other names."""

from pathlib import Path

import pytest
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Value,
    concatenate_datasets,
    load_from_disk,
)

from data_prep.sources.labelled_dataset import _member
from music_genre.errors import InputError
from tests.data_prep.archives import manifest
from tests.data_prep.music import GENRES, clip, prepared, tag

COLUMNS = {"genre": "style", "artist": "band"}


def dataset(genre: object = None) -> Dataset:
    """Eight clips, the last as the first; `genre` is not `style`, and `mood` has no use."""
    features = Features(
        {
            "audio": {"bytes": Value("binary"), "path": Value("string")},
            "style": genre or Value("string"),
            "genre": Value("string"),
            "band": Value("string"),
            "mood": ClassLabel(names=["calm", "wild"]),
        }
    )
    rows = [
        {
            "audio": {"bytes": clip(i % 7), "path": f"{i}.wav"},
            "style": GENRES[i % 2],
            "genre": "Pop",
            "band": f"Band {i}",
            "mood": i % 2,
        }
        for i in range(8)
    ]
    return Dataset.from_list(rows, features=features)


def write(folder: Path, kind: str, clips: Dataset) -> Path:
    if kind == "parquet":
        folder.mkdir()
        clips.to_parquet(folder / "train.parquet")
    else:
        clips.save_to_disk(folder)
    return folder


@pytest.mark.parametrize("kind", ["parquet", "saved"])
@pytest.mark.parametrize("genre", [None, ClassLabel(names=list(GENRES[::-1]))])
def test_the_columns_that_are_named_are_read(tmp_path, kind, genre):
    source, output = write(tmp_path / "in", kind, dataset(genre)), tmp_path / "out"
    done = prepared(source, output, columns=COLUMNS, min_tracks=1)
    assert (done["n_kept"], done["split"]) == (8, "artist")
    genre_by_artist = {
        row["artist"]: done["genres"][row["genre"]]
        for split in load_from_disk(output).values()
        for row in split.remove_columns("audio")
    }
    assert genre_by_artist == {f"Band {i}": GENRES[i % 2] for i in range(8)}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"genre": "styles"}, "ClassLabel or text .*; it has audio, style.* genre=COLUMN"),
        ({"genre": "audio"}, "genres as a ClassLabel or text"),
        ({"artist": "mood"}, "and artists as text"),
        ({"album": "band"}, "--columns album=... has no use with .*, which is a dataset"),
    ],
)
def test_a_column_that_cannot_be_meant_is_refused(tmp_path, columns, said):
    source = write(tmp_path / "in", "saved", dataset())
    with pytest.raises(InputError, match=said):
        prepared(source, tmp_path / "out", columns=columns)


def test_the_option_is_named_where_no_genres_are_found(tmp_path):
    clips = dataset().remove_columns(["genre", "mood"])
    with pytest.raises(InputError, match=r"it has audio, style, band\. .*--columns genre=COLUMN"):
        prepared(write(tmp_path / "in", "saved", clips), tmp_path / "out")


def test_a_label_is_a_genre_whatever_it_is_called_and_keeps_its_place(tmp_path):
    clips = dataset(ClassLabel(names=["Techno", "Ambient"]))
    clips = clips.cast_column("style", ClassLabel(names=["Techno", "Other ", "Jazz"]))
    done = prepared(write(tmp_path / "in", "saved", clips), tmp_path / "out", columns=COLUMNS)
    assert done["genres"] == ["Techno", "Other"]


def test_a_dataset_of_one_genre_is_refused(tmp_path):
    clips = dataset().filter(lambda row: row["style"] == GENRES[0])
    source = write(tmp_path / "in", "saved", clips)
    with pytest.raises(InputError, match=rf"1 tracks each; here are {GENRES[0]} 4\.$"):
        prepared(source, tmp_path / "out", columns=COLUMNS, min_tracks=1)


def test_a_track_with_excerpts_in_train_and_in_test_is_a_warning(tmp_path):
    clips = dataset().add_column("track_id", [f"song {i // 2}" for i in range(8)])
    clips = clips.add_column("start", [15.0 * (i % 2) for i in range(8)])
    parts = {"train": clips.select(range(5)), "test": clips.select(range(5, 8))}
    DatasetDict(parts).save_to_disk(tmp_path / "in")
    done = prepared(tmp_path / "in", tmp_path / "out", columns=COLUMNS, min_tracks=1)
    assert "excerpts of 1 track are in train and in test" in done["warnings"][-1]


def test_a_new_split_keeps_the_excerpts_of_a_song_together(tmp_path):
    clips = dataset().add_column("track_id", [f"song {i % 4}" for i in range(8)])
    clips = clips.add_column("start", [15.0 * (i // 4) for i in range(8)])
    parts = {"train": clips.select(range(4)), "test": clips.select(range(4, 8))}
    DatasetDict(parts).save_to_disk(tmp_path / "in")
    for seed in range(4):
        options = {"columns": {"genre": "style"}, "split": "random", "seed": seed}
        prepared(tmp_path / "in", tmp_path / f"{seed}", min_tracks=1, **options)
        rows = manifest(tmp_path / f"{seed}")
        assert all(rows[f"train/{i}"]["split"] == rows[f"test/{i}"]["split"] for i in range(4))


def test_clips_without_an_id_are_not_one_track(tmp_path):
    clips = dataset().add_column("track_id", [None] * 6 + ["a", "a"])
    clips = clips.add_column("start", [0.0] * 7 + [1.2])
    done = prepared(write(tmp_path / "in", "saved", clips), tmp_path / "out", columns=COLUMNS)
    assert (done["n_kept"], done["n_clips"]) == (7, 8)
    clips = clips.remove_columns("start")
    done = prepared(write(tmp_path / "in", "saved", clips), tmp_path / "out", columns=COLUMNS)
    ids = {row["track_id"] for row in manifest(tmp_path / "out").values()}
    assert done["n_kept"] == len(ids) == 8


def test_splits_with_labels_in_another_order_are_refused(tmp_path):
    train, test = (dataset(ClassLabel(names=list(names))) for names in (GENRES, GENRES[::-1]))
    DatasetDict(train=train, test=test).save_to_disk(tmp_path / "in")
    with pytest.raises(InputError, match="or another order of them, in its splits"):
        prepared(tmp_path / "in", tmp_path / "out", columns=COLUMNS)
    DatasetDict(Train=train, unlabelled=test).save_to_disk(tmp_path / "other")
    assert prepared(tmp_path / "other", tmp_path / "out", columns=COLUMNS)["n_kept"] == 8
    with pytest.raises(InputError, match="--genre_from has no use with"):
        prepared(tmp_path / "other", tmp_path / "two", genre_from="folders")


def test_a_clip_without_a_label_is_left_out(tmp_path):
    """Its number is -1 then."""
    clips = dataset(ClassLabel(names=list(GENRES)))
    styles = [-1 if i == 3 else style for i, style in enumerate(clips["style"])]
    labels = Features({"style": clips.features["style"]})
    style = Dataset.from_dict({"style": styles}, features=labels)
    clips = concatenate_datasets([clips.remove_columns("style"), style], axis=1)
    source = write(tmp_path / "in", "saved", clips)
    assert prepared(source, tmp_path / "out", columns=COLUMNS, min_tracks=1)["n_kept"] == 7
    status = manifest(tmp_path / "out")["train/3"]["status"]
    assert status == "the dataset has no genre for it"


def test_clips_of_a_track_stay_one_and_files_of_others_are_not_read(tmp_path):
    """A row's path is a stranger's text: one leads out of the dataset."""
    (tmp_path / "secret.wav").write_bytes(clip(99))
    (tmp_path / "tagged.flac").write_bytes(clip(99, "FLAC"))
    rows = [
        {
            "audio": {"bytes": clip(1 if i == 3 else i), "path": f"{i}.wav"},
            "label": GENRES[i // 2 % 2],
            "track_id": f"song {i // 2}",
            "start": 40 * (i % 2),
        }
        for i in range(12)
    ]
    rows[0]["audio"]["bytes"] = tag(tmp_path / "tagged.flac", artist="Ann").read_bytes()
    outside = {"bytes": None, "path": "../secret.wav"}
    rows.append({"audio": outside, "label": GENRES[0], "track_id": "secret", "start": 0})
    source = write(tmp_path / "in", "parquet", Dataset.from_list(rows))
    done = prepared(source, tmp_path / "out", min_tracks=None)
    assert (done["n_kept"], done["n_clips"]) == (6, 12)
    found = manifest(tmp_path / "out")
    assert found["train/12"]["status"] == "the dataset has no audio for it"
    songs = [found[f"train/{i}"] for i in range(0, 12, 2)]
    said = [(song["starts"], song["seconds"], song["artist"]) for song in songs]
    assert said == [("0 40", "2.4", "")] * 6, "tags are not asked"
    assert len({song["sha256"] for song in songs}) == 6, "two end alike"
    member = _member("train/0", {"bytes": None, "path": "b.wav"}, 40.0, [tmp_path])
    assert (member.path, member.start) == (tmp_path / "b.wav", 40.0), "a file of the dataset"
