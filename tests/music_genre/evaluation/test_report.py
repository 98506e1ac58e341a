"""Every figure that a run reports on its splits, computed once more from its predictions files."""

import csv

import numpy as np
import pytest
from datasets import Audio, load_from_disk
from scipy.stats import norm
from transformers import pipeline

from data_prep.gtzan import GENRES
from music_genre.old_audio import read_wav
from music_genre.report import PREDICTIONS_FILES
from tests.training_runs import flags, read_report, train


@pytest.fixture(scope="module")
def run_dir(prepared, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(*flags(prepared, tiny_config, folder, window_seconds=0.75, num_train_epochs=2))
    return folder


@pytest.fixture(scope="module", params=PREDICTIONS_FILES)
def split(request, run_dir):
    with (run_dir / PREDICTIONS_FILES[request.param]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return request.param, read_report(run_dir)[request.param], rows


def test_accuracies(split):
    _, reported, rows = split
    assert reported["n"] == len(rows) == 10
    for column, accuracy in (
        ("prediction", reported["accuracy"]),
        ("short_prediction", reported["short"]["accuracy"]),
        ("one_pass_prediction", reported["one_pass"]["accuracy"]),
    ):
        n_right = sum(row[column] == row["genre"] for row in rows)
        assert accuracy == pytest.approx(n_right / 10)


def test_the_interval_is_that_of_a_bootstrap(split):
    """Or Wilson's where all predictions are right, or none."""
    _, reported, rows = split
    is_right = np.array([row["prediction"] == row["genre"] for row in rows], dtype=float)
    p = is_right.mean()
    if p in (0, 1):
        z2 = norm.ppf(0.975) ** 2
        expected = (0, z2 / (10 + z2)) if p == 0 else (10 / (10 + z2), 1)
    else:
        draws = np.random.default_rng(1).choice(is_right, (10_000, 10)).mean(1)
        expected = np.percentile(draws, [2.5, 97.5])
    assert {row["artist"] for row in rows} == {""}, "else the draws would be of artists"
    assert reported["n_artists"] == 0
    assert reported["accuracy_ci95"] == pytest.approx(expected, abs=0.001)


def test_macro_f1_and_the_genres(split):
    _, reported, rows = split
    assert list(reported["per_genre"]) == list(GENRES)
    f1s = []
    for genre, row in reported["per_genre"].items():
        n = sum(r["genre"] == genre for r in rows)
        n_predicted = sum(r["prediction"] == genre for r in rows)
        n_right = sum(r["genre"] == genre == r["prediction"] for r in rows)
        precision = n_right / n_predicted if n_predicted else 0
        recall = n_right / n if n else 0
        f1 = 2 * n_right / (n + n_predicted) if n + n_predicted else 0
        assert row == pytest.approx({"precision": precision, "recall": recall, "f1": f1, "n": n})
        if n + n_predicted:
            f1s.append(f1)
    assert reported["macro_f1"] == pytest.approx(sum(f1s) / len(f1s))


def test_calibration(split):
    _, reported, rows = split
    likelihoods = [float(row[row["genre"]]) for row in rows]
    assert reported["nll"] == pytest.approx(-np.log(likelihoods).mean(), abs=1e-4)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row in rows:
        confidence = max(float(row[genre]) for genre in GENRES)
        is_right = row["prediction"] == row["genre"]
        bins.setdefault(int(confidence * 10), []).append((confidence, is_right))
    error = 0.0
    for (_, clips), reported_bin in zip(sorted(bins.items()), reported["reliability"], strict=True):
        confidence, accuracy = np.mean(clips, axis=0)
        expected = {"confidence": confidence, "accuracy": accuracy, "n": len(clips)}
        assert reported_bin == pytest.approx(expected, abs=1e-5)
        error += abs(confidence - accuracy) * len(clips) / len(rows)
    assert reported["ece"] == pytest.approx(error, abs=1e-5)


def test_one_pass_is_that_of_a_real_pipeline(split, run_dir, prepared):
    name, _, rows = split
    assert read_report(run_dir)["one_pass_seconds"] is None
    classify = pipeline("audio-classification", model=str(run_dir))
    clips = load_from_disk(prepared)[name].cast_column("audio", Audio(decode=False))
    for clip, row in zip(clips, rows, strict=True):
        waveform = read_wav(clip["audio"]["bytes"])
        assert classify(waveform)[0]["label"] == row["one_pass_prediction"]


def test_a_report_names_folders_without_their_paths(run_dir, tiny_config, prepared):
    report = read_report(run_dir)
    assert report["model"] == tiny_config.name and report["base_model"] is None
    assert str(tiny_config.parent) not in (run_dir / "report.json").read_text()
    assert report["train"]["recipe"]["schedule"] == "cosine"
