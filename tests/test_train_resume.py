"""Runs that are stopped and resumed; what is in the folder of another run."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_hf
from music_genre.errors import InputError
from music_genre.training import averaging
from music_genre.training.checkpoints import (
    FINISHING,
    RESUME,
    hold_folder,
    move_into_place,
    steps_done,
)
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


def stop_by_sigterm(after: int, options: list[str], monkeypatch) -> None:
    """A run that gets the signal in the step after so many, and ends as a stopped process does."""
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stop:
        patched.setattr(GenreTrainer, "training_step", step_interrupted_after(after))
        train(*options)
    assert stop.value.code == 143


@pytest.fixture(scope="module")
def uninterrupted(prepared, tiny_config, tmp_path_factory) -> Path:
    """What the interrupted runs below have to end as: validation and a checkpoint each 3 steps."""
    output_dir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(*every_three_steps(prepared, tiny_config, output_dir))
    return output_dir


@pytest.mark.parametrize(("name", "steps_kept"), [("SIGKILL", 6), ("SIGTERM", 8)])
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    name, steps_kept, uninterrupted, prepared, tiny_config, tmp_path, monkeypatch, capsys
):
    """Data order, crops, optimiser and random numbers are taken up in the middle of an epoch."""
    output_dir = tmp_path / "resumed"
    options = every_three_steps(prepared, tiny_config, output_dir)
    if name == "SIGKILL":
        assert killed_in_step_8(options).returncode == -9
    else:
        stop_by_sigterm(7, options, monkeypatch)
        assert "Stopped after step 8; it is saved." in capsys.readouterr().out
    assert not (output_dir / "report.json").exists()
    train(*options, "--resume_from_checkpoint", "last")
    resumed, whole = read_report(output_dir), read_report(uninterrupted)
    assert resumed["train"]["resumed_at_step"] == steps_kept
    for split in ("validation", "test"):
        assert resumed[split] == whole[split]
    assert (output_dir / "predictions.csv").read_text() == (
        uninterrupted / "predictions.csv"
    ).read_text()


def test_a_resumed_run_keeps_the_layers_of_its_linear_probe(
    prepared, pretrained, tmp_path, monkeypatch, capsys
):
    def options(name: str) -> list[str]:
        augmented = {
            "from_scratch": False,
            "mixup": 0.4,
            "speed_perturbation": True,
            "spec_augment": True,
        }
        recipe = augmented | {"freeze_feature_encoder": True}
        return every_three_steps(prepared, pretrained, tmp_path / name, **recipe)

    stop_by_sigterm(7, options("stopped"), monkeypatch)
    capsys.readouterr()
    train(*options("stopped"), "--resume_from_checkpoint", "last")
    assert "Linear probe on layer" not in capsys.readouterr().out
    train(*options("whole"))
    assert "Linear probe on layer" in capsys.readouterr().out
    linear_probe = read_report(tmp_path / "whole")["train"]["linear_probe"]
    assert linear_probe["is_kept"] == (read_report(tmp_path / "whole")["train"]["best_step"] == 0)
    stopped, whole = read_report(tmp_path / "stopped"), read_report(tmp_path / "whole")
    assert stopped["train"]["resumed_at_step"] == 8
    assert stopped["validation"] == whole["validation"]
    check_predictions(tmp_path / "whole", prepared)
    check_pipeline(tmp_path / "whole")


def test_another_runs_folder_is_not_overwritten(tmp_path, prepared, tiny_config):
    (tmp_path / "report.json").write_text('{"is_synthetic": false}')
    with pytest.raises(InputError, match="holds another run"):
        train(*flags(prepared, tiny_config, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_run_that_still_works_is_no_earlier_run(tmp_path, prepared, tiny_config):
    (tmp_path / "report.json").write_text('{"is_synthetic": false}')
    with hold_folder(tmp_path), pytest.raises(InputError, match="still working"):
        train(*flags(prepared, tiny_config, tmp_path))


def test_who_stops_a_run_is_told_what_there_is(tmp_path):
    assert train_hf.what_is_left(None) == "Stopped: nothing was saved."
    assert train_hf.what_is_left(str(tmp_path)) == "Stopped: nothing was saved."
    (tmp_path / "checkpoint-3").mkdir()
    assert train_hf.what_is_left(str(tmp_path)) == f"Stopped. {RESUME}"
    (tmp_path / "report.json").write_text('{"seed": 0}')
    assert f"python app.py --model {tmp_path}" in train_hf.what_is_left(str(tmp_path))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
def test_a_new_run_does_not_overwrite_files_that_no_run_wrote(
    name, tmp_path, prepared, tiny_config
):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} that no run of this program wrote"):
        train(*flags(prepared, tiny_config, tmp_path))
    assert content_of(tmp_path) == {name: b"mine"}


def test_an_interrupted_replacement_is_not_a_finished_run(tmp_path, monkeypatch):
    """Weights of one run beside the report of another would be served as one model."""
    for name in ("model.safetensors", "report.json"):
        (tmp_path / name).write_text("old")
    replace = os.replace

    def killed_after_one(source: Path, target: Path) -> None:
        if any(path.read_text() == "new" for path in tmp_path.iterdir() if path.is_file()):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_after_one)
    (tmp_path / FINISHING).mkdir()
    for name in ("model.safetensors", "report.json"):
        (tmp_path / FINISHING / name).write_text("new")
    with pytest.raises(KeyboardInterrupt):
        move_into_place(tmp_path, True)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"model.safetensors"}


BEST = {"load_best_model_at_end": True}


def probe_options(prepared: Path, pretrained: Path, output_dir: Path, **more: object) -> list[str]:
    recipe = {"from_scratch": False, "max_steps": 4, "save_steps": 2, "eval_steps": 2} | more
    steps = {"eval_strategy": "steps", "save_strategy": "steps"}
    return flags(prepared, pretrained, output_dir, **steps | recipe)


@pytest.fixture(scope="module")
def finished(prepared, pretrained, tmp_path_factory) -> Path:
    """A run of four steps, of which the second was the best; with its linear probe."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(GenreTrainer, "evaluate", evaluation_favouring(2))
        train(*probe_options(prepared, pretrained, folder, **BEST))
    return folder


