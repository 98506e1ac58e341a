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


def test_summary_of_a_split():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    summary = metrics.summarize(
        probabilities, np.array([0, 1, 1, 2]), ["x", "y", "y", ""], ["a", "b", "c"]
    )
    assert summary["accuracy"] == 0.75
    assert (summary["n"], summary["n_artists"]) == (4, 2)
    assert summary["nll"] == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.6]).mean())
    assert summary["per_genre"]["b"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "n": 2,
    }


def test_short_clips_have_a_calibration_of_their_own():
    sure = np.array([[0.9, 0.1], [0.1, 0.9]])
    unsure = np.array([[0.6, 0.4], [0.7, 0.3]])
    score = metrics.SplitScore(["1", "2"], ["x", "y"], np.array([0, 1]), sure, unsure, None)
    summary = score.summary(["a", "b"])
    assert summary["ece"] == pytest.approx(0.1)
    assert summary["short"]["accuracy"] == 0.5
    assert summary["short"]["nll"] == pytest.approx(-np.log([0.6, 0.3]).mean())
    assert summary["short"]["ece"] == pytest.approx((0.4 + 0.7) / 2)
