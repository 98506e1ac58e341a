"""The figures of a finished model: every clip once, whole and as a microphone would hear it.

Probabilities are calibrated on validation first; what is scored is the model as it is saved.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from music_genre.calibration import fit_temperature, fold_temperature, with_temperature
from music_genre.metrics import summarise

if TYPE_CHECKING:
    from music_genre.trainer import ClipDataset, ClipTrainer

SHORT_SECONDS = 2.0  # what the page has heard when people expect its first answer


@dataclass
class Score:
    """The answers to one split. probabilities: shape (clips, labels); references: (clips,)."""

    track_ids: list[str]
    references: np.ndarray
    probabilities: np.ndarray
    short_probabilities: np.ndarray  # of SHORT_SECONDS from the middle of each clip

    def summary(self, labels: list[str]) -> dict[str, Any]:
        """What report.json says of the split."""
        is_right = self.short_probabilities.argmax(-1) == self.references
        short = {"seconds": SHORT_SECONDS, "accuracy": float(is_right.mean())}
        return summarise(self.probabilities, self.references, labels) | {"short": short}


def evaluate(
    trainer: "ClipTrainer", clips: dict[str, "ClipDataset"]
) -> tuple[dict[str, Score | None], float]:
    """Fit the temperature on validation, fold it into the model, score validation and test.

    Args:
        clips: `validation`, which must not be empty, and `test`.

    Returns:
        The scores (None for an empty split), and the temperature.
    """
    whole = {name: trainer.score(clips[name]) for name in clips if len(clips[name])}
    short = {name: trainer.score(clips[name].middle(SHORT_SECONDS)) for name in whole}
    temperature = fit_temperature(*whole["validation"])
    fold_temperature(trainer.accelerator.unwrap_model(trainer.model), temperature)
    scores: dict[str, Score | None] = dict.fromkeys(clips)
    for name, (of_windows, references) in whole.items():
        scores[name] = Score(
            list(clips[name].clips["track_id"]),
            references,
            with_temperature(of_windows, temperature),
            with_temperature(short[name][0], temperature),
        )
    return scores, temperature
