"""GTZAN's clips are known by their names."""

import pytest

from data_prep.gtzan import filtered_split, track_id_of


@pytest.mark.parametrize(
    ("name", "track_id"),
    [
        ("blues.00000.wav", "blues.00000"),
        ("a/b\\Blues.00000.AU", "blues.00000"),
        ("blues.000000.wav", None),
        ("blues.0000.wav", None),
        ("blues00000.wav", None),
        ("my blues.00000.wav", None),
        ("blues.00000.0.wav", None),
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
