"""Average the fine-tuned model with the linear probe, and fall back to the probe if it is no worse.

Weights halfway between the two do better on music from elsewhere than either (Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022, section 4).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from music_genre.evaluation.calibration import fit_temperature, with_temperature
from music_genre.evaluation.intervals import artist_groups, is_lower
from music_genre.evaluation.metrics import clip_losses
from music_genre.training.checkpoints import CHOICE_FILE, LINEAR_PROBE, load_weights
from music_genre.training.clips import ClipDataset
from music_genre.training.trainer import ClipTrainer


def save_linear_probe(trainer: ClipTrainer, choice: dict[str, Any]) -> None:
    """Put the model as it is before fine-tuning aside, with what `fit_linear_probe` returned."""
    folder = Path(trainer.args.output_dir, LINEAR_PROBE)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if trainer.is_world_process_zero():
        model.save_pretrained(folder)
        (folder / CHOICE_FILE).write_text(json.dumps(choice), encoding="utf-8")


def read_choice(output_dir: Path) -> dict[str, Any] | None:
    """What `fit_linear_probe` returned in a run; None if its linear probe is not there."""
    path = output_dir / LINEAR_PROBE / CHOICE_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def load_linear_probe_if_not_beaten(
    trainer: ClipTrainer, validation: ClipDataset
) -> dict[str, Any] | None:
    """After training: average the weights with the linear probe's, or load the linear probe.

    The average is kept if it is better beyond chance: both are calibrated and compared by their
    negative log-likelihood on validation, with a margin (see `is_lower`).

    Returns:
        What `fit_linear_probe` returned, both losses, and `is_kept`; None without the probe.
    """
    folder = Path(trainer.args.output_dir, LINEAR_PROBE)
    choice = read_choice(folder.parent)
    if choice is None:
        if trainer.is_world_process_zero():
            print(
                f"The fine-tuned model of step {trainer.state.global_step} is kept, and neither "
                f"averaged nor compared with the linear probe: {folder} is not there."
            )
        return None
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    fine_tuned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_weights(model, folder)
    losses_of_probe = _calibrated_losses(trainer, validation)
    probe = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: (fine_tuned[name] + probe[name]) / 2 for name in probe})
    losses = _calibrated_losses(trainer, validation)
    is_kept = not is_lower(losses, losses_of_probe, artist_groups(validation.artists))
    if is_kept:
        model.load_state_dict(probe)
    return choice | {
        "calibrated_loss": float(losses_of_probe.mean()),
        "fine_tuned_calibrated_loss": float(losses.mean()),
        "is_kept": is_kept,
    }


def _calibrated_losses(trainer: ClipTrainer, clips: ClipDataset) -> np.ndarray:
    """Negative log-likelihood of each clip, shape (clips,), under the best temperature."""
    window_probabilities, references = trainer.score(clips)
    temperature = fit_temperature(window_probabilities, references)
    return clip_losses(with_temperature(window_probabilities, temperature), references)
