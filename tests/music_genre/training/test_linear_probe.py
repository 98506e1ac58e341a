"""A linear probe on frozen features: the choice of its layer, its head, the fallback to it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Audio, load_from_disk
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WavLMConfig,
    WavLMForSequenceClassification,
    WhisperConfig,
    WhisperForAudioClassification,
)

from music_genre.errors import InputError
from music_genre.training import linear_probe
from music_genre.training.trainer import ClipDataset

SIZES = {
    "conv_dim": (8,) * 7, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 32, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 12,
}  # fmt: skip


def hubert(**changes: object) -> HubertForSequenceClassification:
    torch.manual_seed(0)
    config = HubertConfig(**SIZES | {"num_labels": 4} | changes)
    return HubertForSequenceClassification(config).eval()


@pytest.mark.parametrize("n_outputs", [3, 12, 16, 40])
def test_the_head_is_the_regression(n_outputs):
    """Projector and classifier together give the log-odds of scaler and regression.

    Four genres have three independent log-odds. A projector may be wider than the encoder.
    """
    model = hubert(classifier_proj_size=n_outputs)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 16)) * rng.uniform(0.1, 30, 16) + 5
    labels = (features[:, 0] > 5).astype(int) + (features[:, 1] > 5)  # three of the four genres
    pipeline = linear_probe._regression(0.1).fit(features, labels)
    linear_probe._set_head(model, pipeline)
    with torch.no_grad():
        logits = model.classifier(model.projector(torch.from_numpy(features).float()))
    probabilities = logits.softmax(-1).numpy()
    np.testing.assert_allclose(probabilities[:, :3], pipeline.predict_proba(features), atol=0.01)
    assert probabilities[:, 3].max() < 0.02, "the genre that train does not have"
    assert np.linalg.norm(model.projector.weight.detach().numpy(), axis=1).min() > 0


@pytest.mark.parametrize("n_labels", [2, 4])
def test_the_head_of_two_genres_is_the_regression(n_labels):
    """scikit-learn keeps one row of coefficients for two classes."""
    model = hubert(num_labels=n_labels)
    features = np.random.default_rng(0).standard_normal((200, 16))
    pipeline = linear_probe._regression(0.1).fit(features, (features[:, 0] > 0.5).astype(int))
    linear_probe._set_head(model, pipeline)
    with torch.no_grad():
        logits = model.classifier(model.projector(torch.from_numpy(features).float()))
    probabilities = logits.softmax(-1).numpy()[:, :2]
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(features), atol=0.02)


FAMILIES = {
    "hubert": (HubertConfig, HubertForSequenceClassification),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2ForSequenceClassification),
    "wavlm": (WavLMConfig, WavLMForSequenceClassification),
    "whisper": (WhisperConfig, WhisperForAudioClassification),
}


@pytest.mark.parametrize("n_layers", [3, 7])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_cut_off_in_net_and_configuration(family, n_layers, tmp_path):
    """Seven layers are as many as HuBERT has convolutions. WavLM's first layer has a table that

    the others use.
    """
    torch.manual_seed(0)
    make_config, make_model = FAMILIES[family]
    if family == "whisper":
        sizes = {"d_model": 16, "encoder_layers": n_layers, "encoder_attention_heads": 2,
                 "encoder_ffn_dim": 32, "decoder_layers": n_layers, "max_source_positions": 10,
                 "num_mel_bins": 8}  # fmt: skip
        inputs = torch.randn(1, 8, 20)
    else:
        sizes = SIZES | {"num_hidden_layers": n_layers}
        inputs = torch.randn(1, 8_000)
    model = make_model(make_config(**sizes)).eval()
    assert linear_probe.has_linear_head(model)
    with torch.no_grad():
        second = model(inputs, output_hidden_states=True).hidden_states[2]
        linear_probe.keep_layers(model, 2)
        kept = model(inputs, output_hidden_states=True).hidden_states
    assert len(kept) == 3
    if family != "whisper":  # which has a norm behind its last layer
        torch.testing.assert_close(kept[-1], second)
    model.save_pretrained(tmp_path)
    again = make_model.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 2
    with torch.no_grad():
        torch.testing.assert_close(again(inputs).logits, model(inputs).logits)


def test_a_layer_of_genres_is_chosen_over_one_of_artists():
    """Features of the artist tell clips of train apart, and nothing about another artist."""
    rng = np.random.default_rng(0)
    artists = np.repeat(np.arange(40), 5)
    labels = artists % 4
    of_artist = np.eye(40)[artists] + 0.1 * rng.standard_normal((200, 40))
    of_genre = np.eye(4)[labels] + 0.5 * rng.standard_normal((200, 4))
    features = linear_probe.Features(
        [of_artist, of_genre, of_artist], np.arange(200), labels, artists.astype(str)
    )
    choice = linear_probe.choose_layer(features)
    assert (choice["layers"], choice["of_layers"]) == (2, 3)
    assert choice["cross_validated_accuracy"] > 0.7
    assert choice["C"] == 0.1, "four clean directions need little regularization"


def test_noise_is_regularized_more():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    noisy = rng.standard_normal((200, 100))
    noisy[:, 0] += 0.3 * labels
    features = linear_probe.Features([noisy], np.arange(200), labels, np.arange(200).astype(str))
    assert linear_probe.choose_layer(features)["C"] == 0.001


def uneven(rng: np.random.Generator, n: int = 440) -> linear_probe.Features:
    """Clips of two genres that overlap, ten of one for each of the other, one window each."""
    labels = (np.arange(n) % 11 == 0).astype(int)
    layer = rng.standard_normal((n, 16))
    layer[:, 0] += 1.5 * labels
    return linear_probe.Features([layer], np.arange(n), labels, np.arange(n).astype(str))


def test_few_clips_are_cross_validated_in_fewer_folds_or_refused():
    rng = np.random.default_rng(0)

    def probabilities(labels: list[int], artists: list[str]) -> np.ndarray:
        layer = rng.standard_normal((len(labels), 4))
        features = linear_probe.Features(
            [layer], np.arange(len(labels)), np.array(labels), np.array(artists)
        )
        return linear_probe.cross_validate(layer, features, 0.01)

    assert probabilities([0, 0, 0, 1, 1, 1], list("abcdef")).shape == (6, 2)
    for labels, artists in ([0, 1], "ab"), ([0, 0, 1, 1], "aaaa"), ([0, 0, 0], "abc"):
        with pytest.raises(InputError, match="two genres, and two clips by different artists"):
            probabilities(labels, list(artists))


def assert_balanced(probabilities: np.ndarray, labels: np.ndarray) -> None:
    """The probability of the rare genre, averaged over genres; 0.2 or less without weights."""
    by_genre = [probabilities[labels == genre, 1].mean() for genre in (0, 1)]
    assert 0.4 < np.mean(by_genre) < 0.6


def test_a_rare_genre_counts_as_much_in_cross_validation():
    features = uneven(np.random.default_rng(0))
    probabilities = linear_probe.cross_validate(features.layers[0], features, 0.1)
    assert probabilities.shape == (440, 2)
    assert_balanced(probabilities, features.labels)


@pytest.fixture
def one_process() -> SimpleNamespace:
    """A trainer as far as fit_linear_probe needs it; the features are given."""
    return SimpleNamespace(
        model=hubert(num_labels=2), accelerator=SimpleNamespace(is_main_process=True)
    )


def test_the_best_layer_is_kept_and_a_rare_genre_counts_as_much_in_the_head(
    one_process, monkeypatch
):
    rng = np.random.default_rng(0)
    best = uneven(rng)
    noise = [rng.standard_normal(best.layers[0].shape) for _ in range(2)]
    layers = [noise[0], best.layers[0], noise[1]]
    all_layers = linear_probe.Features(layers, best.clips, best.labels, best.groups)
    monkeypatch.setattr(linear_probe, "_hidden_states", lambda *_: all_layers)
    monkeypatch.setattr(linear_probe, "_projector_input", lambda *_: best)
    choice = linear_probe.fit_linear_probe(one_process, None)
    model = one_process.model
    assert choice["layers"] == model.config.num_hidden_layers == 2
    with torch.no_grad():
        projected = model.projector(torch.from_numpy(best.layers[0]).float())
        probabilities = model.classifier(projected).softmax(-1).numpy()
    assert_balanced(probabilities, best.labels)


def test_features_of_a_layer_are_its_output(prepared, tiny_config):
    """Layer i as the model has it that ends there; the window's mean over time."""
    feature_extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    model = hubert()
    accelerator = Accelerator(cpu=True)
    trainer = SimpleNamespace(
        model=model,
        accelerator=accelerator,
        processing_class=feature_extractor,
        _prepare_inputs=lambda inputs: inputs,
    )
    train = load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))
    clips = ClipDataset(train.select(range(3)), 16_000)
    features = linear_probe._hidden_states(trainer, clips)
    assert features.clips.tolist() == [0, 0, 1, 1, 2, 2]
    assert features.labels.tolist() == [g for g in train["genre"][:3] for _ in range(2)]
    artists = [artist or f"clip {i}" for i, artist in enumerate(train["artist"][:3])]
    assert features.groups.tolist() == [artist for artist in artists for _ in range(2)]
    window = feature_extractor(clips[1]["windows"][0], sampling_rate=16_000, return_tensors="pt")
    assert len(features.layers) == 3
    for i in (2, 1, 0):
        linear_probe.keep_layers(model, i + 1)
        with torch.no_grad():
            expected = model.hubert(window["input_values"]).last_hidden_state.mean(1)[0]
        np.testing.assert_allclose(features.layers[i][2], expected, atol=1e-5)


