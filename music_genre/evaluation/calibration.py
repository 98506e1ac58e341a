"""Calibration: of what the model calls 80 % sure, about 80 % should be right.

One temperature is fitted on the validation clips (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, section 4.2) and folded into the last layer, so that `GenreClassifier`, a
plain `pipeline` and the ONNX file all answer with the same, calibrated probabilities.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

N_BINS = 10
TEMPERATURES = (0.25, 4.0)


def with_temperature(of_windows: Sequence[np.ndarray], temperature: float) -> np.ndarray:
    """The clips' probabilities, as if the logits of their windows had been divided.

    Args:
        of_windows: per clip the probabilities of its windows, shape (windows, labels).

    Returns:
        Shape (clips, labels): the mean over each clip's windows.
    """
    sharpened = (np.asarray(p, dtype=np.float64) ** (1 / temperature) for p in of_windows)
    return np.stack([(p / p.sum(-1, keepdims=True)).mean(0) for p in sharpened])


def fit_temperature(of_windows: Sequence[np.ndarray], references: np.ndarray) -> float:
    """The temperature under which the truth of these clips is likeliest, between 1/4 and 4.

    A weak prior, log-normal around 1, keeps a handful of clips that are all right from asking for
    certainty; from some fifty clips on it has no say.
    """

    def badness(log_temperature: float) -> float:
        probabilities = with_temperature(of_windows, np.exp(log_temperature))
        of_truth = probabilities[np.arange(len(references)), references]
        return -np.log(np.maximum(of_truth, 1e-12)).sum() + log_temperature**2 / 2

    return float(np.exp(minimize_scalar(badness, bounds=np.log(TEMPERATURES)).x))


def fold_temperature(model: "PreTrainedModel", temperature: float) -> None:
    """Divide the logits for good: weights and bias of the last layer, whatever model it is."""
    import torch

    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == model.config.num_labels
    ]
    with torch.no_grad():
        heads[-1].weight /= temperature
        if heads[-1].bias is not None:
            heads[-1].bias /= temperature


def reliability(probabilities: np.ndarray, references: np.ndarray) -> list[dict[str, float]]:
    """How often the answers were right, by how sure they were.

    Args:
        probabilities: shape (clips, labels). references: int, shape (clips,).

    Returns:
        Per tenth of confidence that occurs: mean `confidence`, `accuracy` and `n`.
    """
    confidence = probabilities.max(-1)
    is_right = probabilities.argmax(-1) == references
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(is_right[bins == b].mean()),
            "n": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]


def expected_calibration_error(bins: list[dict[str, float]]) -> float:
    """Mean distance of confidence from accuracy over the clips, from `reliability`."""
    n = sum(b["n"] for b in bins)
    return sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / n
