"""Thresholds that keep a precision on clips that the model was not trained on."""

import pytest

from music_genre.errors import InputError
from music_genre.library.thresholds import FILE, find_thresholds, fit_thresholds


def clips(genre: str, *pairs: tuple[float, bool]) -> list[tuple[str, str, float]]:
    """Clips that are predicted as `genre`, with the probability and whether that is right."""
    return [(genre if is_right else "other", genre, p) for p, is_right in pairs]


def test_the_lowest_probability_that_keeps_the_precision():
    rising = [(0.9 - i / 100, i not in (6, 8, 9)) for i in range(10)]  # 7 of 10 right, 6 first
    for precision, probability in ((1.0, 0.85), (0.85, 0.83), (0.7, 0.81), (0.71, 0.82)):
        found = fit_thresholds(clips("jazz", *rising), precision)
        assert found == {"jazz": pytest.approx(probability)}
    tied = [(0.9, True)] * 5 + [(0.5, True)] * 3 + [(0.5, False)] * 3
    assert fit_thresholds(clips("jazz", *tied), 0.8) == {"jazz": 0.9}, "all of one probability"


def test_a_genre_with_few_clips_or_many_errors_gets_none(tmp_path, capsys):
    few = clips("jazz", *[(0.9, True)] * 4)
    wrong = clips("rock", *[(0.9, False)] * 6 + [(0.8, True)] * 6)
    good = clips("pop", *[(0.7, True)] * 5)
    lines = ["genre,prediction,jazz,pop,rock"]
    for true, predicted, p in few + wrong + good:
        cells = (str(p if label == predicted else 0.1) for label in ("jazz", "pop", "rock"))
        lines.append(f"{true},{predicted},{','.join(cells)}")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    labels = ["jazz", "pop", "rock"]
    assert find_thresholds(str(tmp_path), None, labels, 0.9) == {"pop": 0.7}
    said = "A precision of 90%: pop from 0.70 on; never: jazz, rock.\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("text", [None, "genre,prediction\njazz,jazz\n"])
def test_where_nothing_can_serve_it_says_what_to_do(tmp_path, text):
    (tmp_path / "config.json").write_text("{}")
    if text:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=r"5 clips of validation.*: use --min_confidence"):
        find_thresholds(str(tmp_path), None, ["jazz", "rock"], 0.9)
