"""Test tracks that the base model was trained on are counted, and no figure stands for it then."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_prep.prepared import load_prepared
from music_genre.loading import ModelFolder
from music_genre.report import headline_split
from music_genre.training.seen import TRACKS_FILE, SeenTracks, describe_base


@pytest.fixture(scope="module")
def dataset(uneven):
    return load_prepared(uneven)[0]


def kind(name: str, kind: str) -> SimpleNamespace:
    return SimpleNamespace(dataset_name=name, kind=kind)


def base(folder: Path, commit: str | None = None, name: str = "base") -> ModelFolder:
    return ModelFolder(name, folder, commit)


def test_tracks_are_counted_by_id_and_by_samples(dataset, tmp_path):
    SeenTracks.of("Mine", dataset["test"].select(range(4))).write(tmp_path)
    seen = SeenTracks.read(tmp_path)
    n_tracks = len(set(dataset["test"]["track_id"][:4]))
    assert seen.count("Mine", dataset["test"]) == n_tracks
    assert seen.count("Another name", dataset["test"]) == n_tracks, "by their samples"
    assert seen.count("Mine", dataset["validation"]) == 0
    only_ids = SeenTracks("Mine", seen.track_ids)
    assert only_ids.count("Mine", dataset["test"]) == n_tracks, "decoded in another way"
    assert only_ids.count("Another name", dataset["test"]) == 0, "ids are of one dataset"


def test_the_file_has_no_name_in_it(dataset, tmp_path):
    SeenTracks.of("Mine", dataset["train"]).write(tmp_path)
    text = (tmp_path / TRACKS_FILE).read_text()
    assert set(json.loads(text)) == {"dataset", "track_ids", "samples"}
    assert not any(track_id in text for track_id in dataset["train"]["track_id"])


def test_a_model_has_seen_what_its_base_has(dataset):
    first = SeenTracks.of("Mine", dataset["test"])
    second = SeenTracks.of("Mine", dataset["train"]).joined(first)
    assert second.count("Mine", dataset["test"]) == len(set(dataset["test"]["track_id"]))
    renamed = SeenTracks.of("Other", dataset["train"]).joined(first)
    assert renamed.track_ids == SeenTracks.of("Other", dataset["train"]).track_ids


def test_a_base_that_was_trained_on_test_tracks_is_a_warning(dataset, tmp_path):
    seen = SeenTracks.of("Mine", dataset["test"])
    n, warning = describe_base(base(tmp_path), seen, kind("Mine", "table"), dataset["test"])
    assert n == 7
    assert "was trained on 7 of these 7 test tracks" in warning
    n, warning = describe_base(base(tmp_path), seen, kind("Mine", "table"), dataset["validation"])
    assert (n, warning) == (0, None)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("README.md", "---\ndatasets: [marsyas/gtzan]\n---"),
        ("README.md", "Fine-tuned on GTZAN."),
        ("config.json", '{"_name_or_path": "you/distilhubert-finetuned-gtzan"}'),
    ],
)
def test_a_base_that_names_gtzan_is_a_warning_for_gtzan(file, text, dataset, tmp_path):
    (tmp_path / file).write_text(text)
    n, warning = describe_base(base(tmp_path), None, kind("x", "gtzan"), dataset["test"])
    assert n is None and "names GTZAN" in warning
    other = describe_base(base(tmp_path), None, kind("x", "folders"), dataset["test"])
    assert other == (None, None)


def test_the_name_of_a_folder_here_says_nothing_but_an_id_does(dataset, tmp_path):
    here = base(tmp_path, name="/home/me/gtzan/base")
    assert describe_base(here, None, kind("GTZAN", "gtzan"), dataset["test"])[1] is None
    there = base(tmp_path, "abc", "you/wav2vec2-gtzan")
    assert describe_base(there, None, kind("GTZAN", "gtzan"), dataset["test"])[1]


def test_no_figure_stands_for_a_model_whose_base_has_seen_the_test(dataset):
    score = {"n": 9, "per_genre": {"a": {"n": 5}}}
    report = {"test": score, "validation": score}
    assert headline_split(report) == "test"
    assert headline_split(report | {"contamination": "it has"}) is None
