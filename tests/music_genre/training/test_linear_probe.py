"""A head fitted on frozen features; the real encoder where it is there."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertForSequenceClassification

from music_genre.training import linear_probe


def hubert(**changes: object) -> HubertForSequenceClassification:
    torch.manual_seed(0)
    return HubertForSequenceClassification(
        HubertConfig(
            conv_dim=(8,) * 7, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
            intermediate_size=32, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
            classifier_proj_size=12, num_labels=4, **changes,
        )
    ).eval()  # fmt: skip


def test_the_head_is_the_regression():
    """Projector and classifier together give the log-odds of scaler and regression."""
    model = hubert()
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 16)) * rng.uniform(0.1, 30, 16) + 5
    labels = (features[:, 0] > 5).astype(int) + (features[:, 1] > 5)  # three of the four genres
    pipeline = linear_probe._regression().fit(features, labels)
    linear_probe._set_head(model, pipeline)
    with torch.no_grad():
        logits = model.classifier(model.projector(torch.from_numpy(features).float()))
    probabilities = logits.softmax(-1).numpy()
    np.testing.assert_allclose(probabilities[:, :3], pipeline.predict_proba(features), atol=0.01)
    assert probabilities[:, 3].max() < 0.02, "the genre that train does not have"


def test_layers_are_cut_off_in_net_and_configuration(tmp_path):
    model = hubert()
    heard = torch.randn(1, 8_000)
    with torch.no_grad():
        second = model(heard, output_hidden_states=True).hidden_states[2]
        linear_probe.keep_layers(model, 2)
        kept = model(heard, output_hidden_states=True).hidden_states
    torch.testing.assert_close(kept[-1], second)
    model.save_pretrained(tmp_path)
    again = HubertForSequenceClassification.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 2
    with torch.no_grad():
        torch.testing.assert_close(again(heard).logits, model(heard).logits)


def test_a_layer_that_knows_is_found_over_one_that_knows_the_artist_only():
    """Features of the artist tell clips of train apart, and nothing about another artist."""
    rng = np.random.default_rng(0)
    artists = np.repeat(np.arange(40), 5)
    labels = artists % 4
    of_artist = np.eye(40)[artists] + 0.1 * rng.standard_normal((200, 40))
    of_genre = np.eye(4)[labels] + 0.5 * rng.standard_normal((200, 4))
    features = linear_probe.Features(
        [of_artist, of_genre], np.arange(200), labels, artists.astype(str)
    )
    (badness_a, accuracy_a), (badness_g, accuracy_g) = (
        linear_probe._cross_validate(layer, features) for layer in features.layers
    )
    assert badness_g < badness_a
    assert accuracy_g > 0.7
    assert accuracy_a < 0.4


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
    ("metric", "best_metric", "is_kept"),
    [
        ("calibrated_loss", 0.5, False),
        ("calibrated_loss", 0.9, True),
        ("calibrated_loss", None, True),
        ("accuracy", 0.75, False),
        ("eval_accuracy", 0.65, True),
    ],
)
def test_the_linear_probe_is_kept_if_no_epoch_was_better(tmp_path, metric, best_metric, is_kept):
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
        ),
        accelerator=SimpleNamespace(unwrap_model=lambda model: model),
        state=SimpleNamespace(best_metric=best_metric, best_global_step=70),
        model=after,
    )
    assert linear_probe.load_linear_probe_if_better(trainer)["is_kept"] == is_kept
    expected = before.classifier.weight + (0 if is_kept else 1)
    torch.testing.assert_close(trainer.model.classifier.weight, expected)
    assert trainer.state.best_global_step == (0 if is_kept else 70)
