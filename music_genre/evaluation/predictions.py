"""The predictions for a split as a CSV file: one row per track."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from music_genre.evaluation.metrics import SplitScore


def write_predictions(path: Path, score: SplitScore, labels: Sequence[str]) -> None:
    """Write one row per track: track, artist, genre, three predictions, each genre's probability.

    The probabilities are those of `prediction`. `short_prediction` is for the middle of the track;
    `one_pass_prediction` is by a plain `pipeline`, and empty if it was not measured.
    """
    names = np.array(labels)
    one_pass = score.one_pass_probabilities
    predictions = {
        "track_id": score.track_ids,
        "artist": score.artists,
        "genre": names[score.references],
        "prediction": names[score.probabilities.argmax(-1)],
        "short_prediction": names[score.short_probabilities.argmax(-1)],
        "one_pass_prediction": "" if one_pass is None else names[one_pass.argmax(-1)],
    }
    probabilities = pd.DataFrame(score.probabilities, columns=names)
    table = pd.concat([pd.DataFrame(predictions), probabilities], axis=1)
    table.to_csv(path, index=False, float_format="%.6f", encoding="utf-8", lineterminator="\n")


def read_predictions(path: Path) -> list[dict[str, str]]:
    """Return the rows of such a file; a genre with a column's name gets a number appended."""
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
