"""A linear probe on frozen features: the choice of its layer, its features, its head."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Audio, load_from_disk
from sklearn.pipeline import Pipeline
from transformers import (
    AutoModelForAudioClassification,
    PreTrainedModel,
    SequenceFeatureExtractor,
    TrainingArguments,
    WhisperFeatureExtractor,
)

from music_genre import windows
from music_genre.efficientat import EfficientATConfig, EfficientATForAudioClassification
from music_genre.errors import InputError
from music_genre.training import linear_probe
from music_genre.training.clips import CropDataset, TrackDataset
from music_genre.training.model import start_from_base_classes
from tests import families

FAMILIES = ("hubert", "hubert with a norm at its end", "wav2vec2", "wavlm", "whisper", "ast")


def tiny(
    family: str, n_layers: int = 3, **changes: object
) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Random weights, also of norms and tokens; four genres."""
    torch.manual_seed(0)
    config, feature_extractor = copy.deepcopy(families.FAMILIES[family.split()[0]])
    config.update({"num_hidden_layers": n_layers, "num_labels": 4} | changes)
    config.do_stable_layer_norm = " " in family
    if family == "whisper":  # a second, and not thirty
        config.max_source_positions, feature_extractor = 50, WhisperFeatureExtractor(chunk_length=1)
    model = AutoModelForAudioClassification.from_config(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):  # a new one changes nothing, a trained one does
            torch.nn.init.normal_(module.weight, 1, 0.5)
            torch.nn.init.normal_(module.bias, 0, 0.5)
    for name, parameter in model.named_parameters():
        if name.endswith("_token"):  # AST's two, which start equal
            torch.nn.init.normal_(parameter)
    return model, feature_extractor


def trainer_of(model: PreTrainedModel, feature_extractor: object) -> SimpleNamespace:
    """What the probe takes of a Trainer; the arguments reset what accelerate knows."""
    return SimpleNamespace(
        args=TrainingArguments(use_cpu=True, disable_tqdm=True),
        accelerator=Accelerator(cpu=True),
        model=model,
        processing_class=feature_extractor,
    )


def write_head(model: PreTrainedModel, regression: Pipeline) -> None:
    found = linear_probe._weights_of_all_genres(regression[-1], model.config.num_labels)
    linear_probe.FAMILIES[model.config.model_type][1](model, regression[0], *found)


@pytest.mark.parametrize("n_genres", [2, 3])
@pytest.mark.parametrize(
    ("family", "changes"),
    [(family, {}) for family in FAMILIES]
    + [("hubert", {"classifier_proj_size": n_outputs}) for n_outputs in (3, 16, 40)],
)
def test_the_head_is_the_regression(family, changes, n_genres):
    """It gives the log-odds of scaler and regression; scikit-learn keeps one for two genres.

    Four genres have three independent log-odds. A projector may be wider than the encoder.
    """
    model, _ = tiny(family, **changes)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 16)) * rng.uniform(0.1, 30, 16) + 5
    labels = (features[:, 0] > 5).astype(int) + (n_genres - 2) * (features[:, 1] > 5)
    pipeline = linear_probe._regression(0.1).fit(features, labels)
    write_head(model, pipeline)
    states = torch.from_numpy(features).float()
    with torch.no_grad():
        if family == "ast":
            logits = model.classifier.dense(states)
        else:
            logits = model.classifier(model.projector(states))
            assert torch.linalg.norm(model.projector.weight, dim=1).min() > 0
    probabilities = logits.softmax(-1).numpy()
    expected = pipeline.predict_proba(features)
    np.testing.assert_allclose(probabilities[:, :n_genres], expected, atol=0.02)
    assert probabilities[:, 3].max() < 0.02, "a genre that train does not have"


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_cut_off_in_net_and_configuration(family, tmp_path):
    """Seven layers are as many as HuBERT has convolutions. WavLM's first has a table for all."""
    model, feature_extractor = tiny(family, n_layers=7)
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    inputs = windows.extract_features(feature_extractor, [noise])
    assert linear_probe.can_have_linear_probe(model)
    linear_probe.keep_layers(model, 2)
    with torch.no_grad():
        kept = model(inputs, output_hidden_states=True)
    assert len(kept.hidden_states) == 3
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 2
    with torch.no_grad():
        torch.testing.assert_close(again(inputs).logits, kept.logits)


