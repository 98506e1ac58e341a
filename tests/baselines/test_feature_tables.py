"""The CSV rows of the comparison: nothing of a track may cross a split, and the real figures."""

import json
import re
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from baselines import __main__ as command
from baselines import feature_tables, images
from baselines.comparison import rows_of_runs, score, train_and_test
from baselines.feature_tables import evaluate, parts_of, read_table, read_tables
from data_prep.gtzan import filtered_split
from music_genre.errors import InputError
from tests.commands import run_here

HEAD = ["filename", "length", "a_mean", "b_mean", "c_mean", "d_mean", "label"]


def kaggle_csv(tracks: list[str], segments: int = 0) -> bytes:
    """Features that are a track's own and tell nothing of its genre; segments differ a little."""
    rng = np.random.default_rng(0)
    lines = [HEAD]
    for track in tracks:
        own = rng.normal(size=4)
        for i in range(segments or 1):
            name = f"{track}.{i}.wav" if segments else f"{track}.wav"
            cells = own + rng.normal(0, 0.01, 4)
            lines.append([name, 66149, *cells.round(6), track.split(".")[0]])
    return "\n".join(",".join(map(str, line)) for line in lines).encode()


@pytest.fixture
def tracks() -> list[str]:
    """Genres of unequal size, out of alphabetical order."""
    sizes = {"rock": 40, "blues": 20, "jazz": 28}
    return [f"{g}.{i:05d}" for g, n in sizes.items() for i in range(0, 2 * n, 2)]


def test_a_table_has_the_sound_but_not_the_length(tracks):
    content = kaggle_csv(tracks, segments=3) + b"\nmine.wav,1,0,0,0,0,rock"
    table = read_table(content, "features_3_sec.csv")
    assert table.shape == (3 * len(tracks), 5)
    assert table.index[:4].tolist() == [tracks[0]] * 3 + [tracks[1]]
    assert table["label"].tolist() == [track.split(".")[0] for track in table.index]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2", b"filename,length,label\n"])
def test_another_table_is_one_sentence(content):
    with pytest.raises(InputError, match=r"^t\.csv "):
        read_table(content, "t.csv")


@pytest.mark.parametrize("cell", ["", "inf", "loud"])
def test_a_cell_that_is_no_number_is_one_sentence(tracks, cell):
    lines = kaggle_csv(tracks).decode().splitlines()
    cells = lines[3].split(",")
    cells[2] = cell
    lines[3] = ",".join(cells)
    with pytest.raises(InputError, match=r"^t\.csv "):
        read_table("\n".join(lines).encode(), "t.csv")


def test_segments_of_a_track_stay_together(tracks):
    """Their features are a track's own: a split through tracks would be right nearly always."""
    table = read_table(kaggle_csv(tracks, segments=3), "features_3_sec.csv")
    for _, parts in parts_of(table, ["random", "filtered"]):
        for train, test in parts:
            assert not set(table.index[train]) & set(table.index[test])
    _, parts = next(parts_of(table, ["random"]))
    row = evaluate("x", "random", table, parts)
    assert row.accuracy < 0.6 and row.n == len(tracks)


def test_scores_of_segments_are_averaged(monkeypatch):
    class Scorer:
        classes_, n_support_ = ["blues", "rock"], np.ones(2)

        def fit(self, *_): ...

        def decision_function(self, features):
            return features.to_numpy()

        def __getitem__(self, _):
            return self

    monkeypatch.setattr(feature_tables, "make_pipeline", lambda *_: Scorer())
    table = pd.DataFrame({"a": [1.0, 1, 0], "b": [0, 0, 1.5], "label": ["blues"] * 3})
    table.index = ["blues.00000"] * 3
    rows = np.arange(3)
    assert evaluate("x", "random", table, [(rows, rows)]).accuracy == 1.0