@pytest.fixture
def one(finished, tmp_path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(finished, tmp_path / "one"))


def test_a_run_resumes_in_another_folder(one, prepared, pretrained, tmp_path, monkeypatch):
    """With the linear probe and the best checkpoint of the folder that it comes from.

    The weights of the two are averaged where fine-tuning is better.
    """
    monkeypatch.setattr(GenreTrainer, "evaluate", evaluation_favouring(2))
    monkeypatch.setattr(averaging, "is_lower", lambda *_: True)
    (tmp_path / "other").mkdir()
    options = probe_options(prepared, pretrained, tmp_path / "other", max_steps=6, **BEST)
    train(*options, "--resume_from_checkpoint", one / "checkpoint-4")
    report = read_report(tmp_path / "other")["train"]
    assert report["steps"] == 6
    assert report["best_step"] == 2
    assert not report["linear_probe"]["is_kept"]
    check_saved_is_average(tmp_path / "other", one / "checkpoint-2")


def check_saved_is_average(run_dir: Path, checkpoint: Path) -> None:
    """Of the checkpoint and the linear probe."""
    fine_tuned, probe, saved = (
        load_file(folder / "model.safetensors")["projector.weight"]
        for folder in (checkpoint, run_dir / "linear_probe", run_dir)
    )
    assert not torch.equal(fine_tuned, probe)
    torch.testing.assert_close(saved, (fine_tuned + probe) / 2)


def test_a_lone_checkpoint_can_be_resumed(one, prepared, pretrained, tmp_path, monkeypatch, capsys):
    """Without the probe and the best checkpoint of its run: later steps alone compete."""
    monkeypatch.setattr(GenreTrainer, "evaluate", evaluation_favouring(2))
    lone = (one / "checkpoint-4").rename(tmp_path / "lone")
    shutil.rmtree(one)
    options = probe_options(prepared, pretrained, tmp_path / "other", max_steps=8, **BEST)
    train(*options, "--resume_from_checkpoint", lone)
    output = capsys.readouterr().out
    assert "checkpoint-2, is gone: only later ones compete." in output
    assert "nor compared with the linear probe" in output
    report = read_report(tmp_path / "other")["train"]
    assert report["best_step"] == 6
    assert report["linear_probe"] is None


@pytest.mark.parametrize("change", ["per_device_train_batch_size", "gradient_accumulation_steps"])
def test_a_run_is_not_resumed_with_other_steps_in_an_epoch(change, one, prepared, pretrained):
    """Twice the batch: the Trainer took the run for finished, and made no step."""
    options = probe_options(prepared, pretrained, one, **{change: 16})
    with pytest.raises(InputError, match=r"steps an epoch, and this run would make \d+: resume"):
        train(*options, "--resume_from_checkpoint", "last")


