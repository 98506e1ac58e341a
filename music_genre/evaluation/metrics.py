"""Metrics of a split: accuracy with its interval and macro-F1, by `evaluate`, without network."""

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

SHORT_SECONDS = 2.0  # of audio, after which a visitor of the demo expects a first prediction


class GenreMetrics(evaluate.Metric):
    """Accuracy and macro-F1. `evaluate.load("accuracy")` would download a script.

    GenreMetrics().compute(predictions=[...], references=[...]) with integer labels.
    """

    def __init__(self) -> None:
        # No cache file that processes would share, no folder in HF_HOME: it may be read-only.
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
    """Mean over clips, of arguments as for `clip_losses`."""
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


def summarize(
    probabilities: np.ndarray, references: np.ndarray, artists: list[str], labels: list[str]
) -> dict[str, Any]:
    """A split's part of report.json: accuracy, its interval, macro-F1, calibration, genres.

    Args:
        probabilities: shape (clips, labels). references: int, shape (clips,).
        artists: of each clip, empty where it is unknown.
    """
    predictions = probabilities.argmax(-1)
    is_right = (predictions == references).astype(float)
    by_genre = precision_recall_fscore_support(
        references, predictions, labels=range(len(labels)), zero_division=0
    )
    return (
        GenreMetrics().compute(predictions=predictions, references=references)
        | {
            "accuracy_ci95": mean_interval(is_right, artist_groups(artists)),
            "n": len(references),
            "n_artists": len({artist for artist in artists if artist}),
            "n_artist_unknown": sum(not artist for artist in artists),
            "per_genre": {
                label: dict(zip(("precision", "recall", "f1", "n"), row, strict=True))
                for label, *row in zip(labels, *map(np.ndarray.tolist, by_genre), strict=True)
            },
        }
        | calibration(probabilities, references)
    )


@dataclass
class SplitScore:
    """The predictions for one split.

    All probabilities have the shape (clips, labels), `references` (int) has the shape (clips,).
    """

    track_ids: list[str]
    artists: list[str]  # empty where it is unknown
    references: np.ndarray
    probabilities: np.ndarray
    short_probabilities: np.ndarray  # of SHORT_SECONDS from the middle of each clip
    one_pass_probabilities: np.ndarray | None  # of a plain pipeline; None if it cannot take them

    def summary(self, labels: list[str]) -> dict[str, Any]:
        """The split's part of report.json."""
        one_pass = self.one_pass_probabilities
        short = self.short_probabilities
        return summarize(self.probabilities, self.references, self.artists, labels) | {
            "short": {"seconds": SHORT_SECONDS, "accuracy": accuracy(short, self.references)}
            | calibration(short, self.references),
            "one_pass": None
            if one_pass is None
            else {"accuracy": accuracy(one_pass, self.references)},
        }


def describe_summary(name: str, summary: dict[str, Any]) -> str:
    """A split's part of report.json, for a person: three lines."""
    low, high = summary["accuracy_ci95"]
    one_pass = summary["one_pass"]
    return (
        f"{name}: accuracy {summary['accuracy']:.3f} on {summary['n']} tracks, "
        f"macro-F1 {summary['macro_f1']:.3f}.\n"
        f"  95 % interval of the accuracy: {low:.3f} to {high:.3f}, {_drawn_from(summary)}.\n"
        f"  From the middle {summary['short']['seconds']:g} s of each track: accuracy "
        f"{summary['short']['accuracy']:.3f}"
        + (
            f"; from all of it at once, as a plain pipeline does: {one_pass['accuracy']:.3f}."
            if one_pass
            else "."
        )
    )


def _drawn_from(summary: dict[str, Any]) -> str:
    n_artists, n_unknown = summary["n_artists"], summary["n_artist_unknown"]
    if not n_artists:
        return "over tracks, as no artist is known"
    if n_artists == 1 and not n_unknown:
        return "as all tracks are by one artist"
    artists = "1 artist" if n_artists == 1 else f"{n_artists} artists"
    return f"over {artists}" + (
        ", and over tracks where the artist is unknown" if n_unknown else ""
    )
