"""Calibration: about 80 % of the predictions with a confidence of 80 % should be right.

One temperature is fitted on the validation clips (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, section 4.2) and folded into the last layer, so that `GenreClassifier`, a
plain `pipeline` and the ONNX file all give the same calibrated probabilities.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from transformers import PreTrainedModel

N_BINS = 10
TEMPERATURES = (0.25, 4.0)


def clip_losses(probabilities: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihoods, shape (clips,), for probabilities (clips, labels).

    references: int, shape (clips,).
    """
    reference_probabilities = probabilities[np.arange(len(references)), references]
    return -np.log(np.maximum(reference_probabilities, 1e-12))


def with_temperature(window_probabilities: Sequence[np.ndarray], temperature: float) -> np.ndarray:
    """Return the clips' probabilities, shape (clips, labels), with logits divided by `temperature`.

    window_probabilities: for each clip, the probabilities of its windows, shape (windows, labels).
    """
    sharpened = (np.asarray(p, dtype=np.float64) ** (1 / temperature) for p in window_probabilities)
    return np.stack([(p / p.sum(-1, keepdims=True)).mean(0) for p in sharpened])


def fit_temperature(window_probabilities: Sequence[np.ndarray], references: np.ndarray) -> float:
    """Return the temperature between 1/4 and 4 that minimises the negative log-likelihood.

    A weak log-normal prior around 1 keeps it moderate if there are only a few clips and all are
    correct; with more than about fifty clips the prior hardly matters.
    """

    def loss(log_temperature: float) -> float:
        probabilities = with_temperature(window_probabilities, np.exp(log_temperature))
        return clip_losses(probabilities, references).sum() + log_temperature**2 / 2

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES)).x))


def fold_temperature(model: PreTrainedModel, temperature: float) -> None:
    """Divide the weights and bias of the model's last linear layer, and so its logits."""
    with torch.no_grad():
        for parameter in last_layer(model).parameters():
            parameter /= temperature


def last_layer(model: PreTrainedModel) -> nn.Linear:
    """Return the model's last linear layer; in AST, it follows a norm."""
    return getattr(model.classifier, "dense", model.classifier)


def reliability(probabilities: np.ndarray, references: np.ndarray) -> list[dict[str, float]]:
    """Mean `confidence`, `accuracy` and `n` for each non-empty tenth of confidence, ascending.

    Confidence is the probability of the predicted genre.
    """
    confidence = probabilities.max(-1)
    is_right = probabilities.argmax(-1) == references
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    clips = pd.DataFrame({"confidence": confidence, "accuracy": is_right, "n": 1})
    columns = {"confidence": "mean", "accuracy": "mean", "n": "sum"}
    return clips.groupby(bins).agg(columns).to_dict("records")


def expected_calibration_error(bins: list[dict[str, float]]) -> float:
    """Return the mean distance between confidence and accuracy over all clips of `reliability`."""
    n = sum(b["n"] for b in bins)
    return sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / n
