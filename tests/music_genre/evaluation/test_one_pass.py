"""What one pass gives, in the order of the labels, and how much of a file it uses."""

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from music_genre.evaluation.one_pass import classify_in_one_pass, seconds_in_one_pass
from tests.families import FAMILIES
from tests.uneven import LABELS, music

SECONDS = {"hubert": None, "wavlm": None, "whisper": 30.0, "ast": 1.28}


@pytest.fixture(params=SECONDS)
def family(request):
    config, feature_extractor = FAMILIES[request.param]
    model = AutoModelForAudioClassification.from_config(config).eval()
    return model, feature_extractor, SECONDS[request.param]


def test_probabilities_are_in_the_order_of_the_labels(uneven_net):
    model = AutoModelForAudioClassification.from_pretrained(uneven_net).eval()
    feature_extractor = AutoFeatureExtractor.from_pretrained(uneven_net)
    assert tuple(model.config.id2label.values()) == LABELS
    orders = set()
    for number in range(6):
        waveform = music(number, 4.0)
        inputs = feature_extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).logits[0].softmax(-1).numpy()
        found = classify_in_one_pass(model, feature_extractor, waveform)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        orders.add(tuple(np.argsort(found)))
    assert len(orders) > 1, "otherwise this shows nothing"


def test_clips_that_one_pass_cannot_take_are_not_measured(family):
    model, feature_extractor, seconds = family
    assert seconds_in_one_pass(feature_extractor) == seconds
    noise = np.random.default_rng(0).standard_normal(61 * 16_000).astype(np.float32)
    assert classify_in_one_pass(model, feature_extractor, noise[:1000]) is None
    uses_the_beginning = seconds is not None
    measured = classify_in_one_pass(model, feature_extractor, noise)
    assert (measured is not None) == uses_the_beginning
    for n_samples in (5000, 31 * 16_000):
        assert classify_in_one_pass(model, feature_extractor, noise[:n_samples]) is not None
