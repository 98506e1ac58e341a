"""The average of probe and fine-tuned model replaces the probe if it is better beyond chance."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertForSequenceClassification

from music_genre.training.checkpoints import LINEAR_PROBE
from music_genre.training.fallback import (
    load_linear_probe_if_not_beaten,
    read_choice,
    save_linear_probe,
)

N_CLIPS = 40
REFERENCES = np.arange(N_CLIPS) % 4


def tiny_trainer(folder) -> SimpleNamespace:
    """Its model's first bias says how the clips are classified; see `score`."""
    torch.manual_seed(0)
    config = HubertConfig(
        conv_dim=(8,) * 7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        classifier_proj_size=12, num_labels=4,
    )  # fmt: skip

    def score(clips: object) -> tuple[list[np.ndarray], np.ndarray]:
        return trainer.quality[float(trainer.model.classifier.bias[0].detach())], REFERENCES

    trainer = SimpleNamespace(
        args=SimpleNamespace(output_dir=str(folder)),
        accelerator=SimpleNamespace(unwrap_model=lambda model, **_: model),
        state=SimpleNamespace(global_step=80),
        is_world_process_zero=lambda: True,
        model=HubertForSequenceClassification(config).eval(),
        score=score,
    )
    set_bias(trainer, 0.0)
    return trainer


def set_bias(trainer: SimpleNamespace, value: float) -> None:
    with torch.no_grad():
        trainer.model.classifier.bias.fill_(value)


def predictions(right: np.ndarray, p: float = 0.7) -> list[np.ndarray]:
    """One window per clip, with the probability `p` for the right genre or for another one."""
    found = np.full((N_CLIPS, 4), (1 - p) / 3)
    found[np.arange(N_CLIPS), np.where(right, REFERENCES, (REFERENCES + 1) % 4)] = p
    return list(found[:, None])


EVEN = np.arange(N_CLIPS) % 2 == 0
ONE_MORE = EVEN | (np.arange(N_CLIPS) == 1)
FIRST_THIRD = np.arange(N_CLIPS) < 13


@pytest.mark.parametrize(
    ("fine_tuned", "artists", "is_kept"),
    [
        (EVEN, N_CLIPS, True),  # no better
        (ONE_MORE, N_CLIPS, True),  # better by one clip: chance
        (np.ones(N_CLIPS, bool), N_CLIPS, False),
        (EVEN & FIRST_THIRD, N_CLIPS, True),  # worse
        (EVEN | FIRST_THIRD, N_CLIPS, False),
        (EVEN | FIRST_THIRD, 3, True),  # better on the tracks of one artist of three
    ],
)
def test_the_linear_probe_is_kept_unless_it_is_beaten_beyond_chance(
    tmp_path, fine_tuned, artists, is_kept
):
    trainer = tiny_trainer(tmp_path)
    trainer.quality = {0.0: predictions(EVEN), 0.5: predictions(fine_tuned)}
    save_linear_probe(trainer, {"layers": 1})
    set_bias(trainer, 1.0)
    clips = SimpleNamespace(artists=[f"artist {i * artists // N_CLIPS}" for i in range(N_CLIPS)])
    found = load_linear_probe_if_not_beaten(trainer, clips)
    assert found["is_kept"] == is_kept
    assert found["layers"] == 1
    assert (found["fine_tuned_calibrated_loss"] < found["calibrated_loss"]) == (
        fine_tuned.sum() > EVEN.sum()
    )
    assert float(trainer.model.classifier.bias[0].detach()) == (0.0 if is_kept else 0.5)


def test_without_a_probe_the_fine_tuned_model_is_kept(tmp_path, capsys):
    trainer = tiny_trainer(tmp_path)
    set_bias(trainer, 1.0)
    assert load_linear_probe_if_not_beaten(trainer, None) is None
    assert float(trainer.model.classifier.bias[0].detach()) == 1.0
    reason = f"nor compared with the linear probe: {tmp_path / LINEAR_PROBE} is not there."
    assert reason in capsys.readouterr().out


def test_the_choice_is_read_again(tmp_path):
    assert read_choice(tmp_path) is None
    save_linear_probe(tiny_trainer(tmp_path), {"layers": 1, "C": 0.01})
    assert read_choice(tmp_path) == {"layers": 1, "C": 0.01}
