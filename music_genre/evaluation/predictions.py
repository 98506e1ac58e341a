"""The predictions for a split as a CSV file: one row per clip."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from music_genre.evaluation.metrics import SplitScore

COLUMNS = ("track_id", "artist", "genre", "prediction", "short_prediction", "one_pass_prediction")


def write_predictions(path: Path, score: SplitScore, labels: Sequence[str]) -> None:
    """One row per clip: track, artist, genre, three predictions, probability of every genre.

    `short_prediction` is for the middle of the clip. `one_pass_prediction` is what a plain
    `pipeline` predicts, empty where that was not measured. The probabilities are those of
    `prediction`.
    """

    def names(probabilities: np.ndarray | None) -> list[str]:
        if probabilities is None:
            return [""] * len(score.references)
        return [labels[i] for i in probabilities.argmax(-1)]

    rows = zip(
        score.track_ids,
        score.artists,
        [labels[i] for i in score.references],
        names(score.probabilities),
        names(score.short_probabilities),
        names(score.one_pass_probabilities),
        score.probabilities,
        strict=True,
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *labels])
        for *row, probabilities in rows:
            writer.writerow([*row, *(f"{p:.6f}" for p in probabilities)])


def read_predictions(path: Path) -> list[dict[str, str]]:
    """The rows of such a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
