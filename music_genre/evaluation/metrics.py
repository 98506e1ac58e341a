"""Metrics of a split: accuracy with its interval and macro-F1, by `evaluate` without a network."""

import tempfile
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from music_genre.evaluation.calibration import (
    clip_losses,
    expected_calibration_error,
    reliability,
)
from music_genre.evaluation.intervals import artist_groups, mean_interval
from music_genre.genre_names import artist_key

SHORT_SECONDS = 2.0  # of audio, after which a visitor of the demo expects a first prediction


class GenreMetrics(evaluate.Metric):
    """Accuracy and macro-F1. `evaluate.load("accuracy")` would download a script.

    GenreMetrics().compute(predictions=[...], references=[...]) with integer labels.
    """

    def __init__(self) -> None:
        # Avoid a cache file that processes would share, and HF_HOME, which may be read-only.
        super().__init__(keep_in_memory=True, cache_dir=tempfile.gettempdir())

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
    """Return the mean over clips of `clip_losses`, which takes the same arguments."""
    return float(clip_losses(probabilities, references).mean())


def accuracy(probabilities: np.ndarray, references: np.ndarray) -> float:
    """probabilities: shape (clips, labels); references: int, shape (clips,)."""
    return float((probabilities.argmax(-1) == references).mean())


def calibration(probabilities: np.ndarray, references: np.ndarray) -> dict[str, Any]:
    bins = reliability(probabilities, references)
    return {
        "nll": negative_log_likelihood(probabilities, references),
        "ece": expected_calibration_error(bins),
        "reliability": bins,
    }


@dataclass
class SplitScore:
    """The predictions for one split.

    All probabilities have the shape (clips, labels), `references` (int) has the shape (clips,).
    """

    track_ids: list[str]
    artists: list[str]  # an empty string if unknown
    references: np.ndarray
    probabilities: np.ndarray
    short_probabilities: np.ndarray  # of SHORT_SECONDS from the middle of each clip
    one_pass_probabilities: np.ndarray | None  # of a plain pipeline; None if it cannot take them

    def summary(self, labels: list[str]) -> dict[str, Any]:
        """The split's part of report.json: accuracy with its interval, calibration, genres."""
        references, predictions = self.references, self.probabilities.argmax(-1)
        one_pass, short = self.one_pass_probabilities, self.short_probabilities
        is_right = (predictions == references).astype(float)
        artists = [artist_key(artist) for artist in self.artists]
        by_genre = precision_recall_fscore_support(
            references, predictions, labels=range(len(labels)), zero_division=0
        )
        rows = zip(*map(np.ndarray.tolist, by_genre), strict=True)
        return {
            **GenreMetrics().compute(predictions=predictions, references=references),
            "accuracy_ci95": mean_interval(is_right, artist_groups(self.artists)),
            "n": len(references),
            "n_artists": len(set(filter(None, artists))),
            "n_artist_unknown": artists.count(""),
            "per_genre": {
                label: dict(zip(("precision", "recall", "f1", "n"), row, strict=True))
                for label, row in zip(labels, rows, strict=True)
            },
            **calibration(self.probabilities, references),
            "short": {
                "seconds": SHORT_SECONDS,
                "accuracy": accuracy(short, references),
                **calibration(short, references),
            },
            "one_pass": None if one_pass is None else {"accuracy": accuracy(one_pass, references)},
        }


def describe_summary(name: str, summary: dict[str, Any]) -> str:
    """Describe a split's part of report.json to a person, in three lines."""
    low, high = summary["accuracy_ci95"]
    one_pass, unknown = summary["one_pass"], summary["n_artist_unknown"]
    groups = f"{unknown} tracks, as no artist is known"
    if n_artists := summary["n_artists"]:
        groups = f"{n_artists} artists and {unknown} tracks whose artist is unknown"
    all_at_once = "."
    if one_pass:
        all_at_once = (
            f"; in one pass over each clip, as in a plain pipeline: {one_pass['accuracy']:.3f}."
        )
    return (
        f"{name}: accuracy {summary['accuracy']:.3f} on {summary['n']} tracks, "
        f"macro-F1 {summary['macro_f1']:.3f}.\n"
        f"  95 % interval of the accuracy: {low:.3f} to {high:.3f}, by bootstrap over "
        f"{groups}.\n"
        f"  From the middle {summary['short']['seconds']:g} s of each track: accuracy "
        f"{summary['short']['accuracy']:.3f}{all_at_once}"
    )
