import numpy as np
import pytest

from music_genre.evaluation.intervals import artist_groups, is_lower, mean_interval


def test_with_one_track_per_artist_the_interval_is_close_to_wilsons():
    low, high = mean_interval((np.arange(200) < 160).astype(float), np.arange(200))
    np.testing.assert_allclose((low, high), (0.7390, 0.8495), atol=0.01)


def test_tracks_of_one_artist_do_not_narrow_the_interval():
    """Ten tracks each by 20 artists who are right or wrong as a whole say as much as 20 tracks."""
    artists = np.repeat(np.arange(20), 10)
    by_artists = mean_interval((artists < 14).astype(float), artists)
    of_one_each = mean_interval((np.arange(20) < 14).astype(float), np.arange(20))
    assert by_artists == pytest.approx(of_one_each)


def test_seeds_that_agree_on_every_track_do_not_narrow_the_interval():
    one = (np.arange(100) < 70).astype(float)
    three = np.stack([one, one, one]).mean(0)
    assert mean_interval(one, np.arange(100)) == mean_interval(three, np.arange(100))


def test_a_few_right_answers_are_no_certainty():
    low, high = mean_interval(np.ones(10), np.arange(10))
    assert 0.6 < low < 0.8
    assert high == 1


def test_an_unknown_artist_is_another_one_each_time():
    assert len(set(artist_groups(["x", "", "x", "", None]))) == 4


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
