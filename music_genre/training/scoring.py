"""The figures of a finished model: every clip whole, its middle only, and in one pass.

Probabilities are calibrated on validation first; what is scored is the model as it is saved.
"""

import numpy as np
from accelerate.utils import gather_object

from music_genre import old_audio as audio
from music_genre.evaluation.calibration import fit_temperature, fold_temperature, with_temperature
from music_genre.evaluation.metrics import SHORT_SECONDS, SplitScore
from music_genre.evaluation.one_pass import classify_in_one_pass
from music_genre.training.clips import ClipDataset
from music_genre.training.trainer import ClipTrainer


def evaluate(
    trainer: ClipTrainer, datasets: dict[str, ClipDataset], in_one_pass: bool = True
) -> tuple[dict[str, SplitScore | None], float]:
    """Fit the temperature on validation, fold it into the model, score validation and test.

    Args:
        datasets: `validation`, which must not be empty, and `test`.
        in_one_pass: also score what a plain `pipeline` gives, which takes as long again.

    Returns:
        The scores (None for an empty split), and the temperature.
    """
    whole = {name: trainer.score(datasets[name]) for name in datasets if len(datasets[name])}
    short = {name: trainer.score(datasets[name].middle(SHORT_SECONDS)) for name in whole}
    temperature = fit_temperature(*whole["validation"])
    fold_temperature(trainer.accelerator.unwrap_model(trainer.model), temperature)
    scores: dict[str, SplitScore | None] = dict.fromkeys(datasets)
    for name, (window_probabilities, references) in whole.items():
        scores[name] = SplitScore(
            datasets[name].of_tracks("track_id"),
            datasets[name].artists,
            references,
            with_temperature(window_probabilities, temperature),
            with_temperature(short[name][0], temperature),
            one_pass_probabilities(trainer, datasets[name]) if in_one_pass else None,
        )
    return scores, temperature


def one_pass_probabilities(trainer: ClipTrainer, dataset: ClipDataset) -> np.ndarray | None:
    """What a plain `pipeline` gives for each track, shape (tracks, labels); by all processes.

    Of a song it is the mean over its excerpts.

    None if there is a clip that is too short or too long for one pass.
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    column = dataset.clips["audio"]
    found = []
    with trainer.accelerator.split_between_processes(list(range(len(dataset)))) as indices:
        for i in indices:
            of_clips = []
            for row in dataset.tracks[i]:
                waveform = audio.read_wav(column[row]["bytes"])
                of_clips.append(classify_in_one_pass(model, trainer.processing_class, waveform))
            is_missing = any(one is None for one in of_clips)
            found.append((i, None if is_missing else np.mean(of_clips, axis=0)))
    by_clip = dict(gather_object(found))
    rows = [by_clip[i] for i in range(len(dataset))]
    return None if any(row is None for row in rows) else np.stack(rows)
