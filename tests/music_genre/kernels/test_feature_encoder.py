"""The convolutions as matrix products compute what the convolutions compute."""

import pytest
import torch
from transformers import HubertConfig, HubertForSequenceClassification

from music_genre.kernels.feature_encoder import use_matrix_products


def hubert(**changes: object) -> HubertForSequenceClassification:
    torch.manual_seed(0)
    config = HubertConfig(
        conv_dim=(32,) * 7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8, num_labels=10, **changes,
    )  # fmt: skip
    return HubertForSequenceClassification(config).eval()


@pytest.mark.parametrize("n_samples", [400, 1_000, 16_000, 48_001, 79_999])
def test_frames_and_logits_are_the_same(n_samples):
    model = hubert()
    waveforms = torch.randn(3, n_samples) * torch.tensor([[1.0], [0.01], [30.0]]) + 0.3
    with torch.no_grad():
        frames = model.base_model.feature_extractor(waveforms)
        logits = model(waveforms).logits
        assert use_matrix_products(model)
        torch.testing.assert_close(
            model.base_model.feature_extractor(waveforms), frames, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(model(waveforms).logits, logits, rtol=1e-4, atol=1e-5)


def test_autocast_is_as_close_as_with_the_convolutions():
    model = hubert()
    waveforms = torch.randn(2, 16_000)
    with torch.no_grad():
        exact = model(waveforms).logits
        with torch.autocast("cpu", torch.bfloat16):
            before = (model(waveforms).logits - exact).abs().max()
            assert use_matrix_products(model)
            frames = model.base_model.feature_extractor(waveforms)
            after = (model(waveforms).logits - exact).abs().max()
    assert frames.dtype == torch.bfloat16
    assert after < max(2 * before, 0.01)


def test_silence_gives_finite_logits():
    model = hubert()
    assert use_matrix_products(model)
    with torch.no_grad():
        assert torch.isfinite(model(torch.zeros(1, 16_000)).logits).all()


def test_other_front_ends_stay_unchanged():
    assert not use_matrix_products(hubert(feat_extract_norm="layer", do_stable_layer_norm=True))
    assert not use_matrix_products(hubert(conv_bias=True))
    assert not use_matrix_products(hubert(feat_extract_activation="relu"))
    assert not use_matrix_products(hubert(conv_kernel=(10, 3, 3, 3, 5, 2, 2)))


def test_the_saved_model_has_its_convolutions(tmp_path):
    model = hubert()
    waveforms = torch.randn(1, 8_000)
    assert use_matrix_products(model)
    model.save_pretrained(tmp_path)
    again = HubertForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            again(waveforms).logits, model(waveforms).logits, rtol=1e-4, atol=1e-5
        )


def test_training_behind_it_has_the_gradients_of_a_frozen_front_end():
    gradients = []
    waveforms = torch.randn(2, 8_000)
    for fast in (False, True):
        model = hubert(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
                       feat_proj_dropout=0.0, final_dropout=0.0, layerdrop=0.0,
                       apply_spec_augment=False).train()  # fmt: skip
        model.freeze_feature_encoder()
        assert not fast or use_matrix_products(model)
        model(waveforms, labels=torch.tensor([1, 2])).loss.backward()
        gradients.append(model.hubert.feature_projection.projection.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
