"""The figures of a model in a folder: every track whole, its middle only, and in one pass.

`GenreClassifier` computes them, as for a user of the model; processes share the tracks.
Probabilities are calibrated on validation first.
"""

from pathlib import Path

import numpy as np
from accelerate import PartialState

from music_genre import GenreClassifier
from music_genre.evaluation.calibration import fit_temperature, fold_temperature, with_temperature
from music_genre.evaluation.metrics import SHORT_SECONDS, SplitScore
from music_genre.evaluation.one_pass import classify_in_one_pass
from music_genre.training.clips import TrackDataset
from music_genre.training.processes import shared


def load(folder: Path) -> GenreClassifier:
    """In each process, on its device."""
    return GenreClassifier(folder, device=str(PartialState().device), precision="fp32")


def score_windows(
    classifier: GenreClassifier, tracks: TrackDataset, is_quiet: bool = False
) -> list[np.ndarray]:
    """Per track the probabilities of its windows, shape (windows, labels)."""
    return shared(
        len(tracks), lambda i: classifier.window_probabilities(tracks[i]), "Scoring", is_quiet
    )


def evaluate(
    folder: Path,
    datasets: dict[str, TrackDataset],
    in_one_pass: bool = True,
    is_quiet: bool = False,
) -> tuple[GenreClassifier, dict[str, SplitScore | None], float]:
    """Fit the temperature on validation, fold it into the model, score validation and test.

    Args:
        folder: with a model that is not calibrated; it stays as it is.
        datasets: `validation`, which must not be empty, and `test`.
        in_one_pass: also score what a plain `pipeline` gives, which takes as long again.

    Returns:
        The calibrated model, the scores (None for an empty split), and the temperature.
    """
    classifier = load(folder)
    tracks = {name: dataset for name, dataset in datasets.items() if len(dataset)}
    whole = {name: score_windows(classifier, tracks[name], is_quiet) for name in tracks}
    short = {name: _score_short(classifier, tracks[name], is_quiet) for name in tracks}
    temperature = fit_temperature(whole["validation"], tracks["validation"].labels)
    fold_temperature(classifier.model, temperature)
    scores: dict[str, SplitScore | None] = dict.fromkeys(datasets)
    for name, of_split in tracks.items():
        scores[name] = SplitScore(
            of_split.of_tracks("track_id"),
            of_split.artists,
            of_split.labels,
            with_temperature(whole[name], temperature),
            with_temperature(short[name], temperature),
            _score_in_one_pass(classifier, of_split, is_quiet) if in_one_pass else None,
        )
    return classifier, scores, temperature


def _score_short(
    classifier: GenreClassifier, tracks: TrackDataset, is_quiet: bool
) -> list[np.ndarray]:
    def score(i: int) -> np.ndarray:
        middle = tracks.middle(i, SHORT_SECONDS, classifier.sampling_rate)
        return classifier.window_probabilities(middle)

    return shared(len(tracks), score, f"Scoring {SHORT_SECONDS:g} s of each", is_quiet)


def _score_in_one_pass(
    classifier: GenreClassifier, tracks: TrackDataset, is_quiet: bool
) -> np.ndarray | None:
    """What a plain `pipeline` gives for each track, shape (tracks, labels).

    Of a song it is the mean over its excerpts. None if there is a clip that is too short or too
    long for one pass.
    """

    def score(i: int) -> np.ndarray | None:
        of_clips = [
            classify_in_one_pass(classifier.model, classifier.feature_extractor, waveform)
            for waveform in tracks.waveforms(i)
        ]
        return None if any(one is None for one in of_clips) else np.mean(of_clips, axis=0)

    rows = shared(len(tracks), score, "Scoring in one pass", is_quiet)
    return None if any(row is None for row in rows) else np.stack(rows)
