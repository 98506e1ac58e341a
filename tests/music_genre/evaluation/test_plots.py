"""The pictures of a run: what is on which axis."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from music_genre.evaluation import plots
from music_genre.evaluation.metrics import SplitScore

LABELS = ["techno", "ambient", "swing"]
TRUE, PREDICTED = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 1, 0])


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    found: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: found.append(figure))
    return found


def test_true_genres_are_rows_in_the_order_of_the_labels(figures):
    other = np.eye(3)[[2] * 5]
    score = SplitScore(list("abcde"), [""] * 5, TRUE, np.eye(3)[PREDICTED], other, other)
    plots.plot_confusion_matrix("p.png", score, LABELS, "a title")
    (axes,) = figures[0].axes
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true genre", "prediction")
    assert [text.get_text() for text in axes.get_yticklabels()] == LABELS
    assert axes.images[0].get_array().tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]


def test_names_are_no_formulas(tmp_path):
    score = SplitScore(["a", "b"], ["", ""], np.array([0, 1]), np.eye(2), np.eye(2), None)
    plots.plot_confusion_matrix(tmp_path / "p.png", score, ["$\\pop$", "$_$"], "My $_$ music")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_hundreds_of_genres_have_no_numbers_in_them(figures):
    score = SplitScore([""], [""], np.array([0]), np.eye(60)[[0]], np.eye(60)[[0]], None)
    plots.plot_confusion_matrix("p.png", score, [f"genre {i}" for i in range(60)], "")
    assert not figures[0].axes[0].texts


def test_reliability_is_accuracy_over_confidence(figures):
    bins = [
        {"confidence": 0.45, "accuracy": 0.2, "n": 3},
        {"confidence": 0.9, "accuracy": 1.0, "n": 8},
    ]
    plots.plot_reliability("p.png", {"reliability": bins, "ece": 0.1, "n": 11})
    (axes,) = figures[0].axes
    assert axes.lines[1].get_xydata().tolist() == [[0.45, 0.2], [0.9, 1.0]]
    assert [text.get_text() for text in axes.texts] == ["3", "8"]


def test_learning_curves_are_over_epochs(figures):
    history = [
        {"epoch": 0.5, "loss": 2.0},
        {"epoch": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.4},
        {"epoch": 2.0, "eval_loss": 1.0, "eval_accuracy": 0.6},
    ]
    plots.plot_learning_curves("p.png", history)
    left, right = figures[0].axes
    assert [line.get_xydata().tolist() for line in left.lines] == [
        [[0.5, 2.0]],
        [[1.0, 1.5], [2.0, 1.0]],
    ]
    assert right.lines[0].get_xydata().tolist() == [[1.0, 0.4], [2.0, 0.6]]
