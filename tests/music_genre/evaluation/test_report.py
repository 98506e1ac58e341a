"""Every figure that a run reports on its splits, computed once more: from its predictions files,
and these from its saved model and the music.

The music and the net are those of uneven.py: tracks get other answers whole, short and in one pass.
"""

import csv

import numpy as np
import pytest
from datasets import Audio, load_from_disk
from transformers import pipeline

from music_genre import GenreClassifier, windows
from music_genre.report import PREDICTIONS_FILES
from music_genre.wav import read_wav
from tests.training_runs import flags, read_report, train
from tests.uneven import LABELS

SHORT = 2 * 16_000  # samples
COLUMNS = ("prediction", "short_prediction", "one_pass_prediction")


@pytest.fixture(scope="module")
def run_dir(uneven, uneven_net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(
        *flags(
            uneven, uneven_net, folder, from_scratch=False, linear_probe=False,
            num_train_epochs=1, learning_rate=1e-5,
        )
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=PREDICTIONS_FILES)
def split(request, run_dir):
    with (run_dir / PREDICTIONS_FILES[request.param]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return request.param, read_report(run_dir)[request.param], rows


@pytest.fixture(scope="module")
def tracks(uneven) -> dict[str, dict[str, list[np.ndarray]]]:
    """The excerpts of each track, by split."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for name, clips in load_from_disk(uneven).items():
        for clip in clips.cast_column("audio", Audio(decode=False)):
            excerpts = found.setdefault(name, {}).setdefault(clip["track_id"], [])
            excerpts.append(read_wav(clip["audio"]["bytes"]))
    return found


def by_windows(classifier: GenreClassifier, waveforms: list[np.ndarray]) -> np.ndarray:
    cuts = [cut for waveform in waveforms for cut in windows.cut(waveform, 16_000)]
    return classifier.window_probabilities(cuts).mean(0)


def middle(waveform: np.ndarray) -> np.ndarray:
    first = (len(waveform) - SHORT) // 2
    return waveform[first : first + SHORT]


def test_every_column_is_what_the_saved_model_says(split, run_dir, tracks):
    """Of a song the mean over all windows, the middle of its middle excerpt, the mean of passes."""
    name, _, rows = split
    classifier = GenreClassifier(run_dir, precision="fp32")
    assert tuple(classifier.labels) == LABELS
    classify = pipeline("audio-classification", model=str(run_dir), top_k=None)
    assert [row["track_id"] for row in rows] == list(tracks[name])
    for row, waveforms in zip(rows, tracks[name].values(), strict=True):
        whole = by_windows(classifier, waveforms)
        short = by_windows(classifier, [middle(waveforms[len(waveforms) // 2])])
        passes = [{one["label"]: one["score"] for one in classify(w)} for w in waveforms]
        one_pass = np.array([np.mean([of[label] for of in passes]) for label in LABELS])
        answers = [LABELS[p.argmax()] for p in (whole, short, one_pass)]
        assert [row[column] for column in COLUMNS] == answers
        assert [float(row[label]) for label in LABELS] == pytest.approx(list(whole), abs=1e-4)


def test_the_columns_differ(split):
    _, _, rows = split
    whole, short, one_pass = ([row[column] for row in rows] for column in COLUMNS)
    assert whole != short != one_pass != whole


def test_the_short_answers_are_calibrated_too(split, run_dir, tracks):
    """As the demo gives them: from the saved model, whose head has the temperature in it."""
    name, reported, rows = split
    classifier = GenreClassifier(run_dir, precision="fp32")
    assert abs(read_report(run_dir)["temperature"] - 1) > 0.1
    losses = []
    for row, waveforms in zip(rows, tracks[name].values(), strict=True):
        short = by_windows(classifier, [middle(waveforms[len(waveforms) // 2])])
        losses.append(-np.log(short[LABELS.index(row["genre"])]))
    assert reported["short"]["nll"] == pytest.approx(np.mean(losses), abs=1e-4)


def test_accuracies(split):
    _, reported, rows = split
    assert reported["n"] == len(rows) == {"validation": 5, "test": 7}[split[0]]
    reports = (reported, reported["short"], reported["one_pass"])
    for column, report in zip(COLUMNS, reports, strict=True):
        n_right = sum(row[column] == row["genre"] for row in rows)
        assert report["accuracy"] == pytest.approx(n_right / len(rows))


def test_a_report_names_folders_without_their_paths(run_dir, uneven_net, uneven):
    report = read_report(run_dir)
    assert report["one_pass_seconds"] is None
    assert report["model"] == uneven_net.name and report["base_model"] is None
    assert str(uneven_net.parent) not in (run_dir / "report.json").read_text()
    assert report["train"]["recipe"]["schedule"] == "cosine"