def test_a_layer_of_genres_is_chosen_over_one_of_artists():
    """Features of the artist tell clips of train apart, and nothing about another artist."""
    rng = np.random.default_rng(0)
    artists = np.repeat(np.arange(40), 5)
    labels = artists % 4
    artist_layer = np.eye(40)[artists] + 0.1 * rng.standard_normal((200, 40))
    genre_layer = np.eye(4)[labels] + 0.5 * rng.standard_normal((200, 4))
    features = linear_probe.Features(
        [artist_layer, genre_layer, artist_layer],
        np.arange(200),
        labels,
        artists.astype(str),
        np.zeros(200, bool),
    )
    choice = linear_probe.choose_layer(features)
    assert (choice["layers"], choice["of_layers"]) == (2, 3)
    assert choice["cross_validated_accuracy"] > 0.7
    assert choice["C"] == 0.1, "four clean directions need little regularization"


def test_a_layer_that_needs_little_regularization_is_not_judged_by_much_of_it(monkeypatch):
    """The first layer is better with C = 0.01, and the second one with C = 0.1, which is best."""
    right = {(1, 0.01): 0.5, (2, 0.01): 0.4, (1, 0.1): 0.55, (2, 0.1): 0.7, (2, 0.03): 0.75}

    def cross_validate(layer, features, strength):
        p = right.get((int(layer[0, 0]), strength), 0.3)
        return np.where(np.eye(2)[features.labels], p, 1 - p)

    monkeypatch.setattr(linear_probe, "cross_validate", cross_validate)
    layers = [np.full((20, 3), n) for n in (1, 2)]
    choice = linear_probe.choose_layer(one_window_each(layers, np.arange(20) % 2))
    assert (choice["layers"], choice["C"]) == (2, 0.03)


def one_window_each(layers: list[np.ndarray], labels: np.ndarray) -> linear_probe.Features:
    """Of clips by different artists."""
    clips = np.arange(len(labels))
    return linear_probe.Features(layers, clips, labels, clips.astype(str), clips < 0)


def uneven(rng: np.random.Generator, n: int = 220) -> linear_probe.Features:
    """Clips of two genres that overlap, ten of one for each of the other, one window each."""
    labels = (np.arange(n) % 11 == 0).astype(int)
    layer = rng.standard_normal((n, 16))
    layer[:, 0] += 1.5 * labels
    return one_window_each([layer], labels)


def test_few_clips_are_cross_validated_in_fewer_folds_or_refused():
    rng = np.random.default_rng(0)

    def probabilities(labels: list[int], artists: list[str]) -> np.ndarray:
        layer = rng.standard_normal((len(labels), 4))
        features = one_window_each([layer], np.array(labels))
        features.groups = np.array(artists)
        return linear_probe.cross_validate(layer, features, 0.01)

    assert probabilities([0, 0, 0, 1, 1, 1], list("abcdef")).shape == (6, 2)
    assert probabilities([0] * 4 + [1] * 4, list("abcabcab")).shape == (8, 2), "three artists"
    found = probabilities([0] * 4 + [2] * 4 + [3], list("abcdefghi"))
    assert np.flatnonzero(found.any(axis=0)).tolist() == [0, 2, 3], "by label, one of one track"
    for labels, artists in ([0, 1], "ab"), ([0, 0, 1, 1], "aaaa"), ([0, 0, 0], "abc"):
        with pytest.raises(InputError, match="two genres, and two tracks of each"):
            probabilities(labels, list(artists))


def test_without_enough_artists_tracks_are_left_out_and_that_is_said():
    """All of the second genre is by one artist: without him one genre is left."""
    rng = np.random.default_rng(0)
    labels = np.array([0] * 6 + [1] * 6)
    features = one_window_each([rng.standard_normal((12, 4))], labels)
    features.groups = np.array(list("abcdef") + ["g"] * 6)
    choice = linear_probe.choose(features)
    assert choice["over"] == "the tracks of train, as some genres have too few artists"


def test_the_memory_of_the_probe_is_bounded_and_genres_stay_in_it(monkeypatch):
    monkeypatch.setattr(linear_probe, "MAX_TRACKS", 9)
    labels = np.array([0] * 90 + [1] * 3 + [2] * 7)
    chosen = linear_probe.choose_tracks(labels)
    assert sorted(set(chosen)) == chosen.tolist()
    assert linear_probe.choose_tracks(labels).tolist() == chosen.tolist(), "in each process"
    assert np.bincount(labels[chosen]).tolist() == [3, 3, 3]
    assert linear_probe.choose_tracks(labels[:9]).tolist() == list(range(9)), "all of few"


