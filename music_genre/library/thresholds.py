"""--target_precision: from which probability on each genre is written.

On the clips of validation, whose predictions training leaves beside the model: of those with this
genre and at least this probability, that share is right. The clips are few, so the share is a rough
one; a genre with too few gets no number, and is not written.
"""

import csv
from collections.abc import Sequence

from music_genre.errors import InputError
from music_genre.loading import find_model
from music_genre.report import PREDICTIONS_FILES

FILE = PREDICTIONS_FILES["validation"]
MIN_CLIPS = 5  # at or above a threshold
Prediction = tuple[str, str, float]  # the genre, the predicted one, and the probability of that


def find_thresholds(
    model_id: str, commit: str | None, labels: Sequence[str], precision: float
) -> dict[str, float]:
    """The least probability of each genre that has one; what will be written is printed.

    Raises:
        InputError: no genre has one, and what to do.
    """
    thresholds = fit_thresholds(read_predictions(model_id, commit), precision)
    if not thresholds:
        raise InputError(
            f"--target_precision {precision:g} needs, of a genre, {MIN_CLIPS} clips of validation "
            f"in {FILE} of {model_id}, {precision:.0%} of them right: use --min_confidence."
        )
    shown = ", ".join(f"{genre} from {p:.2f} on" for genre, p in thresholds.items())
    never = [label for label in labels if label not in thresholds]
    print(f"A precision of {precision:.0%}: {shown}; never: {', '.join(never) or 'none'}.")
    return thresholds


def fit_thresholds(predictions: Sequence[Prediction], precision: float) -> dict[str, float]:
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
                thresholds[genre] = probability
    return thresholds


def read_predictions(model_id: str, commit: str | None) -> list[Prediction]:
    """Those of validation beside a model, in a folder or on the Hub; none without such a file."""
    try:
        with (find_model(model_id, commit).path / FILE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [(r["genre"], r["prediction"], float(r[r["prediction"]])) for r in rows]
    except (OSError, KeyError, TypeError, ValueError):
        return []
