"""Rows of the comparison: what a model reached on the test tracks of a split; their table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.gtzan import artists_and_titles
from music_genre.errors import InputError
from music_genre.evaluation.intervals import artist_groups, mean_interval
from music_genre.report import read_report

HEAD = ("model", "input", "split", "test accuracy (95 % interval)", "n", "size", "minutes")


@dataclass(frozen=True)
class Row:
    model: str
    input: str
    split: str
    accuracy: float
    interval: tuple[float, float]
    n: int  # test tracks
    size: str  # parameters, or what such a model has in their place
    seconds: float  # of training

    def cells(self) -> list[str]:
        low, high = self.interval
        minutes = f"{self.seconds / 60:.1f}" if self.seconds >= 6 else "< 0.1"
        accuracy = f"**{self.accuracy:.2f}** ({low:.2f} to {high:.2f})"
        return [self.model, self.input, self.split, accuracy, f"{self.n:,}", self.size, minutes]


def score(is_right: Mapping[str, float]) -> tuple[float, tuple[float, float], int]:
    """Accuracy, its interval by bootstrap over artists, and the number of tracks.

    Args:
        is_right: of each GTZAN track 1 or 0, or the mean of several models.
    """
    names = artists_and_titles()
    artists = [names[track][0] if track in names else "" for track in is_right]
    values = np.array(list(is_right.values()), float)
    return values.mean(), mean_interval(values, artist_groups(artists)), len(values)


def rows_of_runs(folders: Sequence[Path]) -> list[Row]:
    """What finished runs reached on their test tracks.

    Raises:
        InputError: a folder has no report with figures of a test split.
    """
    rows = []
    for folder in folders:
        report = read_report(folder) or {}
        test, train = report.get("test"), report.get("train")
        if not isinstance(test, dict) or not isinstance(train, dict):
            raise InputError(f"{folder} has no report.json with figures of a test split.")
        is_probe = (train.get("linear_probe") or {}).get("is_kept")
        rows.append(
            Row(
                f"{report['model']}, {'linear probe' if is_probe else 'fine-tuned'}",
                f"audio, windows of {report['window_seconds']:g} s",
                f"{report['split']}, {report['dataset']}",
                test["accuracy"],
                tuple(test["accuracy_ci95"]),
                test["n"],
                "",
                train["seconds"],
            )
        )
    return rows


def to_markdown(rows: Sequence[Row]) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