def assert_balanced(probabilities: np.ndarray, labels: np.ndarray) -> None:
    """The probability of the rare genre, averaged over genres; 0.2 or less without weights."""
    by_genre = [probabilities[labels == genre, 1].mean() for genre in (0, 1)]
    assert 0.4 < np.mean(by_genre) < 0.6


def test_the_best_layer_is_kept_and_a_rare_genre_counts_as_much(monkeypatch):
    """In the head, and where its layer is chosen."""
    rng = np.random.default_rng(0)
    best = uneven(rng)
    noise = [rng.standard_normal(best.layers[0].shape) for _ in range(2)]
    layers = [noise[0], best.layers[0], noise[1]]
    monkeypatch.setattr(
        linear_probe, "extract_features", lambda *_: one_window_each(layers, best.labels)
    )
    model, _ = tiny("hubert", num_labels=2)
    choice = linear_probe.fit_linear_probe(trainer_of(model, None), None)
    assert choice["layers"] == model.config.num_hidden_layers == 2
    with torch.no_grad():
        projected = model.projector(torch.from_numpy(best.layers[0]).float())
        probabilities = model.classifier(projected).softmax(-1).numpy()
    assert_balanced(probabilities, best.labels)
    assert_balanced(linear_probe.cross_validate(best.layers[0], best, 0.1), best.labels)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_of_a_layer_are_what_the_head_gets_of_a_model_that_ends_there(family, prepared):
    """Also where a norm follows the last layer; windows spread over the clip, then crops."""
    model, feature_extractor = tiny(family)
    train = load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))
    train = train.select(range(3))
    if family != "ast":
        known = ["One", "ONE feat. Two", ""]
        train = train.remove_columns("artist").add_column("artist", known)
    crops = CropDataset(train, 16_000, 0, speed_perturbation=True)
    features = linear_probe.extract_features(trainer_of(model, feature_extractor), crops)
    assert features.tracks.tolist() == [clip for clip in range(3) for _ in range(8)]
    assert features.is_crop.tolist() == 3 * ([False] * 2 + [True] * 6)
    assert features.labels.tolist() == [g for g in train["genre"][:3] for _ in range(8)]
    groups, over = ["clip 0", "clip 1", "clip 2"], "the tracks of train, as no artist is known"
    if family != "ast":
        groups, over = ["one", "one", "clip 2"], "the artists of train, known for 2 of 3 tracks"
    assert features.groups.tolist() == [group for group in groups for _ in range(8)]
    assert features.over == over
    samples = [*TrackDataset(crops.clips, 16_000)[1], *crops.augmented([1], 6)]
    inputs = windows.extract_features(feature_extractor, samples)
    head = model.classifier.dense if family == "ast" else model.projector
    seen = []
    head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    assert len(features.layers) == 3
    for n in (3, 2, 1):
        linear_probe.keep_layers(model, n)
        with torch.no_grad():
            model(**{model.main_input_name: inputs})
        expected = seen.pop() if family == "ast" else seen.pop().mean(1)
        np.testing.assert_allclose(features.layers[n - 1][8:16], expected, atol=1e-4)


def test_features_are_of_the_whole_track_and_in_the_precision_of_the_run(prepared, monkeypatch):
    trainer, dtypes = trainer_of(*tiny("hubert")), set()
    trainer.accelerator = SimpleNamespace(autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    layer = trainer.model.base_model.encoder.layers[0].feed_forward.intermediate_dense
    layer.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    train = load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))
    extract, cuts = windows.extract_features, []
    monkeypatch.setattr(windows, "extract_features", lambda of, c: cuts.append(c) or extract(of, c))
    linear_probe.extract_features(trainer, CropDataset(train.select(range(2)), 3_200, 0))
    assert dtypes == {torch.bfloat16}
    np.testing.assert_array_equal(cuts[0][-1], TrackDataset(train, 3_200)[0][-1])


def test_crops_are_fitted_on_and_not_scored():
    """The genre of crops is the wrong one here: with them the regression is wrong about clips."""
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 2
    plain = rng.standard_normal((100, 4))
    plain[:, 0] += 4 * labels
    crops = np.repeat(plain, 3, axis=0)
    crops[:, 0] = 4 - crops[:, 0]
    order = np.argsort(np.r_[np.arange(100), np.repeat(np.arange(100), 3)], kind="stable")
    clips = np.sort(np.r_[np.arange(100), np.repeat(np.arange(100), 3)])
    features = linear_probe.Features(
        [np.concatenate([plain, crops])[order]], clips, labels[clips], clips.astype(str),
        np.r_[np.zeros(100, bool), np.ones(300, bool)][order],
    )  # fmt: skip
    found = linear_probe.cross_validate(features.layers[0], features, 0.1)
    probabilities = linear_probe.mean_of_tracks(found, features)
    assert probabilities.shape == (100, 2)
    assert (probabilities.argmax(1) == labels).mean() < 0.1


