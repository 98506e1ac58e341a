"""The table of predictions: which answer is in which column."""

import numpy as np

from music_genre.evaluation.metrics import SplitScore
from music_genre.evaluation.predictions import read_predictions, write_predictions


def score(one_pass: np.ndarray | None = None) -> SplitScore:
    """Two tracks; every answer to the first one is another genre."""
    whole = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    short = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    tracks = ["NA", "folder/b, c.mp3"]
    return SplitScore(tracks, ["", "Zoë"], np.array([2, 1]), whole, short, one_pass)


def test_each_answer_is_in_its_column(tmp_path):
    one_pass = np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
    write_predictions(tmp_path / "p.csv", score(one_pass), ["techno", "ambient", "swing"])
    assert read_predictions(tmp_path / "p.csv") == [
        {
            "track_id": "NA",
            "artist": "",
            "genre": "swing",
            "prediction": "techno",
            "short_prediction": "ambient",
            "one_pass_prediction": "swing",
            "techno": "0.700000",
            "ambient": "0.200000",
            "swing": "0.100000",
        },
        {
            "track_id": "folder/b, c.mp3",
            "artist": "Zoë",
            "genre": "ambient",
            "prediction": "ambient",
            "short_prediction": "ambient",
            "one_pass_prediction": "techno",
            "techno": "0.100000",
            "ambient": "0.800000",
            "swing": "0.100000",
        },
    ]


def test_one_pass_that_was_not_measured_is_empty(tmp_path):
    write_predictions(tmp_path / "p.csv", score(), ["techno", "ambient", "swing"])
    assert [row["one_pass_prediction"] for row in read_predictions(tmp_path / "p.csv")] == ["", ""]


def test_a_genre_that_is_called_as_a_column_does_not_hide_it(tmp_path):
    write_predictions(tmp_path / "p.csv", score(), ["artist", "genre", "prediction"])
    rows = read_predictions(tmp_path / "p.csv")
    assert [row["artist"] for row in rows] == ["", "Zoë"]
    assert [row["genre"] for row in rows] == ["prediction", "genre"]