def test_the_held_out_tracks_are_those_of_the_list_and_draws_are_as_many(tracks):
    table = read_table(kaggle_csv(tracks), "features_30_sec.csv")
    (name, ((train, test),)), (drawn, draws) = parts_of(table, ["filtered"])
    split = filtered_split()
    assert (name, drawn) == ("filtered", "random, as small as filtered")
    assert set(table.index[train]) == {t for t in tracks if split.get(t) == "train"}
    assert set(table.index[test]) == {t for t in tracks if split.get(t) == "test"}
    assert [(len(a), len(b)) for a, b in draws] == [(len(train), len(test))] * 10
    row = evaluate("x", drawn, table, draws)
    assert row.interval[0] < row.accuracy < row.interval[1]


def test_an_interval_is_over_artists():
    two_songs = pd.Series([1.0, 1.0], index=["blues.00000", "blues.00001"])  # by John Lee Hooker
    assert score(two_songs) == (1.0, (0.0, 1.0), 2), "which say nothing of others"


def test_one_table_of_all(tracks, tiny_classifier, tmp_path, monkeypatch, capsys):
    archive, run = tmp_path / "a.zip", tmp_path / "run"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("Data/features_30_sec.csv", kaggle_csv(tracks))
    run.mkdir()
    report = {
        "model": "distilhubert", "window_seconds": 3.0, "split": "filtered", "dataset": "GTZAN",
        "train": {"seconds": 90.0, "linear_probe": {"is_kept": True}},
        "test": {"accuracy": 0.75, "accuracy_ci95": [0.6, 0.9], "n": 50},
    }  # fmt: skip
    (run / "report.json").write_text(json.dumps(report))
    asked = []
    monkeypatch.setattr(images, "read_images", lambda _: {})
    monkeypatch.setattr(
        images, "evaluate", lambda _, *how: asked.append(how) or rows_of_runs([run])[0]
    )
    argv = ["--runs", run, "--images", "--image_model", tiny_classifier, "--seeds", 1, 2]
    monkeypatch.setattr(sys, "argv", ["baselines", str(archive), *map(str, argv)])
    command.main()
    assert asked == [(split, [1, 2], 30, tiny_classifier) for split in ("random", "filtered")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == (
        "| distilhubert, linear probe | audio, windows of 3 s | filtered, GTZAN | "
        "**0.75** (0.60 to 0.90) | 50 |  |"
    )
    splits = [line.split(" | ")[2] for line in lines[3:6]]
    assert splits == ["random, 10 folds", "filtered", "random, as small as filtered"]


@pytest.mark.parametrize(
    ("option", "number"),
    [("seeds", "-1"), ("seeds", 2**32), ("epochs", "-1"), ("epochs", "0"), ("epochs", "many")],
)
def test_a_number_that_cannot_be_meant_is_one_sentence(option, number):
    """A net that had learned nothing was a row of the table."""
    result = run_here(command.main, "a.zip", "--images", f"--{option}", number)
    assert result.returncode == 2
    said = rf"--{option}: it must be a whole number from [01] to 4294967295, not {number}$"
    assert re.search(said, result.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"test": 0.93}',
        '{"test": {}, "train": {}}',
        '{"test": {}, "train": {"linear_probe": 1}}',
    ],
)
def test_a_run_without_figures_is_one_sentence(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError, match=r"has no report\.json with figures of a test split"):
        rows_of_runs([tmp_path])


def test_tracks_of_which_a_split_tests_none_are_one_sentence(tracks):
    in_train = [track for track in tracks if filtered_split().get(track) == "train"]
    with pytest.raises(InputError, match="The filtered split of these tracks has no train or no"):
        train_and_test(in_train, "filtered")


def test_an_archive_without_tables_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"has none of features_30_sec\.csv"):
        read_tables(tmp_path)


def test_the_real_table_gives_the_known_figures(real_archive):
    """Of an RBF SVM: 0.75 at random, 0.53 on other artists."""
    (table,) = read_tables(real_archive).values()
    found = {
        split: evaluate("CSV", split, table, parts).accuracy
        for split, parts in parts_of(table, ["random", "filtered"])
    }
    assert found["random, 10 folds"] == pytest.approx(0.75, abs=0.02)
    assert found["filtered"] == pytest.approx(0.53, abs=0.02)
    assert found["random, as small as filtered"] == pytest.approx(0.70, abs=0.02)
