"""The saved model is the best checkpoint, tensor by tensor, for every family the README names.

transformers renames the tensors of some families when it saves and loads them. The same with two
processes is in test_train_processes.py.
"""

import pytest
import torch
from safetensors.torch import load_file

from music_genre.training.trainer import ClipTrainer
from tests.families import FAMILIES, four_steps
from tests.training_runs import (
    check_saved_is_best,
    evaluation_favouring,
    step_interrupted_after,
    train,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_model_is_the_best_checkpoint_also_after_sigterm(
    family, prepared, tmp_path, monkeypatch
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    monkeypatch.setattr(ClipTrainer, "evaluate", evaluation_favouring(2))
    train(*four_steps(family, prepared, tmp_path, whole))
    check_saved_is_best(whole, best=2, last=4)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stop:
        patched.setattr(ClipTrainer, "training_step", step_interrupted_after(2))
        train(*four_steps(family, prepared, tmp_path, stopped))
    assert stop.value.code == 143
    train(*four_steps(family, prepared, tmp_path, stopped), "--resume_from_checkpoint", "last")
    check_saved_is_best(stopped, best=2, last=4)
    last, resumed = (
        load_file(folder / "checkpoint-4" / "model.safetensors") for folder in (whole, stopped)
    )
    assert [name for name in last if not torch.equal(last[name], resumed[name])] == []
