"""GTZAN's index, and splits and leakage of it and of made-up tracks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from data_prep import splits
from data_prep.gtzan import GENRES, artists_and_titles, as_track, filtered_split, track_id_of
from data_prep.leakage import describe_leakage, leakage
from data_prep.track import Track

HASHES = {track: f"samples of {track}" for track in artists_and_titles()}


def as_tracks(hashes: Mapping[str, str]) -> dict[str, Track]:
    """GTZAN's tracks, with samples of these hashes."""
    return {name: replace(as_track(name), sha256=sha256) for name, sha256 in hashes.items()}


ALL = as_tracks(HASHES)


def test_the_index_holds_all_tracks():
    assert len(ALL) == 1000
    assert sum(not artist for artist, _ in artists_and_titles().values()) == 81
    assert artists_and_titles()["blues.00000"][0] == "John Lee Hooker"


@pytest.mark.parametrize(
    ("name", "track_id"),
    [
        ("blues.00000.wav", "blues.00000"),
        ("a/b\\Blues.00000.AU", "blues.00000"),
        ("blues.000000.wav", None),
        ("my blues.00000.wav", None),
        ("polka.00000.wav", None),
    ],
)
def test_the_track_is_known_by_the_whole_name(name, track_id):
    assert track_id_of(name) == track_id


def test_the_filtered_lists_are_torchaudios():
    pytest.importorskip("torchaudio", reason="only training needs torchaudio")
    from torchaudio.datasets import gtzan as lists

    theirs = {"train": lists.filtered_train, "validation": lists.filtered_valid}
    theirs["test"] = lists.filtered_test
    assert filtered_split() == {t: split for split, tracks in theirs.items() for t in tracks}


def test_filtered_is_the_published_list_and_shares_no_artist():
    assignment = splits.assign(ALL, "filtered")
    assert Counter(assignment.values()) == {"train": 443, "validation": 197, "test": 290}
    counts = leakage(assignment, ALL)
    assert counts["artist_in_train"] == counts["title_in_train"] == 0
    assert "classical.00042" not in assignment  # one of the faulty ones


@pytest.mark.parametrize("seed", range(3))
def test_artist_split_is_stratified_and_shares_no_artist_and_no_samples(seed):
    """Twenty pairs of equal samples, each of two genres and two artists."""
    pairs = list(zip(sorted(HASHES)[:500:25], sorted(HASHES)[500::25], strict=True))
    same = {track: f"same {i}" for i, pair in enumerate(pairs) for track in pair}
    assignment = splits.assign(as_tracks(HASHES | same), "artist", seed)
    assert all(assignment[one] == assignment[other] for one, other in pairs)
    assignment = splits.assign(ALL, "artist", seed)
    assert leakage(assignment, ALL)["artist_in_train"] == 0
    per_genre = Counter((split, ALL[track].genre) for track, split in assignment.items())
    for genre in GENRES:
        assert 10 <= per_genre["test", genre] <= 14
        assert 10 <= per_genre["validation", genre] <= 14


def test_random_split_leaks_artists_as_the_page_says(root):
    percent = []
    for seed in range(6):
        assignment = splits.assign(ALL, "random", seed)
        assert Counter(assignment.values()) == {"train": 800, "validation": 100, "test": 100}
        counts = leakage(assignment, ALL)
        assert "who is in train as well" in describe_leakage(counts)
        identified = counts["test_tracks"] - counts["artist_unknown"]
        percent.append(round(100 * counts["artist_in_train"] / identified))
    page = " ".join((root / "docs" / "data.md").read_text(encoding="utf-8").split())
    assert f"what most courses use | {percent[0]} % |" in page
    assert f"seeds 1 to 5, `random` has {min(percent[1:])} to {max(percent[1:])} %" in page


def test_leakage_counts_what_is_shared_and_what_is_unknown():
    assignment = {
        "reggae.00000": "train",  # Bob Marley
        "reggae.00003": "test",  # Bob Marley, Three Little Birds
        "reggae.00054": "train",  # Bob Marley, Three Little Birds
        "blues.00012": "test",  # Robert Johnson
        "reggae.00001": "validation",  # Bob Marley
        "jazz.00087": "train",  # So What by Miles Davis
        "metal.00087": "test",  # So What by Metallica
        "blues.00082": "train",  # Buckwheat Zydeco, without title
        "blues.00083": "test",  # Buckwheat Zydeco, without title
        "disco.00000": "test",
    }
    unknown = [track for track, (artist, _) in artists_and_titles().items() if not artist][:2]
    assignment |= {unknown[0]: "train", unknown[1]: "test"}
    hashes = {track: track for track in assignment} | {"disco.00000": "reggae.00000"}
    counts = leakage(assignment, as_tracks(hashes))
    assert counts == {
        "test_tracks": 6,
        "artist_in_train": 2,
        "artist_unknown": 1,
        "title_in_train": 1,
        "title_unknown": 2,
        "album_in_train": 0,
        "album_unknown": 6,
        "samples_in_train": 1,
    }
    assert describe_leakage(counts) == (
        "the artist of 5 of 6 test tracks is known, and 2 of these (40%) are by an artist who is "
        "in train as well; 1 have the same artist and title as one in train; 1 are exact copies of "
        "tracks in train"
    )