def test_a_run_in_fp16_is_resumed_in_fp16_alone(tmp_path):
    """The Trainer ended in a traceback."""
    torch.save({"scale": 65536.0}, tmp_path / "scaler.pt")
    (tmp_path / "trainer_state.json").write_text('{"global_step": 20, "epoch": 2.0}')
    assert steps_done(str(tmp_path), "fp16", 10) == 20
    with pytest.raises(InputError, match="was trained in fp16, and this run would use bf16"):
        steps_done(str(tmp_path), "bf16", 10)


def test_another_runs_checkpoints_are_not_mixed_with_those_of_a_resumed_one(
    one, prepared, pretrained, tmp_path
):
    (tmp_path / "other" / "checkpoint-9").mkdir(parents=True)
    options = probe_options(prepared, pretrained, tmp_path / "other")
    with pytest.raises(InputError, match="holds another run"):
        train(*options, "--resume_from_checkpoint", one / "checkpoint-4")


@pytest.mark.parametrize("validates", [True, False])
def test_the_last_weights_are_averaged_with_the_linear_probe(
    validates, prepared, pretrained, tmp_path, monkeypatch
):
    """Also where validation found an earlier step better."""
    monkeypatch.setattr(GenreTrainer, "evaluate", evaluation_favouring(2))
    monkeypatch.setattr(averaging, "is_lower", lambda *_: True)
    options = {"from_scratch": False, "max_steps": 4, "eval_strategy": "no"}
    if validates:
        options |= {"eval_strategy": "steps", "eval_steps": 2}
    train(*flags(prepared, pretrained, tmp_path, **options))
    assert not read_report(tmp_path)["train"]["linear_probe"]["is_kept"]
    check_saved_is_average(tmp_path, tmp_path / "checkpoint-4")


# --- stopped early: validated and saved once ------------------------------------------------


@pytest.fixture
def saves(monkeypatch) -> list[int]:
    """The steps at which a checkpoint is written, in order."""
    steps: list[int] = []
    save = GenreTrainer._save_checkpoint

    def count(self, *args, **kwargs):
        steps.append(self.state.global_step)
        os.kill(os.getpid(), signal.SIGTERM) if self.state.global_step == 6 else None
        return save(self, *args, **kwargs)

    monkeypatch.setattr(GenreTrainer, "_save_checkpoint", count)
    return steps


def validated(checkpoint: Path) -> list[int]:
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [entry["step"] for entry in history if "eval_loss" in entry]


@pytest.mark.parametrize(("after", "steps"), [(3, [4]), (9, [10])])
def test_sigterm_saves_once_and_validates_complete_epochs_only(
    after, steps, saves, prepared, tiny_config, tmp_path, monkeypatch
):
    stop_by_sigterm(after, flags(prepared, tiny_config, tmp_path / "run"), monkeypatch)
    assert saves == steps
    checkpoint = tmp_path / "run" / f"checkpoint-{after + 1}"
    assert validated(checkpoint) == ([10] if after == 9 else [])


def test_a_second_sigterm_does_not_tear_the_checkpoint(
    saves, prepared, tiny_config, tmp_path, monkeypatch
):
    """`saves` sends it while checkpoint 6 is written."""
    options = flags(prepared, tiny_config, tmp_path / "run", num_train_epochs=1)
    stop_by_sigterm(5, options, monkeypatch)
    assert saves == [6]
    train(*options, "--resume_from_checkpoint", "last")
    assert read_report(tmp_path / "run")["train"]["resumed_at_step"] == 6


def test_a_budget_ends_the_run_with_its_model_scored(saves, prepared, tiny_config, tmp_path):
    options = flags(prepared, tiny_config, tmp_path / "run", num_train_epochs=1000)
    train(*options, "--time_budget_minutes", 0.001)
    report = read_report(tmp_path / "run")
    assert report["train"]["stopped_by_budget"]
    assert report["train"]["steps"] == 1
    assert saves == [1]
    assert validated(tmp_path / "run" / "checkpoint-1") == [1]
    assert report["test"]["n"] == 10


def test_there_must_be_a_checkpoint_to_resume_from(tmp_path, prepared, tiny_config):
    options = flags(prepared, tiny_config, tmp_path / "none")
    with pytest.raises(InputError, match="no complete checkpoint"):
        train(*options, "--resume_from_checkpoint", "last")
    with pytest.raises(InputError, match="is not a checkpoint to resume from"):
        train(*options, "--resume_from_checkpoint", tmp_path)
