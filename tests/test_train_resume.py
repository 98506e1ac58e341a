"""Runs that are stopped and resumed, and the folders of other runs."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from music_genre.errors import InputError
from music_genre.training import averaging
from music_genre.training.checkpoints import find_checkpoint
from music_genre.training.trainer import GenreTrainer
from tests.training_runs import (
    check_pipeline,
    check_predictions,
    evaluation_favouring,
    every_three_steps,
    flags,
    killed_in_step_8,
    read_report,
    step_interrupted_after,
    train,
)

AUGMENTED = {
    "from_scratch": False, "freeze_feature_encoder": True,
    "mixup": 0.4, "speed_perturbation": True, "spec_augment": True,
}  # fmt: skip
LAST = ("--resume_from_checkpoint", "last")


def stop(after: int, options: list[str], monkeypatch, number: int = signal.SIGTERM) -> None:
    """Run training, send the signal in the step after `after`, and check the exit code."""
    before = signal.getsignal(number)
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stopped:
        patched.setattr(GenreTrainer, "training_step", step_interrupted_after(after, number))
        train(*options)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) == before


@pytest.fixture(scope="module")
def uninterrupted(prepared, pretrained, tmp_path_factory) -> Path:
    """Ten steps from a linear probe, with validation and a checkpoint every three steps."""
    output_dir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(*every_three_steps(prepared, pretrained, output_dir, **AUGMENTED))
    return output_dir


def test_a_run_that_was_killed_and_stopped_ends_like_an_uninterrupted_one(
    uninterrupted, prepared, pretrained, tmp_path, monkeypatch, capsys
):
    """Layers of the probe, data order, crops, optimiser and random numbers continue.

    The run stops in the middle of an epoch.
    """
    output_dir = tmp_path / "resumed"
    options = every_three_steps(prepared, pretrained, output_dir, **AUGMENTED)
    killed = killed_in_step_8(options)
    assert killed.returncode == -9, killed.stderr
    assert not (output_dir / "checkpoint-8").exists()
    stop(7, [*options, *LAST], monkeypatch)
    assert "Stopped after step 8; it is saved." in capsys.readouterr().out
    assert read_report(output_dir)["train"]["steps"] == 0, "it is that of the linear probe"
    assert len(list(output_dir.glob("checkpoint-*"))) == 2, "the newest may not be complete"
    train(*options, *LAST)
    assert "Linear probe on layer" not in capsys.readouterr().out, "it is not fitted again"
    resumed, whole = read_report(output_dir), read_report(uninterrupted)
    assert resumed["train"]["resumed_at_step"] == 8
    probes = [report["train"]["linear_probe"] for report in (resumed, whole)]
    assert probes[0] == probes[1]
    assert probes[0]["is_kept"] == (whole["train"]["best_step"] == 0)
    for split in ("validation", "test"):
        assert resumed[split] == whole[split]
    last = [load_file(f / "checkpoint-10/model.safetensors") for f in (output_dir, uninterrupted)]
    assert all(torch.equal(tensor, last[1][name]) for name, tensor in last[0].items())
    check_predictions(output_dir, prepared)
    check_pipeline(output_dir)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--gradient_accumulation_steps", 2, "crops_per_step 16, and crops_per_step is 32 now"),
        ("--learning_rate", 1e-3, "learning_rate 0.01, and learning_rate is 0.001 now"),
        ("--model_name_or_path", "configs/tiny-hubert", "model_name_or_path is tiny-hubert now"),
    ],
)
def test_a_run_is_resumed_with_the_options_it_started_with(
    option, value, said, uninterrupted, pretrained, tmp_path
):
    """The report had the new learning rate, which the Trainer did not use. Another model was a

    traceback. With twice the batch, the Trainer took the run for finished.
    """
    there = shutil.copytree(uninterrupted, tmp_path / "run")
    options = every_three_steps("no dataset", pretrained, there, **AUGMENTED)
    with pytest.raises(InputError, match=said):
        train(*options, *LAST, option, value)  # before the preparation


def test_fine_tuning_may_have_another_recipe_than_the_linear_probe(
    uninterrupted, prepared, pretrained, tmp_path
):
    for name in ("linear_probe", "options.json"):
        copy = shutil.copytree if name == "linear_probe" else shutil.copy
        (tmp_path / "run").mkdir(exist_ok=True)
        copy(uninterrupted / name, tmp_path / "run" / name)
    options = every_three_steps(prepared, pretrained, tmp_path / "run", **AUGMENTED)
    with pytest.raises(InputError, match=r"window_seconds 1\.0, and window_seconds is 2\.0 now"):
        train(*options, *LAST, "--window_seconds", "2")
    train(*options, *LAST, "--learning_rate", "0.001", "--max_steps", "3")
    assert read_report(tmp_path / "run")["train"]["recipe"]["learning rate"] == 0.001
    assert json.loads((tmp_path / "run" / "options.json").read_text())["learning_rate"] == 0.001


def test_another_runs_folder_is_not_overwritten(tmp_path, prepared, tiny_config):
    (tmp_path / "report.json").write_text('{"is_synthetic": false}')
    with pytest.raises(InputError, match=r"has report\.json in it"):
        train(*flags("no dataset", tiny_config, tmp_path))  # the folder is checked first
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_the_last_weights_are_averaged_with_the_linear_probe(
    prepared, pretrained, tmp_path, monkeypatch
):
    """This is also the case if validation found an earlier step better."""
    monkeypatch.setattr(GenreTrainer, "evaluate", evaluation_favouring(2))
    monkeypatch.setattr(averaging, "is_lower", lambda *_: True)
    options = {"from_scratch": False, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    train(*flags(prepared, pretrained, tmp_path, **options))
    assert not read_report(tmp_path)["train"]["linear_probe"]["is_kept"]
    fine_tuned, probe, saved = (
        load_file(folder / "model.safetensors")["projector.weight"]
        for folder in (tmp_path / "checkpoint-4", tmp_path / "linear_probe", tmp_path)
    )
    assert not torch.equal(fine_tuned, probe)
    torch.testing.assert_close(saved, (fine_tuned + probe) / 2)


# --- stopped early: validated and saved once ------------------------------------------------


@pytest.fixture
def saves(monkeypatch) -> list[int]:
    """The steps at which a checkpoint is written, in order."""
    steps: list[int] = []
    save = GenreTrainer._save_checkpoint

    def count(self, *args, **kwargs):
        steps.append(self.state.global_step)
        os.kill(os.getpid(), signal.SIGTERM) if self.state.global_step in (6, 10) else None
        return save(self, *args, **kwargs)

    monkeypatch.setattr(GenreTrainer, "_save_checkpoint", count)
    return steps


def validated(checkpoint: Path) -> list[int]:
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [entry["step"] for entry in history if "eval_loss" in entry]


@pytest.mark.parametrize(
    ("after", "number", "validates"), [(5, signal.SIGTERM, []), (9, signal.SIGINT, [10])]
)
def test_a_signal_saves_once_and_validates_complete_epochs_only(
    after, number, validates, saves, prepared, tiny_config, tmp_path, monkeypatch
):
    """`saves` sends SIGTERM again while checkpoint 6 is written, which must not break it."""
    run_dir = tmp_path / "run"
    stop(after, flags(prepared, tiny_config, run_dir), monkeypatch, number)
    assert saves == [after + 1]
    checkpoint = run_dir / f"checkpoint-{after + 1}"
    assert validated(checkpoint) == validates
    assert find_checkpoint(run_dir, "last") == str(checkpoint)


def test_a_budget_ends_the_run_with_its_model_scored(saves, prepared, tiny_config, tmp_path):
    options = flags(prepared, tiny_config, tmp_path / "run", num_train_epochs=1000)
    train(*options, "--time_budget_minutes", 0.001)
    report = read_report(tmp_path / "run")
    assert report["train"]["stopped_by_budget"]
    assert report["train"]["steps"] == 1
    assert saves == [1]
    assert validated(tmp_path / "run" / "checkpoint-1") == [1]
    assert report["test"]["n"] == 10
