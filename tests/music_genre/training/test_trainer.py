"""The loss of the Trainer, its batches and workers, on the small synthesised dataset."""

import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
import torch
from datasets import Audio, load_from_disk
from transformers import AutoModelForAudioClassification, set_seed
from transformers.trainer_utils import EvalPrediction

from music_genre.loading import find_model, load_feature_extractor
from music_genre.training import trainer as training
from music_genre.training.arguments import RecipeArguments
from music_genre.training.clips import CropDataset


def test_soft_targets_and_accumulation_give_the_gradient_of_one_large_batch(
    prepared, tiny_classifier, tmp_path
):
    """4 batches of 2 and 1 of 8: the Trainer must divide, and once only."""
    clips = load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))

    def after_one_step(batch_size: int, accumulation: int) -> torch.Tensor:
        set_seed(0)
        model = AutoModelForAudioClassification.from_pretrained(
            tiny_classifier, hidden_dropout=0, attention_dropout=0, layerdrop=0,
            activation_dropout=0, feat_proj_dropout=0, final_dropout=0,
        )  # fmt: skip
        trainer = training.GenreTrainer(
            compute_loss_func=training.crop_loss,
            model=model,
            args=RecipeArguments(
                str(tmp_path / "run"), max_steps=1, learning_rate=0.1,
                bf16=False,
                per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
                eval_strategy="no", save_strategy="no",
                disable_tqdm=True, max_grad_norm=0,
            ),
            optimizers=(torch.optim.SGD(model.parameters(), 0.1), None),  # a step is the gradient
            train_dataset=CropDataset(clips.select(range(4)), 16_000, 0, mixup=0.4),
            data_collator=training.Collate(
                load_feature_extractor(find_model(str(tiny_classifier))), "input_values"
            ),
        )  # fmt: skip
        trainer.train()
        return trainer.model.classifier.weight.detach()

    torch.testing.assert_close(after_one_step(8, 1), after_one_step(2, 4), rtol=1e-4, atol=1e-6)


def test_the_calibrated_loss_is_that_of_the_best_temperature():
    """Half of what it is sure of is wrong: the loss is much lower when it is less sure."""
    sure = np.tile([0.98, 0.01, 0.01], (2, 1))
    metrics = training.validation_metrics([sure] * 60, np.array([0, 1] * 30))
    assert metrics["loss"] == pytest.approx(-np.log([0.98, 0.01]).mean())
    p = sure[0] ** 0.25 / (sure[0] ** 0.25).sum()  # of the highest temperature
    assert metrics["calibrated_loss"] == pytest.approx(-np.log(p[:2]).mean(), rel=0.01)
    assert metrics["accuracy"] == 0.5


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that can be ignored")
def test_workers_go_on_after_sigterm(prepared, tiny_classifier, tmp_path):
    """A launcher sends it to all processes; the run wants its workers for the step it is in."""
    clips = load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))
    trainer = training.GenreTrainer(
            compute_loss_func=training.crop_loss,
        model=AutoModelForAudioClassification.from_pretrained(tiny_classifier),
        args=RecipeArguments(
            str(tmp_path), per_device_train_batch_size=1, dataloader_num_workers=1, use_cpu=True,
            dataloader_prefetch_factor=1, eval_strategy="no", save_strategy="no",
        ),
        train_dataset=CropDataset(clips.select(range(4)), 16_000, 0),
        data_collator=training.Collate(
            load_feature_extractor(find_model(str(tiny_classifier))), "input_values"
        ),
    )  # fmt: skip
    batches = iter(trainer.get_train_dataloader())
    next(batches)
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    assert len(list(batches)) == len(trainer.train_dataset) - 1


def test_workers_that_are_not_forked_get_the_collator(tiny_classifier):
    """Where processes are spawned, such as on a Mac, it is pickled."""
    extractor = load_feature_extractor(find_model(str(tiny_classifier)))
    collate = pickle.loads(pickle.dumps(training.Collate(extractor, "input_values")))
    item = {"labels": np.array([1, 0]), "samples": np.ones(16_000, np.float32)}
    assert collate([item])["labels"].tolist() == [[1, 0]]


@pytest.mark.parametrize("has_time_first", [True, False])
def test_stripes_of_time_are_as_wide_as_they_may_be(has_time_first, monkeypatch):
    """AST has time before frequency, Whisper after it."""
    seen = []
    monkeypatch.setattr(training, "mask_spectrograms", lambda *got: seen.append(got) or got[0])
    n_times, n_frequencies = 30, 8
    shape = (n_times, n_frequencies) if has_time_first else (n_frequencies, n_times)
    monkeypatch.setattr(training.windows, "extract_features", lambda *_: torch.rand(2, *shape))
    item = {"samples": np.zeros(1), "labels": np.zeros(2, np.float32), "mask_seed": 7}
    batch = training.Collate(None, "spectrograms", has_time_first)([item, item])
    assert [(of.shape, seed) for of, seed in seen] == [((2, n_frequencies, n_times), 7)]
    assert batch["spectrograms"].shape == (2, *shape)


def test_the_loss_is_torchs_with_soft_targets_and_smoothing():
    logits, targets = torch.randn(4, 3), torch.softmax(torch.randn(4, 3), -1)
    expected = torch.nn.functional.cross_entropy(logits, 0.7 * targets + 0.1)
    found = training.crop_loss({"logits": logits}, targets, label_smoothing=0.3)
    torch.testing.assert_close(found, expected)
    rows = torch.tensor([[2, 0], [1, 0], [0, 1], [2, 2]])  # of validation: genre, track
    expected = torch.nn.functional.cross_entropy(logits, rows[:, 0])
    found = training.crop_loss({"logits": logits}, rows, label_smoothing=0.3)
    torch.testing.assert_close(found, expected)


def test_metrics_are_of_tracks_whatever_the_order_of_their_windows():
    """Three tracks of 3, 1 and 2 windows: the mean over windows, then over tracks."""
    logits = np.log([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9], [0.7, 0.3], [0.2, 0.8]])
    labels = np.array([[0, 0], [0, 0], [0, 0], [1, 1], [0, 2], [0, 2]])
    expected = [(0.8 + 0.3 + 0.6) / 3, 0.9, (0.7 + 0.2) / 2]
    for order in (np.arange(6), np.array([4, 1, 3, 0, 5, 2])):
        metrics = training.compute_metrics(EvalPrediction(logits[order], labels[order]))
        assert metrics["loss"] == pytest.approx(-np.log(expected).mean())
        assert metrics["accuracy"] == pytest.approx(2 / 3)
