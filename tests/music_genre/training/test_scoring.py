"""Which clips, and how much of them, the figures of a finished model come from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset

from music_genre import old_audio as audio
from music_genre.evaluation.calibration import fit_temperature
from music_genre.evaluation.metrics import SHORT_SECONDS
from music_genre.training import scoring
from music_genre.training.clips import ClipDataset

RATE = audio.SAMPLING_RATE


def clips(seconds: float, n: int = 20) -> ClipDataset:
    wav = audio.wav_bytes(audio.to_pcm16(np.zeros(int(seconds * RATE), np.float32)))
    rows = {"audio": [{"bytes": wav}] * n, "genre": [0, 1] * (n // 2), "track_id": range(n)}
    return ClipDataset(Dataset.from_dict(rows), RATE)


class FakeTrainer:
    """Its answers tell what it was given: wrong on short clips, surer on 7 s than on 6 s."""

    def __init__(self) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        model.config = SimpleNamespace(num_labels=2)
        self.model, self.before = model, model[0].weight.detach().clone()
        self.accelerator = SimpleNamespace(unwrap_model=lambda model: model)

    def score(self, dataset: ClipDataset) -> tuple[list[np.ndarray], np.ndarray]:
        probabilities = []
        for i in range(len(dataset)):
            item = dataset[i]
            n_seconds = len(item["windows"])
            sure = {SHORT_SECONDS: 0.1, 6: 0.6, 7: 0.99}[n_seconds]
            answer = [1 - sure, 1 - sure]
            answer[item["label"]] = sure
            probabilities.append(np.tile(answer, (n_seconds, 1)))
        return probabilities, np.array(dataset.clips["genre"])


@pytest.fixture
def scored(monkeypatch):
    monkeypatch.setattr(scoring, "one_pass_probabilities", lambda *_: None)
    trainer = FakeTrainer()
    given = {"validation": clips(6), "test": clips(7)}
    return trainer, given, *scoring.evaluate(trainer, given)


def test_the_temperature_is_fitted_on_validation(scored):
    trainer, given, _, temperature = scored
    assert temperature == pytest.approx(fit_temperature(*trainer.score(given["validation"])))
    assert temperature != pytest.approx(fit_temperature(*trainer.score(given["test"])), rel=0.05)
    torch.testing.assert_close(trainer.model[0].weight, trainer.before / temperature)


def test_the_short_score_is_of_two_seconds_and_the_other_of_whole_clips(scored):
    *_, scores, _ = scored
    for score in scores.values():
        is_right, is_right_if_short = (
            (probabilities.argmax(-1) == score.references).mean()
            for probabilities in (score.probabilities, score.short_probabilities)
        )
        assert (is_right, is_right_if_short) == (1, 0)
