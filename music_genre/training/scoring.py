"""Score a saved model on whole tracks, on their middle only, and in one pass.

`GenreClassifier` computes the scores, as for a user of the model; processes share the tracks.
Probabilities are first calibrated on validation.
"""

from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from transformers import TrainingArguments

from music_genre import GenreClassifier, windows
from music_genre.evaluation.calibration import fit_temperature, fold_temperature, with_temperature
from music_genre.evaluation.metrics import SHORT_SECONDS, SplitScore
from music_genre.evaluation.one_pass import classify_in_one_pass
from music_genre.training.clips import TrackDataset
from music_genre.training.processes import shared


def load(folder: Path) -> GenreClassifier:
    """The model in a folder, on the device of this process."""
    return GenreClassifier(folder, device=str(PartialState().device), precision="fp32")


def score_windows(
    classifier: GenreClassifier,
    tracks: TrackDataset,
    arguments: TrainingArguments,
    seconds: float | None = None,
) -> list[np.ndarray]:
    """For each track, the probabilities of its windows, shape (windows, labels).

    Args:
        seconds: length of the part from the middle of each track; by default the whole track.
    """

    def features(i: int) -> torch.Tensor:
        cuts = tracks.middle(i, seconds, classifier.sampling_rate) if seconds else tracks[i]
        return windows.extract_features(classifier.feature_extractor, cuts)

    name = f"Scoring {seconds:g} s of each" if seconds else "Scoring"
    return shared(len(tracks), features, classifier.feature_probabilities, name, arguments)


def evaluate(
    folder: Path,
    datasets: dict[str, TrackDataset],
    arguments: TrainingArguments,
    in_one_pass: bool = True,
) -> tuple[GenreClassifier, dict[str, SplitScore | None], float]:
    """Fit the temperature on validation, fold it into the model, score validation and test.

    The folder is not changed. Scoring in one pass, like a plain `pipeline`, doubles the time.

    Returns:
        The calibrated model, the scores (None for an empty split), and the temperature.
    """
    classifier = load(folder)
    tracks = {name: dataset for name, dataset in datasets.items() if len(dataset)}
    whole = {name: score_windows(classifier, tracks[name], arguments) for name in tracks}
    short = {
        name: score_windows(classifier, tracks[name], arguments, SHORT_SECONDS) for name in tracks
    }
    temperature = fit_temperature(whole["validation"], tracks["validation"].labels)
    fold_temperature(classifier.model, temperature)
    scores: dict[str, SplitScore | None] = dict.fromkeys(datasets)
    for name, dataset in tracks.items():
        scores[name] = SplitScore(
            dataset.track_values("track_id"),
            dataset.artists,
            dataset.labels,
            with_temperature(whole[name], temperature),
            with_temperature(short[name], temperature),
            _score_in_one_pass(classifier, dataset, arguments) if in_one_pass else None,
        )
    return classifier, scores, temperature


def _score_in_one_pass(
    classifier: GenreClassifier, tracks: TrackDataset, arguments: TrainingArguments
) -> np.ndarray | None:
    """Probabilities of a plain `pipeline` for each track, shape (tracks, labels).

    A track of several clips gets their mean. None if a clip is too short or long for one pass.
    """

    def score(waveforms: list[np.ndarray]) -> np.ndarray | None:
        model, extractor = classifier.model, classifier.feature_extractor
        clips = [classify_in_one_pass(model, extractor, waveform) for waveform in waveforms]
        return None if any(clip is None for clip in clips) else np.mean(clips, axis=0)

    rows = shared(len(tracks), tracks.waveforms, score, "Scoring in one pass", arguments)
    return None if any(row is None for row in rows) else np.stack(rows)
