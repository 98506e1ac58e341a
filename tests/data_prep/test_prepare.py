"""Archives of every form, through the whole preparation."""

import csv
import io
import zipfile
from pathlib import Path

import pytest
import soundfile
from datasets import Audio, load_from_disk

from data_prep import archive as archive_module
from data_prep.gtzan import GENRES, artists_and_titles, filtered_split
from data_prep.prepare import prepare
from data_prep.prepared import read_preparation
from music_genre.errors import InputError
from tests.data_prep.archives import clip_bytes, make_zip, manifest, samples_of, three_of_each
from tests.data_prep.music import clip, tag, write
from tests.data_prep.test_archive import make


def test_a_dataset_with_an_empty_split_loads(tmp_path):
    """Two tracks of a genre are too few for three splits, so validation and test are empty."""
    members = {name: data for name, data in three_of_each().items() if "00002" not in name}
    source = make_zip(tmp_path / "small.zip", members)
    prepare([source], tmp_path / "out", split="random", sampling_rate=8_000)
    dataset = load_from_disk(tmp_path / "out")
    sizes = {name: len(split) for name, split in dataset.items()}
    assert sizes == {"train": 6, "validation": 0, "test": 0}
    assert dataset["test"].features == dataset["train"].features
    assert dataset["test"].features["audio"].sampling_rate == 8_000


def test_the_dataset_is_as_promised(prepared):
    """With manifest, card and record beside it."""
    dataset = load_from_disk(prepared)
    sizes = {name: len(split) for name, split in dataset.items()}
    assert sizes == {"train": 40, "validation": 10, "test": 10}
    features = dataset["train"].features
    assert list(features) == ["file", "audio", "genre", "track_id", "artist", "start"]
    assert features["audio"] == Audio(sampling_rate=16_000)
    assert tuple(features["genre"].names) == GENRES
    row = dataset["test"].cast_column("audio", Audio(decode=False))[0]
    assert row["track_id"].startswith(GENRES[row["genre"]])
    assert row["file"] == f"{GENRES[row['genre']]}/{row['track_id']}.wav"
    info = soundfile.info(io.BytesIO(row["audio"]["bytes"]))
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    assert info.duration == pytest.approx(2.0, abs=0.001)
    rows = list(manifest(prepared).values())
    assert [row["status"] for row in rows] == ["kept"] * 60
    assert all(len(row["sha256"]) == 64 and row["seconds"] == "2.0" for row in rows)
    card = (prepared / "README.md").read_text()
    assert "synthesised by the project" in card
    assert "60 tracks (2 minutes) in ten genres" in card
    assert "| all | 40 | 10 | 10 |" in card
    assert read_preparation(prepared)["warnings"] == []


def converted(data: bytes, kind: str) -> bytes:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def test_every_form_gives_the_same_clips(tmp_path):
    members = three_of_each("Data/genres_original")
    named = {Path(name).stem: data for name, data in members.items()}
    au = {f"genres/{n[:-6]}/{n}.au": converted(data, "AU") for n, data in named.items()}
    archives = [
        make_zip(tmp_path / "GTZAN Genre Collection.zip", members),
        make_zip(tmp_path / "no-top-folder.bin", {f"{n}.wav": d for n, d in named.items()}),
        make_zip(tmp_path / "f.zip", {f"{n}.flac": converted(d, "FLAC") for n, d in named.items()}),
        make(tmp_path / "genres.tar.gz", "tar.gz", au),
        make(tmp_path / "unpacked set", "folder", {f"{n}.wav": d for n, d in named.items()}),
    ]
    results = []
    for i, path in enumerate(archives):
        prepare([path], tmp_path / f"out{i}", split="random")
        results.append(samples_of(tmp_path / f"out{i}"))
    assert len(results[0]) == 9
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_of_several_copies_the_longest_that_decodes_is_kept(tmp_path, order):
    name = "genres_original/blues/blues.00000.wav"
    archives = [
        make_zip(tmp_path / "short.zip", three_of_each() | {name: clip_bytes(0, 1.2)}),
        make_zip(tmp_path / "middle.zip", {name: clip_bytes(0, 2.0)}),
        make_zip(tmp_path / "whole.zip", {name: clip_bytes(0, 3.0)}),
        make_zip(tmp_path / "broken.zip", {name: b"RIFF" + bytes(100)}),
    ]
    twin = make_zip(tmp_path / "twin.zip", {name: clip_bytes(0, 3.0)})
    done = prepare([*(archives[i] for i in order), twin], tmp_path / "out", split="random")
    assert (done["n_clips"], done["seconds"]) == (9, 8 * 1.5 + 3)
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["track_id"] == "blues.00000"]
    status = {row["archive"]: row["status"] for row in rows}
    assert status["whole.zip"] == "kept"
    for name in ("short.zip", "middle.zip", "twin.zip"):  # of equally long ones the first is kept
        assert status[name] == "a copy: the track is taken from whole.zip"
    assert "not audio" in status["broken.zip"]


