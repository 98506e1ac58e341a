"""Rows of the comparison, each with a model's result on a split's test tracks, and their table."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep import splits
from data_prep.gtzan import artists_and_titles, as_track
from music_genre.errors import InputError
from music_genre.evaluation.intervals import artist_groups, mean_interval
from music_genre.report import read_report

HEAD = ("model", "input", "split", "test accuracy (95 % interval)", "n", "size")


class Row(NamedTuple):
    model: str
    input: str
    split: str
    accuracy: float
    interval: tuple[float, float]
    n: int  # test tracks
    size: str = ""  # number of parameters, or what such a model has instead


def train_and_test(tracks: Sequence[str], method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions in `tracks` of those that a split of GTZAN trains on and tests on.

    Raises InputError: there is no such split, or there are no such tracks.
    """
    assignment = splits.assign({track: as_track(track) for track in tracks}, method)
    split = pd.Series(tracks).map(assignment)
    train, test = (np.flatnonzero(split == name) for name in ("train", "test"))
    if not len(train) or not len(test):
        raise InputError(f"The {method} split of these tracks has no train or no test part.")
    return train, test


def score(is_right: pd.Series) -> tuple[float, tuple[float, float], int]:
    """Return accuracy, its interval by bootstrap over artists, and the number of tracks.

    is_right: 1 or 0, or the mean of several models, indexed by the GTZAN track.
    """
    names = artists_and_titles()
    artists = [names[track][0] if track in names else "" for track in is_right.index]
    interval = mean_interval(is_right.to_numpy(), artist_groups(artists))
    return float(is_right.mean()), interval, len(is_right)


def rows_of_runs(folders: Sequence[Path]) -> list[Row]:
    """Return finished runs' results on their test tracks. Raises InputError: a run has none."""
    rows = []
    for folder in folders:
        try:
            rows.append(_row_of(read_report(folder) or {}))
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # by another program
            raise InputError(
                f"{folder} has no report.json with figures of a test split."
            ) from error
    return rows


def _row_of(report: dict) -> Row:
    is_probe = (report["train"].get("linear_probe") or {}).get("is_kept")
    low, high = map(float, report["test"]["accuracy_ci95"])
    return Row(
        f"{report['model']}, {'linear probe' if is_probe else 'fine-tuned'}",
        f"audio, windows of {report['window_seconds']:g} s",
        f"{report['split']}, {report['dataset']}",
        float(report["test"]["accuracy"]),
        (low, high),
        int(report["test"]["n"]),
    )


def to_markdown(rows: Sequence[Row]) -> str:
    lines = [HEAD, ["---"] * len(HEAD)]
    for *names, accuracy, (low, high), n, size in rows:
        lines.append([*names, f"**{accuracy:.2f}** ({low:.2f} to {high:.2f})", f"{n:,}", size])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
