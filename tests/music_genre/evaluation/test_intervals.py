import numpy as np
import pytest
from scipy.stats import norm

from music_genre.evaluation.intervals import artist_groups, is_lower, mean_interval


def test_with_one_track_per_artist_the_interval_is_close_to_wilsons():
    low, high = mean_interval((np.arange(200) < 160).astype(float), np.arange(200))
    np.testing.assert_allclose((low, high), (0.7390, 0.8495), atol=0.01)


def test_tracks_of_one_artist_do_not_narrow_the_interval():
    """Ten tracks each by 20 artists who are right or wrong as a whole say as much as 20 tracks."""
    artists = np.repeat(np.arange(20), 10)
    by_artists = mean_interval((artists < 14).astype(float), artists)
    one_track_each = mean_interval((np.arange(20) < 14).astype(float), np.arange(20))
    assert by_artists == pytest.approx(one_track_each)


def test_seeds_that_agree_on_every_track_do_not_narrow_the_interval():
    one = (np.arange(100) < 70).astype(float)
    three = np.stack([one, one, one]).mean(0)
    assert mean_interval(one, np.arange(100)) == mean_interval(three, np.arange(100))
    assert mean_interval(np.full(100, 0.5), np.arange(100)) == (0.5, 0.5), "one seed is right"


def test_a_few_right_answers_are_no_certainty():
    low, high = mean_interval(np.ones(10), np.arange(10))
    assert 0.6 < low < 0.8
    assert high == 1
    few_artists = mean_interval(np.ones(200), np.repeat(np.arange(10), 20))
    assert few_artists == (low, high)
    assert mean_interval(np.ones(10), np.arange(10), confidence=0.5)[0] > low


def test_an_artist_counts_by_their_tracks():
    """Twenty artists with nine tracks each that are mostly wrong, twenty with one that is right."""
    artists = np.concatenate([np.repeat(np.arange(20), 9), np.arange(20, 40)])
    values = np.where(artists < 20, 0.2, 1.0)
    low, high = mean_interval(values, artists)
    assert low < values.mean() < high < 0.4


@pytest.mark.parametrize("share", [0.75, 1.0, 0.0])
def test_one_artist_says_nothing_about_others(share):
    values = (np.arange(4) < 4 * share).astype(float)
    assert mean_interval(values, np.zeros(4)) == (0, 1)
    assert mean_interval(values - 2, np.zeros(4)) == (-np.inf, np.inf)


def test_an_unknown_artist_is_another_one_each_time():
    assert len(set(artist_groups(["x", "", "x", "", None]))) == 4
    assert len(set(artist_groups(["Various Artists", "Various Artists"]))) == 2


def test_spellings_of_an_artist_are_one_group():
    names = ["Daft Punk", "DAFT PUNK", "Daft Punk feat. X", "Daft Punk (ft. X)", "Daft"]
    assert len(set(artist_groups(names))) == 2


def test_lower_is_lower_for_most_draws_of_artists():
    rng = np.random.default_rng(0)
    losses, artists = rng.exponential(size=200), np.repeat(np.arange(20), 10)
    assert is_lower(losses, losses + 0.1, artists)
    assert not is_lower(losses, losses, artists)
    assert not is_lower(losses + 0.1, losses, artists)
    better_for_one = np.where(artists == 0, losses - 1, losses + 0.04)
    assert better_for_one.mean() < losses.mean()
    assert not is_lower(better_for_one, losses, artists)
    assert not is_lower(losses - 1, losses, np.zeros(200)), "one artist says nothing of others"


@pytest.mark.parametrize(("deviations", "expected"), [(1.8, True), (1.5, False)])
def test_lower_is_lower_with_a_certainty_of_95_percent_on_one_side(deviations, expected):
    """1.64 standard errors; with 97.5 % it would be 1.96."""
    noise = norm.ppf((np.arange(400) + 0.5) / 400)
    losses = noise - deviations * noise.std() / 20
    assert is_lower(losses, np.zeros(400), np.arange(400)) == expected
