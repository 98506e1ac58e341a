"""Test tracks that the base model was trained on are counted, and no figure stands for it then."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_prep.prepared import load_prepared
from music_genre.errors import InputError
from music_genre.loading import ModelFolder
from music_genre.report import headline_split
from music_genre.training.seen import (
    TRACKS_FILE,
    check_resumed,
    describe_base,
    hash_tracks,
    read_seen,
    write_seen,
)


@pytest.fixture(scope="module")
def dataset(uneven):
    return load_prepared(uneven)[0]


def hashes(name: str, clips) -> set[str]:
    return set().union(*hash_tracks(name, clips).values())


def describe(folder: Path, seen, clips, name="Mine", kind="table", commit=None, base="base"):
    known = SimpleNamespace(dataset_name=name, kind=kind)
    return describe_base(ModelFolder(base, folder, commit), seen, known, clips)


def test_a_base_that_was_trained_on_test_tracks_is_a_warning(dataset, tmp_path):
    """By their samples, whatever the dataset is called; by their ids in a dataset of one name."""
    some = dataset["test"].select(range(4, 11))
    n_tracks = len(set(some["track_id"]))
    assert n_tracks < 7, "a song has several excerpts"
    n_hashes = {track: len(found) for track, found in hash_tracks("Mine", some).items()}
    assert n_hashes == {track: n + 1 for track, n in Counter(some["track_id"]).items()}
    write_seen(hashes("Mine", some), tmp_path)
    seen = read_seen(tmp_path)
    for name in ("Mine", "Another name"):
        n, warning = describe(tmp_path, seen, dataset["test"], name)
        assert n == n_tracks
        assert f"was trained on {n_tracks} of these 7 test tracks" in warning
    assert describe(tmp_path, seen, dataset["validation"]) == (0, None)
    decoded_anew = dataset["validation"].remove_columns("track_id")
    decoded_anew = decoded_anew.add_column("track_id", list(some["track_id"]))
    assert describe(tmp_path, seen, decoded_anew)[0] == n_tracks
    assert describe(tmp_path, seen, decoded_anew, "Another name")[0] == 0


def test_a_run_is_not_resumed_with_other_tracks(dataset, tmp_path):
    seen = hashes("Mine", dataset["train"])
    check_resumed(seen, tmp_path)  # one of an earlier version does not say
    write_seen(seen, tmp_path)
    check_resumed(seen, tmp_path)
    with pytest.raises(InputError, match="was trained on other tracks"):
        check_resumed(seen | hashes("Mine", dataset["test"]), tmp_path)


def test_the_file_has_no_name_in_it(dataset, tmp_path):
    write_seen(hashes("Mine", dataset["train"]), tmp_path)
    text = (tmp_path / TRACKS_FILE).read_text()
    assert not any(name in text for name in ("Mine", *dataset["train"]["track_id"]))
    for damaged in (text[:-9], "[]", "{}"):
        (tmp_path / TRACKS_FILE).write_text(damaged)
        assert read_seen(tmp_path) is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("README.md", "---\ndatasets: [marsyas/gtzan]\n---"),
        ("config.json", '{"_name_or_path": "you/distilhubert-finetuned-GTZAN"}'),
    ],
)
def test_a_base_that_names_gtzan_is_a_warning_for_gtzan(file, text, dataset, tmp_path):
    (tmp_path / file).write_text(text)
    assert read_seen(tmp_path) is None
    n, warning = describe(tmp_path, None, dataset["test"], kind="gtzan")
    assert n is None and "names GTZAN" in warning
    assert describe(tmp_path, None, dataset["test"], kind="folders") == (None, None)


def test_the_name_of_a_folder_here_says_nothing_but_an_id_does(dataset, tmp_path):
    here = {"kind": "gtzan", "base": "/home/me/gtzan/base"}
    assert describe(tmp_path, None, dataset["test"], **here)[1] is None
    there = {"kind": "gtzan", "base": "you/wav2vec2-gtzan", "commit": "abc"}
    assert describe(tmp_path, None, dataset["test"], **there)[1]


def test_no_figure_stands_for_a_model_whose_base_has_seen_the_test():
    score = {"n": 9, "per_genre": {"a": {"n": 5}}}
    report = {"test": score, "validation": score}
    assert headline_split(report) == "test"
    assert headline_split(report | {"contamination": "it has"}) is None
