"""The faster module computes what that does whose parameters it took over."""

import copy

import pytest
import torch
from transformers import AutoModelForAudioClassification, PreTrainedModel
from transformers.models.hubert import HubertConfig
from transformers.models.wav2vec2 import Wav2Vec2Config
from transformers.models.wavlm import WavLMConfig

from music_genre.cpu_modules import use_cpu_modules

WITHOUT_CHANCE = {
    name: 0.0
    for name in (
        "hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout",
        "final_dropout", "layerdrop",
    )
} | {"apply_spec_augment": False}  # fmt: skip


def tiny(config: type = HubertConfig, **changes: object) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {
        "conv_dim": (24,) * 7, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "num_conv_pos_embeddings": 128, "num_labels": 10,
        "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 8,
    }  # fmt: skip
    return AutoModelForAudioClassification.from_config(config(**sizes | changes)).eval()


def fast(model: PreTrainedModel) -> PreTrainedModel:
    model = copy.deepcopy(model)
    assert use_cpu_modules(model)
    return model


def waveforms(windows: int, samples: int) -> torch.Tensor:
    loudness = torch.tensor([1.0, 0.01, 30.0])[:windows, None]
    return torch.randn(windows, samples) * loudness + 0.3


def assert_same(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [HubertConfig, Wav2Vec2Config, WavLMConfig])
def test_logits_are_the_same_for_lengths_in_turn(config):
    model = tiny(config)
    quick = fast(model)
    with torch.inference_mode():
        for inputs in (waveforms(3, n) for n in (400, 1000, 48_001, 79_999)):
            assert_same(quick(inputs).logits, model(inputs).logits)
        assert torch.isfinite(quick(torch.zeros(1, 16_000)).logits).all()


def test_autocast_is_as_close_as_with_the_convolutions():
    model = tiny()
    inputs = waveforms(2, 16_000)
    with torch.no_grad():
        exact = model(inputs).logits
        with torch.autocast("cpu", torch.bfloat16):
            quick = fast(model)
            frames = quick.base_model.feature_extractor(inputs)
            before, after = ((one(inputs).logits - exact).abs().max() for one in (model, quick))
    assert frames.dtype == torch.bfloat16
    assert after < max(2 * before, 0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
        {"conv_bias": True},
        {"feat_extract_activation": "relu"},
        {"conv_kernel": (10, 3, 3, 3, 5, 2, 2)},
    ],
)
def test_other_forms_stay_unchanged(changes):
    model = tiny(**changes)
    encoder = model.base_model.feature_extractor
    assert not use_cpu_modules(model) and model.base_model.feature_extractor is encoder


def test_names_and_files_are_those_of_the_model(tmp_path):
    model, inputs = tiny(), waveforms(2, 8000)
    quick = fast(model)
    assert quick.state_dict().keys() == model.state_dict().keys()
    assert not any("forward" in vars(module) for module in quick.modules()), "none is replaced"
    quick.save_pretrained(tmp_path)
    again = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    other = fast(tiny(initializer_range=0.1))
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for one in (again, other, copy.deepcopy(quick)):
            assert_same(one(inputs).logits, model(inputs).logits)


def test_training_behind_it_has_the_same_losses_and_gradients():
    plain = tiny(**WITHOUT_CHANCE).train()
    plain.freeze_feature_encoder()
    models = [plain, fast(plain)]
    inputs, labels = waveforms(3, 8000), torch.tensor([1, 2, 0])
    losses = [model(inputs, labels=labels).loss for model in models]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)
    for loss in losses:
        loss.backward()
    names = [name for name, parameter in plain.named_parameters() if parameter.requires_grad]
    assert names and not any("feature_extractor" in name for name in names)
    for name in names:
        found, expected = (model.get_parameter(name).grad for model in models[::-1])
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-4)
