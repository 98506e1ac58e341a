"""Thresholds that keep a precision on clips that the model was not trained on."""

import pytest

from music_genre.errors import InputError
from music_genre.library.thresholds import (
    FILE,
    describe,
    find_thresholds,
    fit_thresholds,
    read_predictions,
)


def clips(genre: str, *pairs: tuple[float, bool]) -> list[tuple[str, str, float]]:
    """Clips that are predicted as `genre`, with the probability and whether that is right."""
    return [(genre if is_right else "other", genre, p) for p, is_right in pairs]


def write(path, rows: list[tuple[str, str, float]]) -> None:
    lines = ["track_id,genre,prediction,jazz,rock"]
    for i, (true, predicted, p) in enumerate(rows):
        cells = (p, 1 - p) if predicted == "jazz" else (1 - p, p)
        lines.append(f"{i},{true},{predicted},{cells[0]},{cells[1]}")
    path.write_text("\n".join(lines) + "\n")


def test_the_lowest_probability_that_keeps_the_precision():
    rising = [(0.9 - i / 100, i not in (6, 8, 9)) for i in range(10)]  # 7 of 10 right, 6 first
    (threshold,) = fit_thresholds(clips("jazz", *rising), 1.0).values()
    assert (threshold.probability, threshold.n, threshold.precision) == (0.85, 6, 1.0)
    (threshold,) = fit_thresholds(clips("jazz", *rising), 0.85).values()
    assert (threshold.n, threshold.precision) == (8, 7 / 8)
    assert fit_thresholds(clips("jazz", *rising), 0.6)["jazz"].n == 10


def test_clips_of_one_probability_are_all_above_it_or_none():
    pairs = [(0.9, True)] * 5 + [(0.5, True)] * 3 + [(0.5, False)] * 3
    assert fit_thresholds(clips("jazz", *pairs), 0.8)["jazz"].n == 5


def test_a_genre_with_few_clips_or_many_errors_gets_none():
    few = clips("jazz", *[(0.9, True)] * 4)
    wrong = clips("rock", *[(0.9, False)] * 6 + [(0.8, True)] * 6)
    good = clips("pop", *[(0.7, True)] * 5)
    thresholds = fit_thresholds(few + wrong + good, 0.9)
    assert list(thresholds) == ["pop"]
    text = describe(thresholds, ["jazz", "pop", "rock"], 0.9)
    assert "pop: 0.70 and more (100% of 5 clips of validation right)" in text
    assert "never, too few clips that sure: jazz, rock" in text


def test_a_genre_has_the_threshold_of_its_validation_clips(tmp_path):
    rows = clips("jazz", *[(0.9, True)] * 3) + clips("rock", *[(0.8, True)] * 5)
    write(tmp_path / FILE, rows)
    found = find_thresholds(str(tmp_path), None, ["rock", "jazz"], 0.9)
    assert {genre: one.probability for genre, one in found.items()} == {"rock": 0.8}


def test_where_nothing_can_serve_it_says_what_to_do(tmp_path):
    write(tmp_path / FILE, clips("jazz", *[(0.9, True)] * 3))
    with pytest.raises(InputError, match=r"of 3: use --min_confidence, or"):
        find_thresholds(str(tmp_path), None, ["jazz", "rock"], 0.9)
    (tmp_path / FILE).unlink()
    with pytest.raises(InputError, match="of 0: use --min_confidence"):
        find_thresholds(str(tmp_path), None, ["jazz", "rock"], 0.9)
    (tmp_path / FILE).write_text("genre,prediction\njazz,jazz\n")
    with pytest.raises(InputError, match="holds no predictions"):
        read_predictions(str(tmp_path), None)
