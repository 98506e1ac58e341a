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


def test_the_interval_is_close_to_wilsons():
    low, high = metrics.accuracy_interval((np.arange(200) < 160).astype(float))
    np.testing.assert_allclose((low, high), (0.7390, 0.8495), atol=0.01)


def test_seeds_that_agree_on_every_track_do_not_narrow_the_interval():
    one = (np.arange(100) < 70).astype(float)
    three = np.stack([one, one, one]).mean(0)
    assert metrics.accuracy_interval(one) == metrics.accuracy_interval(three)


def test_a_few_right_answers_are_no_certainty():
    low, high = metrics.accuracy_interval(np.ones(10))
    assert 0.6 < low < 0.8
    assert high == 1


def test_summary_of_a_split():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    summary = metrics.summarize(probabilities, np.array([0, 1, 1, 2]), ["a", "b", "c"])
    assert summary["accuracy"] == 0.75
    assert summary["n"] == 4
    assert summary["nll"] == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.6]).mean())
    assert summary["per_genre"]["b"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "n": 2,
    }
