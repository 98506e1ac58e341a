"""Which tracks, and how much of them, the figures of a finished model come from."""

import numpy as np
import pytest
from accelerate import PartialState
from transformers import TrainingArguments

from data_prep.prepared import load_prepared
from music_genre import GenreClassifier
from music_genre.evaluation.calibration import fit_temperature, with_temperature
from music_genre.training import scoring
from music_genre.training.clips import TrackDataset

RATE = 16_000
QUIET = TrainingArguments(use_cpu=True, disable_tqdm=True)


@pytest.fixture(scope="module")
def tracks(uneven) -> dict[str, TrackDataset]:
    dataset, _ = load_prepared(uneven)
    return {name: TrackDataset(dataset[name], RATE) for name in ("validation", "test")}


@pytest.fixture(scope="module")
def scored(uneven_net, tracks):
    """The calibrated model, scores by split, and the temperature."""
    return scoring.evaluate(uneven_net, tracks, QUIET)


def test_the_temperature_is_that_of_validation_and_in_all_figures(scored, uneven_net, tracks):
    _, scores, temperature = scored
    plain = GenreClassifier(uneven_net, precision="fp32", device=str(PartialState().device))
    windows = [plain.window_probabilities(tracks["validation"][i]) for i in range(5)]
    assert temperature == pytest.approx(fit_temperature(windows, tracks["validation"].labels))
    assert abs(temperature - 1) > 0.01, "otherwise this shows nothing"
    for i, score in enumerate(scores["test"].short_probabilities):
        short = plain.window_probabilities(tracks["test"].middle(i, 2.0, RATE))
        np.testing.assert_allclose(score, with_temperature([short], temperature)[0], rtol=1e-5)
        assert not np.allclose(score, short.mean(0), rtol=1e-3)


def test_one_clip_that_one_pass_cannot_take_leaves_no_figure(scored, tracks, monkeypatch):
    classifier, _, _ = scored
    song = next(i for i, rows in enumerate(tracks["test"].tracks) if len(rows) > 1)
    refused = tracks["test"].waveforms(song)[-1]  # one excerpt of several

    def refuse(model: object, extractor: object, waveform: np.ndarray) -> np.ndarray | None:
        return None if np.array_equal(waveform, refused) else np.ones(3)

    monkeypatch.setattr(scoring, "classify_in_one_pass", refuse)
    assert scoring._score_in_one_pass(classifier, tracks["test"], QUIET) is None


def test_scores_are_computed_in_fp32(uneven_net, monkeypatch):
    """Whatever precision training had, and whatever this hardware is fast at."""
    asked = []
    monkeypatch.setattr(scoring, "GenreClassifier", lambda *_, **options: asked.append(options))
    scoring.load(uneven_net)
    assert asked == [{"device": str(PartialState().device), "precision": "fp32"}]