def test_genres_weigh_the_same_and_so_do_the_clips_of_one():
    clips = np.array([0, 0, 0, 1, 2, 3])  # clip 0 has three windows
    labels = np.array([0, 0, 0, 0, 0, 1])
    features = linear_probe.Features([], clips, labels, clips.astype(str), clips < 0)
    clip_weights = np.bincount(clips, features.weights())
    np.testing.assert_allclose(clip_weights, [2 / 3, 2 / 3, 2 / 3, 2])


def test_efficientats_probe_is_its_last_layer():
    """It has no layers to cut, and the layer before the last one stays as AudioSet taught it."""
    torch.manual_seed(0)
    config = EfficientATConfig(width_multiplier=0.1, num_labels=4)
    model = EfficientATForAudioClassification(config).eval()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = torch.randn(60, 100, 128) * torch.rand(60, 1, 1)
    linear_probe.keep_layers(model, 1)
    (vectors,) = linear_probe.FAMILIES["efficientat"][0](model, inputs)
    labels = (vectors[:, 0] > vectors[:, 0].median()).long() + 2
    pipeline = linear_probe._regression(0.1).fit(vectors.detach().numpy(), labels.numpy())
    write_head(model, pipeline)
    with torch.no_grad():
        probabilities = model(inputs).logits.softmax(-1).numpy()[:, 2:]
    np.testing.assert_allclose(
        probabilities, pipeline.predict_proba(vectors.detach().numpy()), atol=0.02
    )
    changed = {n for n, tensor in model.state_dict().items() if not tensor.equal(tensors[n])}
    assert changed == {"classifier.weight", "classifier.bias"}


def efficientat(labels: list[str], seed: int = 0) -> EfficientATForAudioClassification:
    torch.manual_seed(seed)
    config = EfficientATConfig(
        width_multiplier=0.1,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = EfficientATForAudioClassification(config).eval()
    torch.nn.init.normal_(model.classifier.bias)
    return model


def test_classes_that_the_base_knows_by_another_spelling_are_kept():
    base = efficientat(["Speech", "Rock music", "Heavy metal", "Rock and roll", "Gospel music"])
    model = efficientat(["metal", "Gabber", "gospel", "rock"], seed=1)
    start_from_base_classes(model, base)
    for mine, theirs in enumerate([2, None, 4, 1]):
        for new, old in zip(
            model.classifier.parameters(), base.classifier.parameters(), strict=True
        ):
            torch.testing.assert_close(
                new[mine], torch.zeros_like(new[mine]) if theirs is None else old[theirs]
            )
    start_from_base_classes(model, None)
    assert linear_probe.weight_of_base_classes(model) is None
    assert linear_probe.weight_of_base_classes(tiny("ast")[0]) is None, "its head is random"


@pytest.mark.parametrize("is_right", [True, False])
def test_known_classes_are_added_where_they_help(is_right, monkeypatch):
    """Twelve tracks teach little. The share that is chosen is that of the model's head."""
    rng = np.random.default_rng(0)
    model = efficientat(["a", "b", "c"])
    known = model.classifier.weight.detach().double().numpy()
    layer = rng.standard_normal((13, known.shape[1])) * rng.uniform(0.1, 3, known.shape[1]) + 1
    logits = (layer - layer.mean(0)) @ known.T
    with torch.no_grad():
        model.classifier.weight.mul_(4 / logits.std())
    labels = logits.argmax(1) if is_right else (logits.argmax(1) + 1) % 3
    features = one_window_each([layer], labels)
    monkeypatch.setattr(linear_probe, "extract_features", lambda *_: features)
    choice = linear_probe.fit_linear_probe(trainer_of(model, None), None)
    assert (choice["known_share"] > 0) is is_right
    found = linear_probe._regression(choice["C"]).fit(
        layer, labels, logisticregression__sample_weight=features.weights()
    )
    expected = linear_probe.add_base_logits(
        found.predict_proba(layer), features, choice["known_share"]
    )
    with torch.no_grad():
        probabilities = model.classifier(torch.from_numpy(layer).float()).softmax(-1).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_half_of_what_the_base_knows_is_the_root_of_its_odds():
    features = SimpleNamespace(base_logits=np.log([[4.0, 1.0]]))
    found = linear_probe.add_base_logits(np.array([[0.5, 0.5]]), features, share=0.5)
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]])
