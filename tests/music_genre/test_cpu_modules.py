"""The faster modules compute what those do whose parameters they took over."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForAudioClassification, PreTrainedModel
from transformers.models.hubert import HubertConfig
from transformers.models.sew import SEWConfig
from transformers.models.wav2vec2 import Wav2Vec2Config
from transformers.models.wavlm import WavLMConfig

from music_genre.cpu_modules import (
    FourierPositionalEmbedding,
    MatmulFeatureEncoder,
    use_cpu_modules,
)

NO_RANDOMNESS = {
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


def replaced_in(model: PreTrainedModel) -> tuple[bool, bool]:
    """Whether the front end and the positional convolution are replaced."""
    use_cpu_modules(model)
    base = model.base_model
    return (
        isinstance(base.feature_extractor, MatmulFeatureEncoder),
        isinstance(base.encoder.pos_conv_embed, FourierPositionalEmbedding),
    )


def fast(model: PreTrainedModel, is_frozen: bool = True) -> PreTrainedModel:
    model = copy.deepcopy(model)
    if is_frozen:
        model.freeze_feature_encoder()
    assert replaced_in(model) == (is_frozen, True)
    return model


def waveforms(windows: int, samples: int) -> torch.Tensor:
    loudness = torch.tensor([1.0, 0.01, 30.0])[:windows, None]
    return torch.randn(windows, samples) * loudness + 0.3


def assert_same(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [HubertConfig, Wav2Vec2Config, WavLMConfig])
def test_logits_are_the_same_for_lengths_in_turn(config):
    model = tiny(config)
    quick = fast(model.requires_grad_(False))
    with torch.inference_mode():
        for inputs in (waveforms(3, n) for n in (400, 1000, 48_001, 16_000, 79_999)):
            assert_same(quick(inputs).logits, model(inputs).logits)
        assert torch.isfinite(quick(torch.zeros(1, 16_000)).logits).all()


@pytest.mark.parametrize("kernel", [128, 15])
@pytest.mark.parametrize("frames", [1, 31, 32, 149, 1000])
def test_positions_are_the_same_for_any_kernel_and_length(kernel, frames):
    model = tiny(num_conv_pos_embeddings=kernel)
    hidden = torch.randn(3, frames, 32)
    with torch.no_grad():
        found = fast(model).base_model.encoder.pos_conv_embed(hidden)
        assert_same(found, model.base_model.encoder.pos_conv_embed(hidden))


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


def test_other_forms_stay_unchanged():
    for changes in (
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
        {"conv_bias": True},
        {"feat_extract_activation": "relu"},
        {"conv_kernel": (10, 3, 3, 3, 5, 2, 2)},
        {"conv_kernel": (12, 3, 3, 3, 3, 2, 2)},
        {"conv_dim": (24,) * 6 + (32,)},
    ):
        assert replaced_in(tiny(**changes).requires_grad_(False)) == (False, True)
    batch_normed = tiny(conv_pos_batch_norm=True).requires_grad_(False)
    assert replaced_in(batch_normed) == (True, False)
    sew = tiny(SEWConfig, squeeze_factor=2, conv_stride=(5, 2, 2, 2, 2, 2, 2),
               conv_kernel=(10, 3, 3, 3, 3, 2, 2))  # fmt: skip
    assert replaced_in(sew.requires_grad_(False)) == (False, False)


def test_names_and_files_are_those_of_the_model(tmp_path):
    model, inputs = tiny(), waveforms(2, 8000)
    quick = fast(model)
    assert quick.state_dict().keys() == model.state_dict().keys()
    quick.save_pretrained(tmp_path)
    again = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    other = fast(tiny(initializer_range=0.1))
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for one in (again, other, copy.deepcopy(quick)):
            assert_same(one(inputs).logits, model(inputs).logits)


def test_loaded_weights_replace_what_was_kept_of_the_old():
    """The kernel's transforms are kept while nothing is trained."""
    model, inputs = tiny().requires_grad_(False), waveforms(2, 8000)
    quick = fast(model)
    embedding = quick.base_model.encoder.pos_conv_embed
    with torch.no_grad():
        quick(inputs)
        kept = embedding.kept
        assert_same(quick(inputs).logits, model(inputs).logits)
        assert embedding.kept is kept is not None
        changed = {name: 2 * tensor for name, tensor in model.state_dict().items()}
        for one in (model, quick):
            one.load_state_dict(changed)
        assert_same(quick(inputs).logits, model(inputs).logits)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_training_has_the_same_losses_and_gradients(is_frozen):
    """The parametrized weights of the positional convolution are trained, too."""
    plain = tiny(**NO_RANDOMNESS).train()
    if is_frozen:
        plain.freeze_feature_encoder()
    models = [plain, fast(plain, is_frozen)]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.01) for model in models]
    inputs, labels = waveforms(3, 8000), torch.tensor([1, 2, 0])
    for _ in range(3):
        losses = []
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            losses.append(model(inputs, labels=labels).loss)
            losses[-1].backward()
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)
        names = [name for name, p in plain.named_parameters() if p.requires_grad]
        assert any("original1" in name for name in names)
        assert is_frozen != any("feature_extractor" in name for name in names)
        for name in names:
            found, expected = (model.get_parameter(name).grad for model in models[::-1])
            if expected is not None:
                torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-4)
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_scores_between_two_steps_follow_the_weights(kind):
    model = tiny()
    embedding = fast(model).base_model.encoder.pos_conv_embed
    plain, hidden = model.base_model.encoder.pos_conv_embed, torch.randn(3, 149, 32)
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1, **kind)
    for _ in range(3):
        plain.load_state_dict(embedding.state_dict())
        with torch.inference_mode():
            assert_same(embedding.eval()(hidden), plain(hidden))
        embedding.train()(hidden).square().sum().backward()
        optimizer.step()


def test_training_may_follow_a_score_of_frozen_kernels():
    embedding = fast(tiny().requires_grad_(False)).base_model.encoder.pos_conv_embed
    hidden = torch.randn(1, 31, 32)
    with torch.inference_mode():
        embedding(hidden)
    embedding(hidden.requires_grad_()).sum().backward()
    assert hidden.grad is not None


def test_threads_with_windows_of_several_lengths_do_not_mix_them_up():
    model = tiny().requires_grad_(False)
    quick = fast(model)
    inputs = [torch.randn(1, n) for n in (8000, 24_000, 40_000, 56_000)]
    with torch.inference_mode():
        expected = [model(one).logits for one in inputs]

    def classify(i: int) -> torch.Tensor:
        with torch.inference_mode():
            return quick(inputs[i % 4]).logits

    with ThreadPoolExecutor(8) as pool:
        for i, logits in enumerate(pool.map(classify, range(200))):
            assert_same(logits, expected[i % 4])
