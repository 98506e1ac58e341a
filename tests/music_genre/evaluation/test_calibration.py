"""Probabilities of a model that is too sure, too unsure, or right about itself."""

import numpy as np
import pytest
import torch

from music_genre.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    fold_temperature,
    reliability,
    with_temperature,
)


@pytest.fixture
def honest() -> tuple[list[np.ndarray], np.ndarray]:
    """500 clips of two windows; the truth is drawn from the clips' own probabilities."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((500, 1, 10)).repeat(2, axis=1)
    exponential = np.exp(logits)
    window_probabilities = exponential / exponential.sum(-1, keepdims=True)
    truths = [rng.choice(10, p=p) for p in window_probabilities.mean(1)]
    return list(window_probabilities), np.array(truths)


@pytest.mark.parametrize("error", [0.5, 1.0, 2.0])
def test_the_temperature_undoes_a_model_that_is_wrong_about_itself(honest, error):
    window_probabilities, truths = honest
    distorted = [
        p ** (1 / error) / (p ** (1 / error)).sum(-1, keepdims=True) for p in window_probabilities
    ]
    temperature = fit_temperature(distorted, truths)
    assert temperature == pytest.approx(1 / error, rel=0.15)
    calibrated = with_temperature(distorted, temperature)
    assert expected_calibration_error(reliability(calibrated, truths)) < 0.06


def test_a_few_clips_that_are_all_right_do_not_make_it_certain():
    window_probabilities = [np.array([[0.7, 0.3]])] * 5
    assert 0.3 < fit_temperature(window_probabilities, np.zeros(5, dtype=int)) < 1
    enough = [np.array([[0.7, 0.3]])] * 500
    assert 0.24 < fit_temperature(enough, np.zeros(500, dtype=int)) < 0.26
    sure_at_random = [np.array([[0.999, 0.001]])] * 500
    assert 3.9 < fit_temperature(sure_at_random, np.arange(500) % 2) < 4.1


def test_temperature_one_is_the_mean_over_windows():
    windows = np.array([[0.9, 0.1], [0.5, 0.5]])
    assert with_temperature([windows], 1.0) == pytest.approx(np.array([[0.7, 0.3]]))
    sharper = (0.81 / 0.82 + 0.5) / 2  # each window sums to 1 before the mean
    assert with_temperature([windows], 0.5) == pytest.approx(np.array([[sharper, 1 - sharper]]))


def test_a_folded_temperature_divides_the_logits(tiny_config):
    """Also of a model that has another layer of as many outputs as there are labels."""
    from transformers import AutoConfig, AutoModelForAudioClassification

    config = AutoConfig.from_pretrained(tiny_config, num_labels=8, classifier_proj_size=8)
    model = AutoModelForAudioClassification.from_config(config).eval()
    for layer in (model.projector, model.classifier):
        torch.nn.init.normal_(layer.bias)
    heard = torch.randn(2, 16_000)
    with torch.no_grad():
        before = model(heard).logits
        fold_temperature(model, 2.0)
        torch.testing.assert_close(model(heard).logits, before / 2)


def test_reliability_counts_every_clip_once():
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.45, 0.55], [1.0, 0.0]])
    bins = reliability(probabilities, np.array([0, 1, 1, 0]))
    assert [b["n"] for b in bins] == [1, 3]
    assert bins[1]["accuracy"] == pytest.approx(2 / 3)
    assert bins[0]["confidence"] == pytest.approx(0.55)
    expected = (0.45 + 3 * abs((0.95 + 0.92 + 1.0) / 3 - 2 / 3)) / 4
    assert expected_calibration_error(bins) == pytest.approx(expected)
