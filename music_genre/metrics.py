"""Metrics of a split: accuracy and macro-F1 by `evaluate` without network, and their interval."""

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, classification_report, f1_score


class GenreMetrics(evaluate.Metric):
    """Accuracy and macro-F1. `evaluate.load("accuracy")` would download a script.

    GenreMetrics().compute(predictions=[...], references=[...]) with integer labels.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)  # no cache file, so processes cannot get in the way

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy and macro-averaged F1 of a genre classifier.",
            citation="",
            inputs_description="predictions, references: integer labels, one a clip.",
            features=datasets.Features(
                predictions=datasets.Value("int64"), references=datasets.Value("int64")
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            # Over the genres that occur in either: scikit-learn's choice when no labels are given.
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }


def negative_log_likelihood(probabilities: np.ndarray, references: np.ndarray) -> float:
    """Mean over clips. probabilities: shape (clips, labels); references: int, shape (clips,)."""
    of_truth = probabilities[np.arange(len(references)), references]
    return float(-np.log(np.maximum(of_truth, 1e-12)).mean())


def accuracy_interval(n_correct: int, n: int) -> tuple[float, float]:
    """95 % interval of an accuracy, by Wilson's score.

    A bootstrap over tracks says much the same, but claims certainty ("1.000 to 1.000") where all of
    a few tracks are right.
    """
    interval = binomtest(n_correct, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def summarise(probabilities: np.ndarray, references: np.ndarray, labels: list[str]) -> dict:
    """What report.json says of a split: accuracy, its 95 % interval, macro-F1, n, per genre.

    Args:
        probabilities: shape (clips, labels). references: int, shape (clips,).
    """
    predictions = probabilities.argmax(-1)
    table = classification_report(
        references,
        predictions,
        labels=range(len(labels)),
        target_names=labels,
        output_dict=True,
        zero_division=0,
    )
    return GenreMetrics().compute(predictions=predictions, references=references) | {
        "accuracy_ci95": accuracy_interval(int((predictions == references).sum()), len(references)),
        "nll": negative_log_likelihood(probabilities, references),
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
