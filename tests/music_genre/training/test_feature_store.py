"""Features of frozen convolutions are computed once per crop, and training sees no difference."""

import errno
import os
import pickle

import numpy as np
import pytest
import torch
from datasets import Audio, load_from_disk
from transformers import AutoModelForAudioClassification

from music_genre.cpu_modules import use_cpu_modules
from music_genre.loading import find_model, load_feature_extractor
from music_genre.training import feature_store
from music_genre.training.arguments import RecipeArguments
from music_genre.training.clips import Augmentation, CropDataset
from music_genre.training.feature_store import FeatureStore, open_store
from music_genre.training.trainer import ClipTrainer, Collate

WINDOW = 16_000


@pytest.fixture
def store():
    return FeatureStore((3, 2), 4)


def test_what_is_written_is_read(store):
    features, target = np.arange(6, dtype=np.float16).reshape(3, 2), np.eye(4, dtype=np.float32)[1]
    store.write(7, features, target)
    for found, expected in zip(store.read(7), (features, target), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert store.read(6) is None and store.read(8) is None


def test_a_spawned_process_finds_nothing(store):
    store.write(0, np.zeros((3, 2), np.float16), np.zeros(4, np.float32))
    assert pickle.loads(pickle.dumps(store)).read(0) is None


def test_a_full_disk_ends_the_keeping_and_not_the_run(store, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    for key in range(2):
        store.write(key, np.zeros((3, 2), np.float16), np.zeros(4, np.float32))
        assert store.read(key) is None


@pytest.fixture
def make_trainer(prepared, tiny_classifier, tmp_path):
    """A trainer with frozen convolutions and no dropout, with or without a store."""
    clips = load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))

    def make(has_store: bool, has_kernel: bool = True) -> ClipTrainer:
        model = AutoModelForAudioClassification.from_pretrained(
            tiny_classifier, hidden_dropout=0, attention_dropout=0, layerdrop=0,
            activation_dropout=0, feat_proj_dropout=0, final_dropout=0,
        )  # fmt: skip
        model.freeze_feature_encoder()
        if has_kernel:
            assert use_cpu_modules(model)
        crops = CropDataset(clips.select(range(8)), WINDOW, 0, Augmentation(0.4, True, True))
        if has_store:
            crops.repeats = True
            crops.store = open_store(model, WINDOW, len(crops))
        recipe = RecipeArguments(
            str(tmp_path / "run"), precision="fp32", eval_strategy="no", save_strategy="no",
            disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        extractor = load_feature_extractor(find_model(str(tiny_classifier)))
        collate = Collate(extractor, "input_values")
        return ClipTrainer(model=model, args=recipe, train_dataset=crops, data_collator=collate)

    return make


def loss_and_gradient(trainer: ClipTrainer, places: list[int]) -> tuple[float, torch.Tensor]:
    batch = trainer.data_collator([trainer.train_dataset[i] for i in places])
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), trainer.model.projector.weight.grad.clone()


@pytest.mark.parametrize("has_kernel", [True, False])
def test_losses_and_gradients_are_those_of_the_waveforms(make_trainer, has_kernel):
    places = [3, 0, 5, 2]
    loss, gradient = loss_and_gradient(make_trainer(has_store=False), places)
    trainer = make_trainer(True, has_kernel)
    crops = trainer.train_dataset
    first = loss_and_gradient(trainer, places)
    assert first[0] == pytest.approx(loss, rel=1e-3)
    torch.testing.assert_close(first[1], gradient, rtol=0.02, atol=1e-4)
    crops.epoch = feature_store.N_NEW_EPOCHS
    assert all("features" in crops[i] for i in places)
    again = loss_and_gradient(trainer, places)
    assert again[0] == first[0] and torch.equal(again[1], first[1])


def test_a_batch_of_new_and_known_crops_keeps_its_order(make_trainer):
    places = [4, 1, 6, 3, 7]
    expected = loss_and_gradient(make_trainer(True), places)
    trainer = make_trainer(True)
    loss_and_gradient(trainer, [1, 7])
    assert ["features" in trainer.train_dataset[i] for i in places] == [
        False,
        True,
        False,
        False,
        True,
    ]
    torch.testing.assert_close(loss_and_gradient(trainer, places), expected)


def test_crops_differ_between_the_first_epochs_and_repeat_then(make_trainer):
    crops = make_trainer(True).train_dataset
    samples = []
    for crops.epoch in range(4):
        samples.append(crops[0]["crop"])
    assert not np.array_equal(samples[0], samples[1])
    np.testing.assert_array_equal(samples[2], samples[0])
    np.testing.assert_array_equal(samples[3], samples[1])


def test_without_room_nothing_is_kept(make_trainer, monkeypatch):
    monkeypatch.setattr(FeatureStore, "has_room_for", lambda *_: False)
    trainer = make_trainer(True)
    crops = trainer.train_dataset
    assert crops.store is None
    first = crops[0]["crop"]
    crops.epoch = feature_store.N_NEW_EPOCHS  # what a run trains on does not depend on the disk
    np.testing.assert_array_equal(crops[0]["crop"], first)
    loss_and_gradient(trainer, [0, 1])


def test_room_is_half_of_what_is_free(monkeypatch):
    usage = feature_store.shutil.disk_usage("/")
    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda _: usage._replace(free=4 * 600))
    assert FeatureStore.has_room_for(99, (3, 2))
    assert not FeatureStore.has_room_for(100, (3, 2))
