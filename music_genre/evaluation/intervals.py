"""Intervals by bootstrap over artists, because tracks of one artist succeed or fail together."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, bootstrap

from music_genre.genre_names import artist_key


def artist_groups(artists: Sequence[str]) -> np.ndarray:
    """Return each clip's artist in one spelling, or the clip's number if unknown; shape (clips,).

    data_prep splits by the same spelling, which leaves out guest artists.
    """
    return np.array([artist_key(artist or "") or f"clip {i}" for i, artist in enumerate(artists)])


def mean_interval(
    values: np.ndarray, groups: np.ndarray, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of `values`, by bootstrap over groups (percentiles of 10,000 draws).

    If all tracks are right, or none is, every draw gives the same mean. The interval is then
    Wilson's, for as many trials as there are groups.

    A single group says nothing about others. The interval is then 0 to 1, or unbounded if values
    are not from 0 to 1.

    Args:
        values: shape (tracks,): the share of seeds that are right, or the difference of two models.
        groups: shape (tracks,): the artist of each track, or a unique value if unknown.
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

    losses, others: two models' losses on the same clips; groups: the artists; shape (clips,).
    """
    return mean_interval(losses - others, groups, confidence=0.9)[1] < 0
