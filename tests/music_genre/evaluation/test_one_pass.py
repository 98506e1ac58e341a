"""One pass gives what a real `pipeline` gives, for every kind of model."""

import numpy as np
import pytest
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    HubertConfig,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    pipeline,
)

from data_prep.synthetic import synthesise
from music_genre.evaluation.one_pass import classify_in_one_pass, seconds_in_one_pass
from music_genre.old_audio import resample

MODELS = {
    "hubert": (
        HubertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        ),
        Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True),
        None,
    ),
    "whisper": (
        WhisperConfig(
            d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
            max_source_positions=100,
        ),
        WhisperFeatureExtractor(chunk_length=2),
        2.0,
    ),
    "ast": (
        ASTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_length=128,
        ),
        ASTFeatureExtractor(max_length=128),
        1.28,
    ),
}  # fmt: skip


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    config, feature_extractor, seconds = MODELS[request.param]
    config.num_labels = 10
    AutoModelForAudioClassification.from_config(config).save_pretrained(tmp_path)
    feature_extractor.save_pretrained(tmp_path)
    return tmp_path, seconds


def test_a_real_pipeline_gives_the_same(saved):
    folder, seconds = saved
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    feature_extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert seconds_in_one_pass(feature_extractor) == seconds
    classify = pipeline("audio-classification", model=str(folder), top_k=None)
    for genre, length in (("jazz", 0.3), ("metal", 2.0), ("pop", 7.1)):
        waveform = resample(synthesise(genre, 0, length), 22_050, 16_000).astype(np.float32)
        probabilities = classify_in_one_pass(model, feature_extractor, waveform)
        expected = {row["label"]: row["score"] for row in classify(waveform)}
        measured = dict(zip(model.config.label2id, probabilities, strict=True))
        assert measured == pytest.approx(expected, abs=1e-6)


def test_clips_that_one_pass_cannot_take_are_not_measured(saved):
    folder, seconds = saved
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    feature_extractor = AutoFeatureExtractor.from_pretrained(folder)
    noise = np.random.default_rng(0).standard_normal(61 * 16_000).astype(np.float32)
    assert classify_in_one_pass(model, feature_extractor, noise[:1000]) is None
    uses_the_beginning = seconds is not None
    measured = classify_in_one_pass(model, feature_extractor, noise)
    assert (measured is not None) == uses_the_beginning
