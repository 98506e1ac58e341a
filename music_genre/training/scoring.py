"""The figures of a finished model: every clip once, whole and as a microphone would hear it.

Probabilities are calibrated on validation first; what is scored is the model as it is saved.
"""

from typing import TYPE_CHECKING

from music_genre.evaluation.calibration import fit_temperature, fold_temperature, with_temperature
from music_genre.evaluation.metrics import SHORT_SECONDS, SplitScore

if TYPE_CHECKING:
    from music_genre.training.trainer import ClipDataset, ClipTrainer


def evaluate(
    trainer: "ClipTrainer", clips: dict[str, "ClipDataset"]
) -> tuple[dict[str, SplitScore | None], float]:
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
    scores: dict[str, SplitScore | None] = dict.fromkeys(clips)
    for name, (window_probabilities, references) in whole.items():
        scores[name] = SplitScore(
            list(clips[name].clips["track_id"]),
            references,
            with_temperature(window_probabilities, temperature),
            with_temperature(short[name][0], temperature),
        )
    return scores, temperature
