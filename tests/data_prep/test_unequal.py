"""Splits and leakage of music in which nothing is alike, by data_prep's own command; see uneven.py.

Run: pytest tests/data_prep/test_unequal.py
"""

import json
from pathlib import Path

import pytest
from datasets import load_from_disk

from tests.uneven import FILES, run_data_prep

SEEDS = range(3)


def split_of_tracks(folder: Path) -> dict[str, str]:
    dataset = load_from_disk(folder)
    return {Path(track_id).stem: name for name in dataset for track_id in dataset[name]["track_id"]}


@pytest.fixture(scope="module")
def by_artist(uneven_source, tmp_path_factory) -> list[dict[str, str]]:
    """The split of each track, for each of SEEDS."""
    found = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp("seeds") / "prepared"
        run_data_prep(
            uneven_source / "tracks.csv", "--split", "artist", "--seed", seed, "--min_tracks", 1,
            "--clips_per_track", 1, "--clip_seconds", 1, "--output_dir", folder,
        )  # fmt: skip
        found.append(split_of_tracks(folder))
    return found


def test_leakage_is_of_train_alone(uneven):
    """Ada and Bo are in train, Cy only in validation, and of one track nobody knows the artist."""
    leakage = json.loads((uneven / "preparation.json").read_text())["leakage"]
    assert leakage["test_tracks"] == 7
    assert leakage["artist_in_train"] == 2
    assert leakage["artist_unknown"] == 1
    assert leakage["samples_in_train"] == 0


def test_an_artist_is_on_one_side_whatever_the_seed_and_various_artists_are_none(by_artist):
    for split in by_artist:
        for artist in ("Ada", "Bo", "Cy", "Dora", "Eve", "Fay"):
            assert len({split[f.name] for f in FILES if f.artist == artist}) == 1
    assert len({tuple(sorted(split.items())) for split in by_artist}) > 1
    various = [f.name for f in FILES if f.artist == "Various Artists"]
    assert any(len({split[name] for name in various}) > 1 for split in by_artist)
