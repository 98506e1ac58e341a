from collections import Counter

import pytest

from data_prep import splits
from data_prep.gtzan import GENRES, artists_and_titles, filtered_split, same_name_key
from music_genre.errors import InputError

ALL = {track: f"samples of {track}" for track in artists_and_titles()}


def test_the_index_holds_all_tracks():
    assert len(ALL) == 1000
    assert sum(not artist for artist, _ in artists_and_titles().values()) == 81
    assert artists_and_titles()["blues.00000"][0] == "John Lee Hooker"
    assert same_name_key("Earth, Wind & Fire") == same_name_key("Earth Wind and Fire")


def test_filtered_is_the_published_list_and_shares_no_artist():
    assignment = splits.assign(ALL, "filtered")
    assert Counter(assignment.values()) == {"train": 443, "validation": 197, "test": 290}
    leakage = splits.leakage(assignment, ALL)
    assert leakage["artist_in_train"] == leakage["title_in_train"] == 0
    assert "classical.00042" not in assignment  # one of the faulty ones


@pytest.mark.parametrize("seed", range(4))
def test_artist_split_is_stratified_and_shares_no_artist(seed):
    assignment = splits.assign(ALL, "artist", seed)
    assert splits.leakage(assignment, ALL)["artist_in_train"] == 0
    per_genre = Counter((split, splits.genre_of(track)) for track, split in assignment.items())
    for genre in GENRES:
        assert 8 <= per_genre["test", genre] <= 16
        assert 8 <= per_genre["validation", genre] <= 16


def test_artist_split_keeps_equal_samples_together():
    same = {**ALL, "blues.00000": "same", "rock.00099": "same", "jazz.00050": "same"}
    assignment = splits.assign(same, "artist")
    assert len({assignment[t] for t in ("blues.00000", "rock.00099", "jazz.00050")}) == 1


def test_random_split_leaks_artists():
    assignment = splits.assign(ALL, "random", seed=3)
    assert Counter(assignment.values()) == {"train": 800, "validation": 100, "test": 100}
    leakage = splits.leakage(assignment, ALL)
    identified = leakage["test_tracks"] - leakage["artist_unknown"]
    assert 0.75 < leakage["artist_in_train"] / identified < 0.95
    assert "have that artist in train" in splits.describe_leakage(leakage)


@pytest.mark.parametrize("method", ["artist", "random"])
def test_a_split_depends_on_the_seed_alone(method):
    backwards = dict(reversed(ALL.items()))
    assert splits.assign(ALL, method, 1) == splits.assign(backwards, method, 1)
    assert splits.assign(ALL, method, 1) != splits.assign(ALL, method, 2)


def test_leakage_counts_what_is_shared():
    assignment = {
        "reggae.00000": "train",  # Bob Marley
        "reggae.00003": "test",  # Bob Marley, Three Little Birds
        "reggae.00054": "train",  # Bob Marley, Three Little Birds
        "blues.00012": "test",  # Robert Johnson
        "disco.00000": "test",
    }
    hashes = {track: track for track in assignment} | {"disco.00000": "reggae.00000"}
    leakage = splits.leakage(assignment, hashes)
    assert leakage["test_tracks"] == 3
    assert leakage["artist_in_train"] == 1
    assert leakage["title_in_train"] == 1
    assert leakage["samples_in_train"] == 1


def test_every_split_has_all_of_its_lists_tracks():
    assert set(filtered_split()) <= set(ALL)


def test_an_unknown_method_names_the_valid_ones():
    with pytest.raises(InputError, match="filtered, artist, random"):
        splits.assign(ALL, "kfold")
