import json

import numpy as np
import pytest

from music_genre.evaluation import metrics


def test_metrics_come_through_evaluate():
    import evaluate

    metric = metrics.GenreMetrics()
    assert isinstance(metric, evaluate.Metric)
    metric.add_batch(predictions=[0, 1, 1], references=[0, 1, 2])
    metric.add_batch(predictions=[2], references=[2])
    result = metric.compute()
    assert result["accuracy"] == 0.75
    assert result["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_macro_f1_counts_a_genre_that_was_predicted_and_is_not_there():
    """Of genres 0, 1 and 2 only 0 and 1 are true; 2 has an F1 of 0."""
    result = metrics.GenreMetrics().compute(predictions=[0, 0, 2], references=[0, 0, 1])
    assert result["macro_f1"] == pytest.approx((1 + 0 + 0) / 3)


def summary(probabilities, references, artists, labels):
    tracks = [str(i) for i in range(len(references))]
    score = metrics.SplitScore(tracks, artists, references, probabilities, probabilities, None)
    return score.summary(labels)


def test_summary_of_a_split():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    labels = ["a", "b", "c", "never"]
    artists = ["x", "y", "y", "Various Artists"]
    found = summary(probabilities, np.array([0, 1, 1, 2]), artists, labels)
    assert found["accuracy"] == 0.75
    assert (found["n"], found["n_artists"], found["n_artist_unknown"]) == (4, 2, 1)
    assert found["nll"] == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.6]).mean())
    assert found["per_genre"]["b"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "n": 2,
    }
    assert found["per_genre"]["never"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0}


def test_the_interval_of_a_summary_is_over_artists():
    references = np.repeat([0, 1], 10)
    probabilities = np.eye(2)[np.repeat([0, 0, 1, 1], 5)]
    interval_of_four, interval_of_many, interval_of_one = (
        summary(probabilities, references, artists, ["a", "b"])["accuracy_ci95"]
        for artists in (list(np.repeat(["w", "x", "y", "z"], 5)), [""] * 20, ["w"] * 20)
    )
    assert interval_of_four[1] - interval_of_four[0] > 1.5 * (
        interval_of_many[1] - interval_of_many[0]
    )
    assert interval_of_one == (0, 1)
    json.dumps(interval_of_one, allow_nan=False)


def test_short_clips_have_a_calibration_of_their_own():
    sure = np.array([[0.9, 0.1], [0.1, 0.9]])
    unsure = np.array([[0.6, 0.4], [0.7, 0.3]])
    score = metrics.SplitScore(["1", "2"], ["x", "y"], np.array([0, 1]), sure, unsure, None)
    summary = score.summary(["a", "b"])
    assert summary["ece"] == pytest.approx(0.1)
    assert summary["short"]["accuracy"] == 0.5
    assert summary["short"]["nll"] == pytest.approx(-np.log([0.6, 0.3]).mean())
    assert summary["short"]["ece"] == pytest.approx((0.4 + 0.7) / 2)


def test_a_person_reads_what_the_interval_is_over():
    sure, references = np.eye(2)[[0, 0, 0, 0]], np.array([0, 1, 1, 1])
    artists = ["x", "x", "y", ""]
    score = metrics.SplitScore(list("abcd"), artists, references, sure, sure[::-1], sure)
    found = score.summary(["u", "v"])
    json.dumps(found, allow_nan=False)  # also the loss of what is sure and wrong
    first, second, third = metrics.describe_summary("a", found).splitlines()
    assert first == "a: accuracy 0.250 on 4 tracks, macro-F1 0.200."
    assert second.endswith("over 2 artists and 1 tracks whose artist is unknown.")
    assert third.endswith(
        "accuracy 0.250; in one pass over each clip, as in a plain pipeline: 0.250."
    )
