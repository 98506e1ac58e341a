"""Metrics of a split: accuracy with its interval and macro-F1, by `evaluate`, without network."""

from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import accuracy_score, classification_report, f1_score

from music_genre.evaluation.calibration import expected_calibration_error, reliability

SHORT_SECONDS = 2.0  # of audio, after which a visitor of the demo expects a first prediction


class GenreMetrics(evaluate.Metric):
    """Accuracy and macro-F1. `evaluate.load("accuracy")` would download a script.

    GenreMetrics().compute(predictions=[...], references=[...]) with integer labels.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)  # no cache file that processes would share

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy and macro-averaged F1 of a genre classifier.",
            citation="",
            inputs_description="predictions, references: integer labels, one per clip.",
            features=datasets.Features(
                predictions=datasets.Value("int64"), references=datasets.Value("int64")
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            # Without `labels`, scikit-learn averages over the genres that occur in either.
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }


def negative_log_likelihood(probabilities: np.ndarray, references: np.ndarray) -> float:
    """Mean over clips. probabilities: shape (clips, labels); references: int, shape (clips,)."""
    of_reference = probabilities[np.arange(len(references)), references]
    return float(-np.log(np.maximum(of_reference, 1e-12)).mean())


def accuracy(probabilities: np.ndarray, references: np.ndarray) -> float:
    """probabilities: shape (clips, labels); references: int, shape (clips,)."""
    return float((probabilities.argmax(-1) == references).mean())


def accuracy_interval(is_right: np.ndarray) -> tuple[float, float]:
    """95 % interval of an accuracy, by bootstrap over tracks (percentiles of 10,000 draws).

    If all tracks are right, or none, every draw gives the same accuracy; the interval is then
    Wilson's.

    Args:
        is_right: shape (tracks,), 0 to 1: with several seeds, the share of them that are right.
    """
    n, n_right = len(is_right), is_right.sum()
    if n_right in (0, n):
        interval = binomtest(int(n_right), n).proportion_ci(0.95, method="wilson")
    else:
        interval = bootstrap(
            (is_right,), np.mean, n_resamples=10_000, batch=1_000, method="percentile", rng=0
        ).confidence_interval
    return float(interval.low), float(interval.high)


def summarize(probabilities: np.ndarray, references: np.ndarray, labels: list[str]) -> dict:
    """A split's part of report.json: accuracy, its interval, macro-F1, calibration, genres.

    Args:
        probabilities: shape (clips, labels). references: int, shape (clips,).
    """
    predictions = probabilities.argmax(-1)
    bins = reliability(probabilities, references)
    table = classification_report(
        references,
        predictions,
        labels=range(len(labels)),
        target_names=labels,
        output_dict=True,
        zero_division=0,
    )
    return GenreMetrics().compute(predictions=predictions, references=references) | {
        "accuracy_ci95": accuracy_interval((predictions == references).astype(float)),
        "nll": negative_log_likelihood(probabilities, references),
        "ece": expected_calibration_error(bins),
        "reliability": bins,
        "n": len(references),
        "per_genre": {
            label: {
                "precision": table[label]["precision"],
                "recall": table[label]["recall"],
                "f1": table[label]["f1-score"],
                "n": int(table[label]["support"]),
            }
            for label in labels
        },
    }


@dataclass
class SplitScore:
    """The predictions for one split.

    All probabilities have the shape (clips, labels), `references` (int) has the shape (clips,).
    """

    track_ids: list[str]
    references: np.ndarray
    probabilities: np.ndarray
    short_probabilities: np.ndarray  # of SHORT_SECONDS from the middle of each clip
    one_pass_probabilities: np.ndarray | None  # of a plain pipeline; None if it cannot take them

    def summary(self, labels: list[str]) -> dict[str, Any]:
        """The split's part of report.json."""
        one_pass = self.one_pass_probabilities
        return summarize(self.probabilities, self.references, labels) | {
            "short": {
                "seconds": SHORT_SECONDS,
                "accuracy": accuracy(self.short_probabilities, self.references),
            },
            "one_pass": None
            if one_pass is None
            else {"accuracy": accuracy(one_pass, self.references)},
        }