def test_a_large_group_does_not_overfill_a_small_split():
    """Forty tracks of five artists: eight of each, where a test split of a tenth wants four."""

    def counts(n: int, n_each: int, seed: int = 0) -> tuple[int, ...]:
        tracks = {str(i): Track(str(i), "rock", f"artist {i // n_each}") for i in range(n)}
        split_sizes = Counter(splits.assign(tracks, "artist", seed).values())
        return tuple(split_sizes[name] for name in ("train", "validation", "test"))

    for seed in range(3):
        assert counts(40, 8, seed) == (24, 8, 8)
        assert counts(40, 20, seed) == (40, 0, 0)
    assert counts(40, 2) == (32, 4, 4)
    assert counts(6, 1) == (4, 1, 1), "a tenth of six tracks is less than one"


@pytest.mark.parametrize(("n", "n_held_out"), [(2, 0), (3, 1), (16, 2)])
def test_random_split_of_few_tracks_keeps_some_in_train(n, n_held_out):
    tracks = as_tracks({f"jazz.{i:05d}": str(i) for i in range(n)})
    counts = Counter(splits.assign(tracks, "random").values())
    assert counts["test"] == counts["validation"] == n_held_out
    assert counts["train"] == n - 2 * n_held_out > 0


def custom(n_of_artist: dict[str, int], genre: str = "rock") -> dict[str, Track]:
    tracks = [
        Track(f"{genre}/{artist}/{i}", genre, artist)
        for artist, n in n_of_artist.items()
        for i in range(n)
    ]
    return {track.track_id: track for track in tracks}


def test_few_artists_of_many_tracks_are_still_in_each_split():
    """Ten tracks by four artists: a tenth is one track, the smallest artist has two."""
    tracks = custom({"a": 4, "b": 2, "c": 2, "d": 2})
    assignment = splits.assign_custom(tracks, "artist")
    assert Counter(assignment.values()) == {"train": 6, "validation": 2, "test": 2}
    assert leakage(assignment, tracks)["artist_in_train"] == 0
    assert set(splits.assign_custom(custom({"a": 9, "b": 5}), "artist").values()) == {"train"}
    tracks = custom({"a": 2, "b": 2, "c": 2})
    assert Counter(splits.assign_custom(tracks, "artist").values()) == {"train": 4, "test": 2}
    tracks = custom({"a": 1}) | custom({"a": 2, "b": 4, "c": 4}, "jazz")
    assert splits.assign_custom(tracks, "artist")["rock/a/0"] == "train", "with the only rock"


@pytest.mark.parametrize(
    ("method", "field"),
    [("artist", "album"), ("artist", "sha256"), ("album", "title"), ("album", "sha256"),
     ("random", "title"), ("random", "sha256")],
)  # fmt: skip
def test_tracks_that_have_something_in_common_are_on_one_side(method, field):
    """Of forty tracks the first has it in common with the 21st, and so on."""
    tracks = {str(i): Track(str(i), "rock", **{field: f"same {i % 20}"}) for i in range(40)}
    for seed in range(3):
        split_of = splits.assign_custom(tracks, method, seed)
        assert all(split_of[str(i)] == split_of[str(i + 20)] for i in range(20))
        assert len(set(split_of.values())) == 3


def test_the_strictest_split_that_the_data_allow_is_the_default():
    """The artists or the albums of more than half are known; a genre has three albums."""

    def suggested(n_artists: int, n_with_album: int, n_albums: int) -> str:
        tracks = [Track(str(i), "AB"[i % 2], "Ann" if i < n_artists else "VA") for i in range(12)]
        for i, track in enumerate(tracks[:n_with_album]):
            track.album, track.split = f"album {i % n_albums}", "train"
        return splits.suggest({track.track_id: track for track in tracks})

    assert suggested(7, 12, 6) == "artist"
    assert suggested(6, 7, 6) == "album"
    assert suggested(6, 6, 6) == suggested(6, 12, 5) == "random"


def test_a_tenth_of_train_becomes_the_validation_split_that_the_source_lacks():
    tracks = {str(i): Track(str(i), "rock", split="train" if i else "test") for i in range(41)}
    counts = Counter(splits.assign_custom(tracks, "given").values())
    assert counts == {"train": 36, "validation": 4, "test": 1}


def test_guests_and_spellings_are_one_artist_and_various_artists_are_none():
    tracks = custom({"Beyoncé": 1, "BEYONCE\u0301 feat. Jay-Z": 1, "[unknown]": 1, "VA": 1})
    names = [splits.link_keys(track)["artist"] for track in tracks.values()]
    assert names == ["beyoncé", "beyoncé", "", ""]
    keys = splits.link_keys(Track("x", "rock", title="So What", album="Hits"))
    assert (keys["title"], keys["recording"]) == ("", "rock/sowhat"), "by whom?"
    keys = splits.link_keys(Track("x", "rock", "Ann", "So What", "Hits"))
    assert (keys["recording"], keys["album without artist"]) == ("ann/sowhat", "")


def test_splits_depend_on_the_seed_alone():
    tracks = custom({f"artist {i}": 1 + i % 3 for i in range(30)})
    for assign, of, methods in (
        (splits.assign, ALL, ("artist", "random")),
        (splits.assign_custom, tracks, ("artist", "album", "random")),
    ):
        for method in methods:
            assert assign(of, method, 1) == assign(dict(reversed(of.items())), method, 1)
            assert assign(of, method, 1) != assign(of, method, 2)
