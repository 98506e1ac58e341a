"""Splits and leakage of music in which nothing is alike; see uneven.py.

Run: pytest tests/data_prep/test_unequal.py
"""

import json

from datasets import load_from_disk

from data_prep import splits
from data_prep.track import Track
from tests.uneven import FILES


def test_leakage_is_of_train_alone(uneven):
    """Ada and Bo are in train, Cy only in validation, and of one track nobody knows the artist."""
    leakage = json.loads((uneven / "preparation.json").read_text())["leakage"]
    assert leakage["test_tracks"] == 7
    assert leakage["artist_in_train"] == 2
    assert leakage["artist_unknown"] == 1
    assert leakage["samples_in_train"] == 0
    artists = {name for split in load_from_disk(uneven).values() for name in split["artist"]}
    assert artists == {"", "Ada", "Bo", "Cy", "Dora", "Eve", "Fay"}, "no Various Artists"


def test_an_artist_is_on_one_side_whatever_the_seed_and_various_artists_are_none():
    tracks = {f.name: Track(f.name, f.genre, f.artist, sha256=f.name) for f in FILES}
    found = [splits.assign_custom(tracks, "artist", seed) for seed in range(8)]
    for split in found:
        for artist in ("Ada", "Bo", "Cy", "Dora", "Eve", "Fay"):
            assert len({split[f.name] for f in FILES if f.artist == artist}) == 1
    assert len({tuple(sorted(split.items())) for split in found}) > 1
    various = [f.name for f in FILES if f.artist == "Various Artists"]
    assert any(len({split[name] for name in various}) > 1 for split in found)
