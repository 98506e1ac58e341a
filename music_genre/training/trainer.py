"""What transformers' Trainer needs for this task: the loss, the collator, and the metrics."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch.nn.functional import cross_entropy
from transformers import SequenceFeatureExtractor, Trainer
from transformers.trainer_utils import EvalPrediction

from music_genre import windows
from music_genre.evaluation.calibration import fit_temperature, with_temperature
from music_genre.evaluation.metrics import GenreMetrics, negative_log_likelihood
from music_genre.training.augmentation import mask_spectrograms


class GenreTrainer(Trainer):
    """A Trainer that divides the loss, a mean over a batch, by gradient_accumulation_steps."""

    loss_is_scaled_for_ga = False


def crop_loss(
    outputs, labels: torch.Tensor, num_items_in_batch=None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross entropy with the soft targets of mixup; the Trainer's `compute_loss_func`.

    Args:
        labels: float targets of crops, shape (crops, num_labels), or int labels of a
            WindowDataset in validation, shape (windows, 2).
        label_smoothing: for crops, as in torch's `cross_entropy`.
    """
    logits = outputs["logits"].float()
    if not labels.is_floating_point():
        return cross_entropy(logits, labels[:, 0])
    return cross_entropy(logits, labels, label_smoothing=label_smoothing)


@dataclass
class Collate:
    """Collate crops or windows into batches; workers get a copy."""

    feature_extractor: SequenceFeatureExtractor
    input_name: str  # the model's
    has_time_first: bool = False  # whether spectrograms are (clips, times, frequencies)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        features = windows.extract_features(
            self.feature_extractor, [item["samples"] for item in items]
        )
        if "mask_seed" in items[0] and features.ndim == 3:
            axes = (1, 2) if self.has_time_first else (2, 2)
            masked = mask_spectrograms(features.transpose(*axes), items[0]["mask_seed"])
            features = masked.transpose(*axes)
        labels = np.stack([item["labels"] for item in items])
        return {"labels": torch.from_numpy(labels), self.input_name: features}


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Average the windows of each track of a WindowDataset, then compute the metrics."""
    labels, tracks = prediction.label_ids.T
    order = np.argsort(tracks, kind="stable")
    first = np.unique(tracks[order], return_index=True)[1]
    probabilities = softmax(np.asarray(prediction.predictions, np.float64), axis=-1)[order]
    return validation_metrics(np.split(probabilities, first[1:]), labels[order][first])


def validation_metrics(
    window_probabilities: list[np.ndarray], references: np.ndarray
) -> dict[str, float]:
    """The metrics by which epochs are compared.

    `calibrated_loss` is the loss at the best temperature: the confidence of a model says little
    about how good it is, and is calibrated at the end anyway.
    """
    probabilities = np.stack([windows.mean(0) for windows in window_probabilities])
    calibrated = with_temperature(
        window_probabilities, fit_temperature(window_probabilities, references)
    )
    return GenreMetrics().compute(predictions=probabilities.argmax(-1), references=references) | {
        "loss": negative_log_likelihood(probabilities, references),
        "calibrated_loss": negative_log_likelihood(calibrated, references),
    }