def test_genres_weigh_the_same_and_so_do_the_clips_of_one():
    clips = np.array([0, 0, 0, 1, 2, 3])  # clip 0 has three windows
    features = linear_probe.Features([], clips, np.array([0, 0, 0, 0, 0, 1]), clips.astype(str))
    weights = features.weights["logisticregression__sample_weight"]
    of_clips = np.bincount(clips, weights)
    np.testing.assert_allclose(of_clips, [2 / 3, 2 / 3, 2 / 3, 2])


def test_models_with_another_head_are_left_alone():
    from transformers import ASTConfig, ASTForAudioClassification

    tiny = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                     intermediate_size=16)  # fmt: skip
    assert not linear_probe.has_linear_head(ASTForAudioClassification(tiny))
    assert linear_probe.has_linear_head(hubert())


@pytest.mark.parametrize(
    ("metric", "best_metric", "loads_best", "is_kept"),
    [
        ("calibrated_loss", 0.5, True, False),
        ("calibrated_loss", 0.9, True, True),
        ("accuracy", 0.75, True, False),
        ("eval_accuracy", 0.65, True, True),
        ("calibrated_loss", None, True, False),
        ("calibrated_loss", 0.9, False, False),
    ],
)
def test_the_linear_probe_is_kept_if_no_epoch_was_better(
    tmp_path, metric, best_metric, loads_best, is_kept, capsys
):
    before, after = hubert(), hubert()
    with torch.no_grad():
        after.classifier.weight += 1
    folder = tmp_path / linear_probe.LINEAR_PROBE
    before.save_pretrained(folder)
    (folder / linear_probe.METRICS_FILE).write_text('{"accuracy": 0.7, "calibrated_loss": 0.8}')
    trainer = SimpleNamespace(
        args=SimpleNamespace(
            output_dir=str(tmp_path),
            metric_for_best_model=metric,
            greater_is_better="accuracy" in metric,
            load_best_model_at_end=loads_best,
        ),
        accelerator=SimpleNamespace(unwrap_model=lambda model: model),
        state=SimpleNamespace(best_metric=best_metric, best_global_step=70, global_step=80),
        is_world_process_zero=lambda: True,
        model=after,
    )
    assert linear_probe.load_linear_probe_if_better(trainer)["is_kept"] == is_kept
    expected = before.classifier.weight + (0 if is_kept else 1)
    torch.testing.assert_close(trainer.model.classifier.weight, expected)
    assert trainer.state.best_global_step == (0 if is_kept else 70)
    is_compared = loads_best and best_metric is not None
    assert ("not compared with the linear probe" in capsys.readouterr().out) != is_compared
