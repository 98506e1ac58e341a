"""What one pass gives, in the order of the labels, and how much of a file it uses."""

import numpy as np
import pytest
from transformers import AutoModelForAudioClassification

from music_genre.evaluation.one_pass import classify_in_one_pass, seconds_in_one_pass
from tests.families import FAMILIES

SECONDS = {"hubert": None, "wavlm": None, "whisper": 30.0, "ast": 1.28}


@pytest.fixture(params=SECONDS)
def family(request):
    config, feature_extractor = FAMILIES[request.param]
    model = AutoModelForAudioClassification.from_config(config).eval()
    return model, feature_extractor, SECONDS[request.param]


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