def test_few_clips_are_read_ahead(tmp_path, monkeypatch):
    """A clip is up to 64 MB: with one core, nine wait for their turn."""
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    files = {"rock.00000.wav": b""} | {f"pop.{i:05d}.wav": clip_bytes(1) for i in range(20)}
    n_read = []

    def read(file):
        n_read.append(file)
        return original(file)

    original = archive_module._read_bounded
    monkeypatch.setattr(archive_module, "_read_bounded", read)
    source = make(tmp_path / "a.tar", "tar", files)
    with pytest.raises(InputError, match=r"rock\.00000\.wav"):
        prepare([source], tmp_path / "out", split="random", on_bad_clip="fail")
    assert len(n_read) <= len(files) + 10, "once for their names, and then those"


def test_clips_of_gtzan_have_their_artist(tmp_path):
    """Or none where GTZAN's index knows none, whatever a tag says."""
    tagged = "genres_original/classical/classical.00059.flac"
    source = write(tmp_path / "m", three_of_each() | {tagged: clip(1, "FLAC")})
    tag(source / tagged, artist="Ann")
    prepare([source], tmp_path / "out", split="random")
    artists = {
        row["track_id"]: row["artist"]
        for split in load_from_disk(tmp_path / "out").values()
        for row in split.remove_columns("audio")
    }
    assert artists["blues.00000"] == "John Lee Hooker"
    assert artists == {track: artists_and_titles()[track][0] for track in artists}


def test_synthesised_clips_have_no_artist_and_no_leakage(archive, tmp_path):
    """Their names are those of GTZAN's tracks, their music is not. The marker may come last."""
    with zipfile.ZipFile(archive) as file:
        members = {name: file.read(name) for name in reversed(file.namelist())}
    source = make(tmp_path / "a.tar.gz", "tar.gz", members)
    done = prepare([source], tmp_path / "out", split="artist")
    assert done == read_preparation(tmp_path / "out")
    assert done["is_synthetic"] and done["leakage"] is None
    for name in ("validation", "test"):
        assert set(done["counts"][name].values()) == {1}, "single tracks, not GTZAN's artists"
    for split in load_from_disk(tmp_path / "out").values():
        assert set(split["artist"]) == {""}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "synthesised: nothing to check" in card
    assert "artist of" not in card
    assert prepare([archive], tmp_path / "by default")["split"] == "random"
    recorded = make_zip(tmp_path / "recorded.zip", three_of_each())
    with pytest.raises(InputError, match="prepare them separately"):
        prepare([archive, recorded], tmp_path / "two", split="random")
    assert not (tmp_path / "two").exists()


@pytest.fixture
def unequal(tmp_path) -> Path:
    """A sample of GTZAN whose blues tracks the filtered lists all put into test."""
    lists = filtered_split()
    members = {}
    for genre, wanted in {"blues": "test", "disco": "train", "rock": ""}.items():
        tracks = [t for t in artists_and_titles() if t.startswith(genre)]
        chosen = [t for t in tracks if not wanted or lists.get(t) == wanted][:12]
        members |= {f"{t}.wav": clip_bytes(int(t[-5:]) + 200 * len(genre)) for t in chosen}
    return make_zip(tmp_path / "a.zip", members)


def test_a_split_that_lacks_genres_is_named_and_the_default_lacks_none_in_train(unequal, tmp_path):
    warnings = prepare([unequal], tmp_path / "out", split="filtered")["warnings"]
    absent, train, *_, test = warnings
    assert "no usable track of classical, country, hiphop, jazz, metal, pop, reggae" in absent
    assert train == "the train split has no track of blues: another --split may fill it."
    assert test.startswith("the test split has no track of disco")
    assert prepare([unequal], tmp_path / "out2", split="random")["warnings"] == [absent]
    done = prepare([unequal], tmp_path / "out3")  # nobody asked for the lists
    assert done["split"] == "artist"
    assert all(done["counts"]["train"][genre] for genre in ("blues", "disco", "rock"))
    assert any("no track of blues to train on" in warning for warning in done["warnings"])
