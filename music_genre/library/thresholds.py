"""From which probability on a genre is written: one number for all, or one for each genre.

One for each keeps a stated precision on the validation clips of the training run, whose predictions
lie beside the model: of the clips with this genre and at least this probability, that share is
right. The clips are few, so the share is a rough one; a genre with too few of them gets no number,
and is not written.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from music_genre.errors import InputError
from music_genre.report import PREDICTIONS_FILES

MIN_CLIPS = 5  # at or above a threshold


@dataclass(frozen=True)
class Threshold:
    probability: float
    n: int  # validation clips at or above it
    precision: float  # the share of them that is right


def fit_thresholds(
    predictions: Sequence[tuple[str, str, float]], precision: float
) -> dict[str, Threshold]:
    """For each genre the lowest probability that keeps the precision, if there is one.

    Args:
        predictions: of each clip its genre, the predicted genre, and the probability of that.
    """
    thresholds = {}
    for genre in sorted({predicted for _, predicted, _ in predictions}):
        clips = sorted(
            ((p, true == genre) for true, predicted, p in predictions if predicted == genre),
            reverse=True,
        )
        n_right = 0
        for n, (probability, is_right) in enumerate(clips, start=1):
            n_right += is_right
            is_tie = n < len(clips) and clips[n][0] == probability
            if n >= MIN_CLIPS and not is_tie and n_right / n >= precision:
                thresholds[genre] = Threshold(probability, n, n_right / n)
    return thresholds


def read_predictions(model_id: str, commit: str | None) -> list[tuple[str, str, float]]:
    """The validation predictions beside a model, in a folder or on the Hub.

    Raises:
        InputError: there are none.
    """
    name = PREDICTIONS_FILES["validation"]
    path = Path(model_id, name)
    if not Path(model_id).is_dir():
        try:
            path = Path(hf_hub_download(model_id, name, revision=commit))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
            path = Path()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [(r["genre"], r["prediction"], float(r[r["prediction"]])) for r in rows]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"--precision needs {name}, which train_hf.py leaves beside a model; {model_id} has "
            "none: use --min_confidence."
        ) from error


def describe(thresholds: dict[str, Threshold], labels: Sequence[str], precision: float) -> str:
    """What will be written, and what not, for people."""
    lines = [
        f"  {genre}: {one.probability:.2f} and more ({one.precision:.0%} of {one.n} clips right)"
        for genre, one in thresholds.items()
    ]
    left = [label for label in labels if label not in thresholds]
    if left:
        lines.append(f"  never, too few clips that sure: {', '.join(left)}")
    return "\n".join([f"A precision of {precision:.0%} on validation:", *lines])
