"""Several seeds are no more tracks, and the tracks of one artist no more artists."""

import json

import numpy as np
import pytest

from music_genre.errors import InputError
from music_genre.evaluation.intervals import mean_interval
from music_genre.evaluation.metrics import SplitScore
from music_genre.evaluation.predictions import write_predictions
from music_genre.evaluation.seeds import SEEDS_FILE, describe_seeds, summarize_seeds
from music_genre.report import PREDICTIONS_FILES, read_report, write_report

LABELS = ["techno", "ambient"]
ARTISTS = ["Ada"] * 9 + ["Bo"] * 3 + ["", "", ""]
RIGHT = (  # of each seed: the first nine tracks, Ada's, differ most
    [1] * 9 + [0, 0, 1] + [1, 0, 1],
    [1] * 8 + [0] + [0, 0, 1] + [1, 0, 0],
)


@pytest.fixture
def folders(tmp_path):
    for seed, right in enumerate(RIGHT):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        references = np.arange(len(right)) % 2
        probabilities = np.eye(2)[np.where(right, references, 1 - references)]
        tracks = list(map(str, range(len(right))))
        score = SplitScore(
            tracks, ARTISTS, references, probabilities, np.tile([0.6, 0.4], (15, 1)), None
        )
        write_predictions(folder / PREDICTIONS_FILES["test"], score, LABELS)
        report = {"seed": seed, "validation": None, "test": score.summary(LABELS)}
        write_report(report, folder)
    return sorted(tmp_path.iterdir())


def test_mean_spread_and_an_interval_over_artists(folders):
    summary = summarize_seeds(folders)
    assert json.loads((folders[0].parent / SEEDS_FILE).read_text())["runs"] == {
        "seed-0": 0,
        "seed-1": 1,
    }
    accuracies = [np.mean(right) for right in RIGHT]
    test = summary["test"]
    assert test["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert test["accuracy"]["sd"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert test["short_accuracy"]["mean"] != test["accuracy"]["mean"]
    of_artists = [0] * 9 + [1] * 3 + [2, 3, 4]
    assert test["accuracy_ci95"] == mean_interval(np.mean(RIGHT, axis=0), np.array(of_artists))
    over_tracks = mean_interval(np.mean(RIGHT, axis=0), np.arange(15))
    assert np.ptp(test["accuracy_ci95"]) > 1.2 * np.ptp(over_tracks)


def test_runs_on_different_tracks_have_no_mean(folders):
    path = folders[1] / PREDICTIONS_FILES["test"]
    path.write_text(path.read_text().replace("\n14,", "\n15,"))
    with pytest.raises(InputError, match="were scored on different tracks"):
        summarize_seeds(folders)


def test_a_split_that_is_empty_has_no_row(folders):
    summary = summarize_seeds(folders)
    lines = describe_seeds(summary).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| test | 15 |")
    scores = [read_report(folder)["test"] for folder in folders]
    means = {key: np.mean([score[key] for score in scores]) for key in ("accuracy", "macro_f1")}
    means["short_accuracy"] = np.mean([score["short"]["accuracy"] for score in scores])
    low, _ = summary["test"]["accuracy_ci95"]
    expected = [means["accuracy"], low, means["macro_f1"], means["short_accuracy"]]
    assert [cell.split()[0] for cell in lines[2].split("|")[3:7]] == [f"{x:.3f}" for x in expected]
    ece = np.mean([score["ece"] for score in scores])
    assert summary["test"]["ece"]["mean"] == pytest.approx(ece)
