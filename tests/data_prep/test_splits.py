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
        assert 10 <= per_genre["test", genre] <= 14
        assert 10 <= per_genre["validation", genre] <= 14


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
        "reggae.00001": "validation",  # Bob Marley
        "disco.00000": "test",
    }
    hashes = {track: track for track in assignment} | {"disco.00000": "reggae.00000"}
    leakage = splits.leakage(assignment, hashes)
    assert leakage["test_tracks"] == 3
    assert leakage["artist_in_train"] == 1
    assert leakage["title_in_train"] == 1
    assert leakage["samples_in_train"] == 1


def test_a_title_of_two_artists_is_not_a_shared_title():
    """So What by Miles Davis and by Metallica."""
    assignment = {"jazz.00087": "train", "metal.00087": "test"}
    titles = {artists_and_titles()[track][1].lower() for track in assignment}
    assert titles == {"so what"}
    leakage = splits.leakage(assignment, {track: track for track in assignment})
    assert leakage["title_in_train"] == leakage["artist_in_train"] == 0


def test_tracks_without_artist_or_title_are_not_shared_but_unknown():
    unknown = [track for track, (artist, _) in artists_and_titles().items() if not artist][:2]
    untitled = ["blues.00082", "blues.00083"]  # Buckwheat Zydeco, without titles
    assignment = {
        unknown[0]: "train",
        unknown[1]: "test",
        untitled[0]: "train",
        untitled[1]: "test",
    }
    leakage = splits.leakage(assignment, {track: track for track in assignment})
    assert leakage == {
        "test_tracks": 2,
        "artist_in_train": 1,
        "artist_unknown": 1,
        "title_in_train": 0,
        "title_unknown": 2,
        "samples_in_train": 0,
    }
    assert "1 could not be checked" in splits.describe_leakage(leakage)


def test_a_large_group_does_not_overfill_a_small_split():
    """Forty tracks of five artists: eight of each, where a test split of a tenth wants four."""
    tracks = [f"rock.{i:05d}" for i in range(40)]
    names = {track: (f"artist {i // 8}", "") for i, track in enumerate(tracks)}
    hashes = {track: track for track in tracks}
    for seed in range(4):
        assignment = splits.assign(hashes, "artist", seed, names)
        assert set(assignment.values()) == {"train"}
    names = {track: (f"artist {i // 2}", "") for i, track in enumerate(tracks)}
    assert Counter(splits.assign(hashes, "artist", 0, names).values()) == {
        "train": 32,
        "validation": 4,
        "test": 4,
    }


def test_artist_split_of_few_tracks_has_one_in_each():
    """A tenth of six tracks is less than one."""
    tracks = [f"rock.{i:05d}" for i in range(6)]
    assignment = splits.assign({track: track for track in tracks}, "artist", names={})
    assert Counter(assignment.values()) == {"train": 4, "validation": 1, "test": 1}


@pytest.mark.parametrize(("n", "n_held_out"), [(2, 0), (3, 1), (14, 1), (16, 2)])
def test_random_split_of_few_tracks_keeps_some_in_train(n, n_held_out):
    tracks = {f"jazz.{i:05d}": str(i) for i in range(n)}
    counts = Counter(splits.assign(tracks, "random").values())
    assert counts["test"] == counts["validation"] == n_held_out
    assert counts["train"] == n - 2 * n_held_out > 0


def test_every_split_has_all_of_its_lists_tracks():
    assert set(filtered_split()) <= set(ALL)


def test_an_unknown_method_names_the_valid_ones():
    with pytest.raises(InputError, match="filtered, artist, random"):
        splits.assign(ALL, "kfold")
