"""The predictions of a split as a CSV file: one row per clip."""

import csv
from collections.abc import Sequence
from pathlib import Path

from music_genre.evaluation.metrics import SplitScore


def write_predictions(path: Path, score: SplitScore, labels: Sequence[str]) -> None:
    """One row per clip: track, true genre, predicted genre, and the probability of every genre."""
    rows = zip(score.track_ids, score.references, score.probabilities, strict=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["track_id", "genre", "prediction", *labels])
        for track_id, reference, row in rows:
            writer.writerow(
                [track_id, labels[reference], labels[row.argmax()], *(f"{p:.6f}" for p in row)]
            )


def read_is_right(path: Path) -> list[bool]:
    """Of each clip in such a file, in its order: is the prediction right?"""
    with path.open(encoding="utf-8", newline="") as file:
        return [row["genre"] == row["prediction"] for row in csv.DictReader(file)]
