import numpy as np
import pytest

from music_genre.library import batches, scan, table


def test_uncertainty_is_normalised_entropy():
    file = table.File("/a.mp3", 1, 2)

    def row(probabilities: list[float]) -> dict:
        prediction = batches.FilePrediction("/a.mp3", 1.0, 1.0, np.array(probabilities))
        return scan.to_row(file, prediction, ["a", "b", "c", "d"])

    assert row([0, 1, 0, 0])["uncertainty"] == 0
    assert row([0.25] * 4)["uncertainty"] == 1
    assert row([0.5, 0.5, 0, 0])["uncertainty"] == pytest.approx(0.5)
    assert row([0.1, 0.2, 0.3, 0.4])["genre"] == "d"
