"""Intervals by bootstrap over artists: tracks of one artist succeed and fail together."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, bootstrap

from music_genre.genre_names import artist_key


def artist_groups(artists: Sequence[str]) -> np.ndarray:
    """The artist of each clip in one spelling, or its number where that is unknown; shape (clips,).

    Spellings are those by which data_prep splits: guests are left out.
    """
    return np.array([artist_key(artist or "") or f"clip {i}" for i, artist in enumerate(artists)])


def mean_interval(
    values: np.ndarray, groups: np.ndarray, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of `values`, by bootstrap over groups (percentiles of 10,000 draws).

    If all tracks are right, or none, every draw gives the same mean; the interval is then Wilson's,
    of as many trials as there are groups.

    One group says nothing of others: the interval is then 0 to 1, or without bounds where values
    are not from 0 to 1.

    Args:
        values: shape (tracks,): the share of seeds that are right, or differences of two models.
        groups: shape (tracks,): the artist of each, or something unique where it is unknown.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    n_groups, is_share = len(counts), values.min() >= 0 and values.max() <= 1
    if n_groups == 1:
        return (0.0, 1.0) if is_share else (float("-inf"), float("inf"))
    if np.all(values == values[0]) and values[0] in (0, 1):
        trials = binomtest(int(values[0]) * n_groups, n_groups)
        interval = trials.proportion_ci(confidence, method="wilson")
    else:
        interval = bootstrap(
            (sums, counts),
            lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
            n_resamples=10_000,
            batch=1_000,
            paired=True,
            method="percentile",
            confidence_level=confidence,
            rng=0,
        ).confidence_interval
    return float(interval.low), float(interval.high)


def is_lower(losses: np.ndarray, others: np.ndarray, groups: np.ndarray) -> bool:
    """Whether the mean of `losses` is lower than that of `others` in 95 % of draws of artists.

    losses, others: of two models on the same clips, by the artists `groups`; shape (clips,).
    """
    return mean_interval(losses - others, groups, confidence=0.9)[1] < 0
