"""The real tracks as folders, table, tagged library and zip: what GTZAN's own way gives."""

from pathlib import Path

import pytest

from data_prep.gtzan import GENRES
from tests.data_prep.archives import samples_of
from tests.data_prep.music import prepared
from tests.data_prep.rearranged import rearrange


@pytest.fixture(scope="module")
def rearranged(real_archive, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rearranged")
    rearrange(real_archive, folder, per_genre=2)
    return folder


@pytest.fixture(scope="module")
def hashes(real_prepared) -> set[str]:
    return set(samples_of(real_prepared).values())


@pytest.mark.parametrize("source", ["folders", "folders.zip", "table/tracks.csv"])
def test_the_samples_are_those_of_gtzans_own_way(rearranged, hashes, tmp_path, source):
    done = prepared(rearranged / source, tmp_path / "out", min_tracks=2)
    assert (done["n_kept"], done["split"]) == (20, "artist")
    assert set(done["genres"]) == set(GENRES)
    assert set(samples_of(tmp_path / "out").values()) < hashes
    assert done["leakage"]["artist_in_train"] == 0
    assert "GTZAN" not in (tmp_path / "out" / "README.md").read_text()


def test_the_tagged_part_of_a_library(rearranged, hashes, tmp_path):
    done = prepared(rearranged / "library", tmp_path / "out", genre_from="tags", min_tracks=1)
    assert (done["n_kept"], done["split"]) == (13, "artist")
    assert {g.lower().replace("-", "") for g in done["genres"]} == set(GENRES)
    flacs = {h for name, h in samples_of(tmp_path / "out").items() if name.endswith(".flac")}
    assert len(flacs) == 7
    assert flacs <= hashes
