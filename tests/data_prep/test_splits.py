from collections import Counter

import pytest

from data_prep import splits
from data_prep.gtzan import GENRES, artists_and_titles, as_tracks
from data_prep.leakage import describe_leakage, leakage
from data_prep.track import Track
from music_genre.errors import InputError
from music_genre.genre_names import same_name_key

HASHES = {track: f"samples of {track}" for track in artists_and_titles()}
ALL = as_tracks(HASHES)


def test_the_index_holds_all_tracks():
    assert len(ALL) == 1000
    assert sum(not artist for artist, _ in artists_and_titles().values()) == 81
    assert artists_and_titles()["blues.00000"][0] == "John Lee Hooker"
    assert same_name_key("Earth, Wind & Fire") == same_name_key("Earth Wind and Fire")


def test_filtered_is_the_published_list_and_shares_no_artist():
    assignment = splits.assign(ALL, "filtered")
    assert Counter(assignment.values()) == {"train": 443, "validation": 197, "test": 290}
    counts = leakage(assignment, ALL)
    assert counts["artist_in_train"] == counts["title_in_train"] == 0
    assert "classical.00042" not in assignment  # one of the faulty ones


@pytest.mark.parametrize("seed", range(4))
def test_artist_split_is_stratified_and_shares_no_artist(seed):
    assignment = splits.assign(ALL, "artist", seed)
    assert leakage(assignment, ALL)["artist_in_train"] == 0
    per_genre = Counter((split, ALL[track].genre) for track, split in assignment.items())
    for genre in GENRES:
        assert 10 <= per_genre["test", genre] <= 14
        assert 10 <= per_genre["validation", genre] <= 14


@pytest.mark.parametrize("seed", range(4))
def test_artist_split_keeps_equal_samples_together(seed):
    """Twenty pairs, each of two genres and two artists."""
    pairs = list(zip(sorted(HASHES)[:500:25], sorted(HASHES)[500::25], strict=True))
    same = {track: f"same {i}" for i, pair in enumerate(pairs) for track in pair}
    assignment = splits.assign(as_tracks(HASHES | same), "artist", seed)
    assert all(assignment[one] == assignment[other] for one, other in pairs)


def test_random_split_leaks_artists():
    assignment = splits.assign(ALL, "random", seed=3)
    assert Counter(assignment.values()) == {"train": 800, "validation": 100, "test": 100}
    counts = leakage(assignment, ALL)
    identified = counts["test_tracks"] - counts["artist_unknown"]
    assert 0.75 < counts["artist_in_train"] / identified < 0.95
    assert "who is in train as well" in describe_leakage(counts)


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
    counts = leakage(assignment, as_tracks(hashes))
    assert counts["test_tracks"] == 3
    assert counts["artist_in_train"] == 1
    assert counts["title_in_train"] == 1
    assert counts["samples_in_train"] == 1


def test_a_title_of_two_artists_is_not_a_shared_title():
    """So What by Miles Davis and by Metallica."""
    assignment = {"jazz.00087": "train", "metal.00087": "test"}
    titles = {artists_and_titles()[track][1].lower() for track in assignment}
    assert titles == {"so what"}
    counts = leakage(assignment, as_tracks({track: track for track in assignment}))
    assert counts["title_in_train"] == counts["artist_in_train"] == 0


def test_tracks_without_artist_or_title_are_not_shared_but_unknown():
    unknown = [track for track, (artist, _) in artists_and_titles().items() if not artist][:2]
    untitled = ["blues.00082", "blues.00083"]  # Buckwheat Zydeco, without titles
    assignment = {
        unknown[0]: "train",
        unknown[1]: "test",
        untitled[0]: "train",
        untitled[1]: "test",
    }
    counts = leakage(assignment, as_tracks({track: track for track in assignment}))
    assert counts == {
        "test_tracks": 2,
        "artist_in_train": 1,
        "artist_unknown": 1,
        "title_in_train": 0,
        "title_unknown": 2,
        "album_in_train": 0,
        "album_unknown": 2,
        "samples_in_train": 0,
    }
    assert "the artist of 1 of 2 test tracks is known" in describe_leakage(counts)


def test_a_large_group_does_not_overfill_a_small_split():
    """Forty tracks of five artists: eight of each, where a test split of a tenth wants four."""

    def of_artists(n_each: int) -> dict[str, Track]:
        return {str(i): Track(str(i), "rock", f"artist {i // n_each}") for i in range(40)}

    for seed in range(4):
        assignment = splits.assign(of_artists(8), "artist", seed)
        assert Counter(assignment.values()) == {"train": 24, "validation": 8, "test": 8}
        assignment = splits.assign(of_artists(20), "artist", seed)
        assert set(assignment.values()) == {"train"}
    assert Counter(splits.assign(of_artists(2), "artist", 0).values()) == {
        "train": 32,
        "validation": 4,
        "test": 4,
    }


def test_artist_split_of_few_tracks_has_one_in_each():
    """A tenth of six tracks is less than one."""
    tracks = {str(i): Track(str(i), "rock") for i in range(6)}
    assignment = splits.assign(tracks, "artist")
    assert Counter(assignment.values()) == {"train": 4, "validation": 1, "test": 1}


@pytest.mark.parametrize(("n", "n_held_out"), [(2, 0), (3, 1), (14, 1), (16, 2)])
def test_random_split_of_few_tracks_keeps_some_in_train(n, n_held_out):
    tracks = as_tracks({f"jazz.{i:05d}": str(i) for i in range(n)})
    counts = Counter(splits.assign(tracks, "random").values())
    assert counts["test"] == counts["validation"] == n_held_out
    assert counts["train"] == n - 2 * n_held_out > 0


def test_an_unknown_method_names_the_valid_ones():
    with pytest.raises(InputError, match="filtered, artist, random"):
        splits.assign(ALL, "kfold")


def own(n_of_artist: dict[str, int], genre: str = "rock") -> dict[str, Track]:
    tracks = [
        Track(f"{genre}/{artist}/{i}", genre, artist)
        for artist, n in n_of_artist.items()
        for i in range(n)
    ]
    return {track.track_id: track for track in tracks}


def test_few_artists_of_many_tracks_are_still_in_each_split():
    """Ten tracks by four artists: a tenth is one track, the smallest artist has two."""
    tracks = own({"a": 4, "b": 2, "c": 2, "d": 2})
    assignment = splits.assign_custom(tracks, "artist")
    assert Counter(assignment.values()) == {"train": 6, "validation": 2, "test": 2}
    assert leakage(assignment, tracks)["artist_in_train"] == 0


def test_one_artist_alone_stays_in_train():
    assert set(splits.assign_custom(own({"a": 9, "b": 5}), "artist").values()) == {"train"}


def test_guests_and_spellings_are_one_artist_and_various_artists_are_none():
    tracks = own({"Beyoncé": 1, "BEYONCE\u0301 feat. Jay-Z": 1, "Various Artists": 1, "VA": 1})
    names = [splits.link_keys(track)["artist"] for track in tracks.values()]
    assert names == ["beyoncé", "beyoncé", "", ""]


def test_own_splits_depend_on_the_seed_alone():
    tracks = own({f"artist {i}": 1 + i % 3 for i in range(30)})
    backwards = dict(reversed(tracks.items()))
    for method in ("artist", "album", "random"):
        assert splits.assign_custom(tracks, method, 1) == splits.assign_custom(backwards, method, 1)
    assert splits.assign_custom(tracks, "artist", 1) != splits.assign_custom(tracks, "artist", 2)
