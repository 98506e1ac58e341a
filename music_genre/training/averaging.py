"""Average the fine-tuned model with the linear probe, and choose between it and the probe.

Weights halfway between the two do better on music from elsewhere than either (Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022, section 4).
"""

from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from transformers import TrainingArguments

from music_genre.evaluation.calibration import fit_temperature, with_temperature
from music_genre.evaluation.intervals import artist_groups, is_lower
from music_genre.evaluation.metrics import clip_losses
from music_genre.loading import find_model, load_classifier
from music_genre.training.clips import TrackDataset
from music_genre.training.scoring import load, score_windows


def average(folder: Path, other: Path) -> None:
    """Replace the weights in `folder` by their mean with `other`'s, which have the same shapes."""
    one, two = (load_classifier(find_model(str(path))) for path in (folder, other))
    mean = two.state_dict()
    one.load_state_dict({name: (w + mean[name]) / 2 for name, w in one.state_dict().items()})
    one.save_pretrained(folder)


def average_and_choose(
    fine_tuned: Path, probe: Path, validation: TrackDataset, arguments: TrainingArguments
) -> dict[str, Any]:
    """Average the weights in `fine_tuned` with the linear probe's, and compare with the probe.

    The average is kept if its calibrated loss on validation is lower beyond chance (`is_lower`).

    Returns:
        Both losses, and `is_kept`: whether the probe is kept.
    """
    if arguments.should_save:
        average(fine_tuned, probe)
    PartialState().wait_for_everyone()
    losses_of_probe = _calibrated_losses(probe, validation, arguments)
    losses = _calibrated_losses(fine_tuned, validation, arguments)
    return {
        "calibrated_loss": float(losses_of_probe.mean()),
        "fine_tuned_calibrated_loss": float(losses.mean()),
        "is_kept": not is_lower(losses, losses_of_probe, artist_groups(validation.artists)),
    }


def _calibrated_losses(
    folder: Path, tracks: TrackDataset, arguments: TrainingArguments
) -> np.ndarray:
    """Negative log-likelihood of each track, shape (tracks,), under the best temperature."""
    window_probabilities = score_windows(load(folder), tracks, arguments)
    temperature = fit_temperature(window_probabilities, tracks.labels)
    return clip_losses(with_temperature(window_probabilities, temperature), tracks.labels)
