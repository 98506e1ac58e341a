"""From which probability on a genre is written: one number for all, or one for each genre.

One for each keeps a stated precision on the clips of validation, whose predictions training leaves
beside the model. Of the clips with this genre and at least this probability, that share is right.
The clips are few, so the share is a rough one; a genre with too few gets no number, and is not
written.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from music_genre.errors import InputError
from music_genre.report import PREDICTIONS_FILES

FILE = PREDICTIONS_FILES["validation"]
MIN_CLIPS = 5  # at or above a threshold
Prediction = tuple[str, str, float]  # the genre, the predicted one, and the probability of that


@dataclass(frozen=True)
class Threshold:
    probability: float
    n: int  # clips at or above it
    precision: float  # the share of them that is right


def find_thresholds(
    model_id: str, commit: str | None, labels: Sequence[str], precision: float
) -> dict[str, Threshold]:
    """The threshold of each genre that has one.

    Raises:
        InputError: no genre has one, and what to do.
    """
    predictions = read_predictions(model_id, commit)
    thresholds = fit_thresholds(predictions, precision)
    if not thresholds:
        raise InputError(
            f"--target_precision {precision:g} needs, of a genre, {MIN_CLIPS} clips of validation, "
            f"{precision:.0%} of them right; {model_id} has the predictions of "
            f"{len(predictions):,}: use --min_confidence, or train with more tracks."
        )
    return {label: thresholds[label] for label in labels if label in thresholds}


def fit_thresholds(predictions: Sequence[Prediction], precision: float) -> dict[str, Threshold]:
    """For each genre the lowest probability that keeps the precision, if there is one."""
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


def read_predictions(model_id: str, commit: str | None) -> list[Prediction]:
    """The predictions of validation beside a model, in a folder or on the Hub; none without them.

    Raises:
        InputError: it is not such a file.
    """
    path = Path(model_id, FILE)
    if not Path(model_id).is_dir():
        try:
            path = Path(hf_hub_download(model_id, FILE, revision=commit))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
            return []
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [(r["genre"], r["prediction"], float(r[r["prediction"]])) for r in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{FILE} of {model_id} holds no predictions as train_hf.py writes them: use "
            "--min_confidence."
        ) from error


def describe(thresholds: dict[str, Threshold], labels: Sequence[str], precision: float) -> str:
    """What will be written, and what not, for people."""
    lines = [
        f"  {genre}: {one.probability:.2f} and more ({one.precision:.0%} of {one.n} clips of "
        "validation right)"
        for genre, one in thresholds.items()
    ]
    left = [label for label in labels if label not in thresholds]
    if left:
        lines.append(f"  never, too few clips that sure: {', '.join(left)}")
    return "\n".join([f"A precision of {precision:.0%}:", *lines])
