"""The Trainer for clips, with the mean over windows in evaluation; its collator and metrics."""

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import SequenceFeatureExtractor, Trainer
from transformers.trainer_utils import EvalPrediction

from music_genre import windows
from music_genre.errors import InputError
from music_genre.evaluation.calibration import fit_temperature, with_temperature
from music_genre.evaluation.metrics import GenreMetrics, negative_log_likelihood
from music_genre.training.augmentation import mask_spectrograms
from music_genre.training.checkpoints import load_weights
from music_genre.training.clips import ClipDataset

PADDING = -100  # what the Trainer pads predictions with


class ClipTrainer(Trainer):
    """A Trainer that evaluates whole clips: the mean over windows, as in `GenreClassifier`.

    With several processes, accelerate's data loader gives each its part of every batch.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is ours, a mean over the crops
        self.is_finite = torch.tensor(True, device=self.args.device)  # the loss, in every step

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross entropy with targets of shape (crops, labels), which mixup makes."""
        targets = inputs.pop("labels")
        if "keys" in inputs:
            inputs = {self.model.main_input_name: self._features(targets, **inputs)}
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits.float(), targets, label_smoothing=self.args.label_smoothing_factor
        )
        return (loss, outputs) if return_outputs else loss

    def _features(
        self,
        targets: torch.Tensor,
        keys: list[int],
        order: list[int],
        known: torch.Tensor,
        **crops: torch.Tensor,
    ) -> torch.Tensor:
        """Of the crops of a batch: those of new ones are computed and kept, the others are known.

        They are rounded to float16 before they are used for the first time, so that a run that is
        resumed computes the same.

        Args:
            targets: shape (crops, labels).
            keys: of the new crops.
            order: where in the batch the new ones belong, then the known ones.
            known: float16, shape (known crops, frames, channels).
            crops: the waveforms of the new ones.

        Returns:
            Shape (crops, channels, frames), float32.
        """
        parts = [known]
        if keys:
            (waveforms,) = crops.values()
            # In training only the model's own forward pass computes in the precision of the run.
            with torch.no_grad(), self.accelerator.autocast():
                new = self.model.base_model.feature_extractor(waveforms).transpose(1, 2).half()
            of_new = targets[order[: len(keys)]]
            for row in zip(keys, new.cpu().numpy(), of_new.cpu().numpy(), strict=True):
                self.train_dataset.store.write(*row)
            parts = [new, known]
        # In float32, as autocast in bfloat16 refuses to put float16 together.
        features = torch.cat([part.float() for part in parts])[np.argsort(order)]
        return features.transpose(1, 2)

    def _get_dataloader(self, *args, **kwargs) -> DataLoader:
        """SIGTERM, which a launcher sends to all processes, must not end workers: the run saves."""
        loader = super()._get_dataloader(*args, **kwargs)
        base = getattr(loader, "base_dataloader", loader)
        base.worker_init_fn = partial(_ignore_sigterm, base.worker_init_fn)
        return loader

    def _load_scaler(self, checkpoint: str | None) -> None:
        if self.accelerator.scaler is not None:  # a run in fp16 may be resumed in bf16
            super()._load_scaler(checkpoint)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.is_finite &= torch.isfinite(loss)  # stays on the device: no step waits for it
        return loss

    def log(self, *args, **kwargs) -> None:
        self._check_loss()
        super().log(*args, **kwargs)

    def _save_checkpoint(self, *args, **kwargs) -> None:
        self._check_loss()
        super()._save_checkpoint(*args, **kwargs)

    def _check_loss(self) -> None:
        if not self.is_finite:
            raise InputError(
                f"The loss is infinite or not a number by step {self.state.global_step}: the run "
                "stops. Try a lower --learning_rate, or --precision fp32."
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_weights(self.model, Path(self.state.best_model_checkpoint))

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():  # in training the model is wrapped to compute in its precision
            window_probabilities = windows.clip_probabilities(model, inputs["windows"])
        # Clips differ in their number of windows; between batches the Trainer pads like this too.
        padded = torch.nn.utils.rnn.pad_sequence(window_probabilities, True, padding_value=PADDING)
        return None, padded, inputs["labels"]

    def estimate_evaluation(self, datasets: dict[str, ClipDataset]) -> tuple[float, float]:
        """Seconds that a validation in training, and all scoring after it, will take.

        From one batch of validation clips in each precision, before the model is wrapped.
        """
        n_windows = {name: datasets[name].n_windows() for name in ("validation", "test")}
        n_short = len(datasets["validation"]) + len(datasets["test"])
        in_training, after = (
            self._seconds_per_window(datasets["validation"], context) / self.args.world_size
            for context in (self.accelerator.autocast, nullcontext)
        )
        n_scored = 2 * sum(n_windows.values()) + n_short  # twice: by windows and in one pass
        return n_windows["validation"] * in_training, n_scored * after

    def estimate_steps(self) -> tuple[float, float]:
        """Seconds of a training step, with new crops and with known ones; no weight is changed.

        Without the optimizer's part, of two batches, before the model is wrapped.
        """
        crops, model = self.train_dataset, self.model.train()
        n, seconds = min(len(crops), self.args.train_batch_size), []
        device = self.args.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for first in (n, 0, 0):  # the first one warms up, the last one finds its crops known
                start = time.monotonic()
                batch = self.data_collator([crops[i % len(crops)] for i in range(first, first + n)])
                with self.accelerator.autocast():
                    loss = self.compute_loss(model, self._prepare_inputs(batch))
                loss.backward()
                loss.item()  # waits for a GPU
                seconds.append(self.args.gradient_accumulation_steps * (time.monotonic() - start))
        model.zero_grad()
        return seconds[1] if crops.store else seconds[2], seconds[2]

    def _seconds_per_window(
        self, dataset: ClipDataset, context: Callable[[], AbstractContextManager]
    ) -> float:
        model, items = self.model.eval(), range(min(len(dataset), self.args.eval_batch_size))
        for _ in range(2):  # the first one warms up
            start = time.monotonic()
            batch = self._prepare_inputs(self.data_collator([dataset[i] for i in items]))
            with context(), torch.no_grad():
                window_probabilities = windows.clip_probabilities(model, batch["windows"])
            n_windows = len(torch.cat(window_probabilities).cpu())  # .cpu() waits for a GPU
        return (time.monotonic() - start) / n_windows

    def score(self, dataset: ClipDataset) -> tuple[list[np.ndarray], np.ndarray]:
        """Classify every clip once, in fp32, as a user of the model does.

        Returns:
            Per clip the probabilities of its windows, shape (windows, labels); and the labels.
        """
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if not self.accelerator._models:
            # Before training, `predict` would prepare the model for evaluation, and accelerate
            # prepares none twice: it would be trained in fp32, and by each process for itself.
            self.accelerator._models.append(self.model)
        output = self.predict(dataset)
        return without_padding(output.predictions), output.label_ids


def without_padding(predictions: np.ndarray) -> list[np.ndarray]:
    """Per clip shape (windows, labels), from shape (clips, most windows, labels)."""
    return [clip[clip[:, 0] != PADDING] for clip in predictions]


@dataclass
class Collate:
    """Batches of crops, or of clips with all their windows; workers get a copy."""

    feature_extractor: SequenceFeatureExtractor
    input_name: str  # of the model

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        extract = partial(windows.extract_features, self.feature_extractor)
        if "target" in items[0]:
            crops = [item["crop"] for item in items if "crop" in item]
            features = extract(crops) if crops else torch.zeros(0)
            if "mask_seed" in items[0] and features.ndim == 3:
                has_time_first = self.input_name == "input_values"  # AST; Whisper has it last
                axes = (1, 2) if has_time_first else (2, 2)
                masked = mask_spectrograms(features.transpose(*axes), items[0]["mask_seed"])
                features = masked.transpose(*axes)
            targets = torch.from_numpy(np.stack([item["target"] for item in items]))
            batch = {"labels": targets, self.input_name: features}
            return batch | (_from_store(items) if "key" in items[0] else {})
        # Labels come first: the Trainer takes the first tensor's length for the number of clips.
        labels = torch.tensor([item["label"] for item in items])
        return {"labels": labels, "windows": [extract(item["windows"]) for item in items]}


def _ignore_sigterm(then: Callable[[int], None] | None, worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if then:
        then(worker)


def _from_store(items: list[dict[str, Any]]) -> dict[str, Any]:
    """What `ClipTrainer._features` takes."""
    is_known = np.array(["features" in item for item in items])
    known = [item["features"] for item in items if "features" in item]
    return {
        "keys": [item["key"] for item in items if "crop" in item],
        "order": np.argsort(is_known, stable=True).tolist(),
        "known": torch.from_numpy(np.array(known, np.float16)),
    }


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    return validation_metrics(without_padding(prediction.predictions), prediction.label_ids)


def validation_metrics(
    window_probabilities: list[np.ndarray], references: np.ndarray
) -> dict[str, float]:
    """The metrics that epochs are compared by.

    `calibrated_loss` is the loss under the best temperature: the confidence of a model says little
    about how good it is, and is calibrated in the end anyway.
    """
    probabilities = np.stack([clip.mean(0) for clip in window_probabilities])
    calibrated = with_temperature(
        window_probabilities, fit_temperature(window_probabilities, references)
    )
    return GenreMetrics().compute(predictions=probabilities.argmax(-1), references=references) | {
        "loss": negative_log_likelihood(probabilities, references),
        "calibrated_loss": negative_log_likelihood(calibrated, references),
    }
