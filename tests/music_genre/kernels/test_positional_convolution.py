"""The positional convolution by Fourier transforms computes what the convolution computes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForAudioClassification, PreTrainedModel
from transformers.models.hubert import HubertConfig
from transformers.models.sew import SEWConfig
from transformers.models.wav2vec2 import Wav2Vec2Config
from transformers.models.wavlm import WavLMConfig

from music_genre.kernels.positional_convolution import use_fft


def tiny(config: type = HubertConfig, **changes: object) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {
        "conv_dim": (8,) * 7, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "num_conv_pos_embeddings": 128, "num_labels": 10,
        "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 8,
    }  # fmt: skip
    return AutoModelForAudioClassification.from_config(config(**sizes | changes)).eval()


@pytest.mark.parametrize("kernel", [128, 15])
@pytest.mark.parametrize("n_frames", [1, 31, 32, 149, 249, 1_000])
def test_frames_are_the_same(kernel, n_frames):
    model = tiny(num_conv_pos_embeddings=kernel)
    embed = model.base_model.encoder.pos_conv_embed
    hidden = torch.randn(3, n_frames, 32)
    with torch.no_grad():
        expected = embed(hidden)
        assert use_fft(model)
        torch.testing.assert_close(embed(hidden), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [HubertConfig, Wav2Vec2Config, WavLMConfig])
def test_logits_are_the_same_for_lengths_in_turn(config):
    model = tiny(config)
    inputs = [torch.randn(2, n) for n in (48_000, 16_000, 80_000)]
    with torch.inference_mode():
        expected = [model(waveforms).logits for waveforms in inputs]
        assert use_fft(model)
        for waveforms, logits in zip(inputs, expected, strict=True):
            torch.testing.assert_close(model(waveforms).logits, logits, rtol=1e-4, atol=1e-5)


def test_gradients_and_results_follow_the_weights_in_training():
    model = tiny().train()
    embed = model.base_model.encoder.pos_conv_embed
    hidden, slope = torch.randn(3, 149, 32, requires_grad=True), torch.randn(3, 149, 32)

    def step() -> list[torch.Tensor]:
        output = embed(hidden)
        gradients = torch.autograd.grad((output * slope).sum(), [hidden, *embed.parameters()])
        return [output, *gradients]

    optimizer = torch.optim.AdamW(embed.parameters(), lr=0.1, fused=True)
    of_convolution = step()
    assert use_fft(model)
    of_transforms = step()
    torch.testing.assert_close(of_transforms, of_convolution, rtol=1e-4, atol=1e-4)
    for parameter, gradient in zip(embed.parameters(), of_transforms[2:], strict=True):
        parameter.grad = gradient
    with torch.no_grad():
        embed(hidden)
        optimizer.step()
        changed = embed(hidden)
        del embed.conv.forward
        torch.testing.assert_close(changed, embed(hidden), rtol=1e-4, atol=1e-4)
        assert (changed - of_transforms[0]).abs().max() > 0.01


@pytest.mark.parametrize("is_frozen", [True, False])
def test_kernels_are_transformed_once_while_no_gradient_is_wanted(is_frozen):
    model = tiny().requires_grad_(not is_frozen)
    assert use_fft(model)
    convolution = model.base_model.encoder.pos_conv_embed.conv.forward
    with torch.no_grad():
        model(torch.randn(1, 8_000))
        spectra = convolution.known[1]
        model(torch.randn(2, 8_000))
    assert convolution.known[1] is spectra is not None


@pytest.mark.parametrize("optimizer", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_scores_between_two_steps_follow_the_weights(optimizer):
    model, reference = tiny(), tiny()
    embeds = [one.base_model.encoder.pos_conv_embed for one in (model, reference)]
    hidden = torch.randn(3, 149, 32)
    assert use_fft(model)
    optimizer = torch.optim.AdamW(embeds[0].parameters(), lr=0.1, **optimizer)

    def check() -> None:
        embeds[1].load_state_dict(embeds[0].state_dict())
        with torch.inference_mode():
            scores = [embed.eval()(hidden) for embed in embeds]
        torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)

    for _ in range(3):
        check()
        embeds[0].train()(hidden).square().sum().backward()
        optimizer.step()
    check()
    embeds[0].load_state_dict({k: v * 2 for k, v in embeds[0].state_dict().items()})
    check()


def test_training_may_follow_a_score_of_frozen_kernels():
    model = tiny().requires_grad_(False)
    assert use_fft(model)
    embed = model.base_model.encoder.pos_conv_embed
    hidden = torch.randn(1, 31, 32)
    with torch.inference_mode():
        embed(hidden)
    embed(hidden.requires_grad_()).sum().backward()
    assert hidden.grad is not None


def test_threads_with_windows_of_several_lengths_do_not_mix_them_up():
    model = tiny().requires_grad_(False)
    inputs = [torch.randn(1, n) for n in (8_000, 24_000, 40_000, 56_000)]
    with torch.inference_mode():
        expected = [model(waveforms).logits for waveforms in inputs]
    assert use_fft(model)

    def classify(i: int) -> torch.Tensor:
        with torch.inference_mode():
            return model(inputs[i % 4]).logits

    with ThreadPoolExecutor(8) as pool:
        for i, logits in enumerate(pool.map(classify, range(200))):
            torch.testing.assert_close(logits, expected[i % 4], rtol=1e-4, atol=1e-5)


def test_autocast_computes_it_in_fp32_and_returns_bf16():
    model = tiny().requires_grad_(False)
    embed = model.base_model.encoder.pos_conv_embed
    hidden = torch.randn(2, 149, 32)
    with torch.no_grad():
        exact = embed(hidden)
        assert use_fft(model)
        with torch.autocast("cpu", torch.bfloat16):
            result = embed(hidden.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), exact, rtol=0.02, atol=0.02)


def test_the_saved_model_has_its_convolution(tmp_path):
    model = tiny()
    inputs = torch.randn(1, 8_000)
    assert use_fft(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(inputs).logits, model(inputs).logits, rtol=1e-4, atol=1e-5)


def test_a_convolution_with_a_stride_stays_unchanged():
    sew = tiny(SEWConfig, squeeze_factor=2, conv_stride=(5, 2, 2, 2, 2, 2, 2),
               conv_kernel=(10, 3, 3, 3, 3, 2, 2))  # fmt: skip
    assert not use_fft(sew)
