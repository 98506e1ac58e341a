"""The linear probe is first written as a complete model, which fine-tuning may then replace."""

import time

import pytest
import torch
from safetensors.torch import load_file

import train_hf
from music_genre.classifier import GenreClassifier
from music_genre.errors import InputError
from music_genre.training import averaging
from music_genre.training.seen import write_seen
from music_genre.training.trainer import GenreTrainer
from tests.training_runs import (
    RUN_FILES,
    check_pipeline,
    check_predictions,
    flags,
    read_report,
    train,
)

PROBE_FILES = RUN_FILES - {"learning_curves.png"}


@pytest.fixture
def options(prepared, pretrained, tmp_path) -> list[str]:
    augmented = {"speed_perturbation": True}
    return flags(prepared, pretrained, tmp_path / "run", from_scratch=False, **augmented)


def test_the_linear_probe_alone_is_a_complete_run_that_can_be_fine_tuned_later(
    options, prepared, tmp_path, monkeypatch, capsys
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    run_dir = tmp_path / "run"
    probe_alone = [*options, "--num_train_epochs", "0"]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(train_hf, "evaluate", stop)
        train(*probe_alone)
    assert "Linear probe on layer" in capsys.readouterr().out
    train(*probe_alone, "--resume_from_checkpoint", "last", with_pictures=True)
    with pytest.raises(InputError, match="to fine-tune its linear probe, add"):
        train(*probe_alone)
    assert {path.name for path in run_dir.iterdir()} >= PROBE_FILES
    report = read_report(run_dir)["train"]
    assert (report["steps"], report["best_step"], report["linear_probe"]["is_kept"]) == (0, 0, True)
    assert read_report(run_dir)["test"]["one_pass"]
    check_predictions(run_dir, prepared)
    check_pipeline(run_dir)
    card = (run_dir / "README.md").read_text()
    assert "Logistic regression (C = " in card
    assert "learning_curves.png" not in card
    assert "Seconds: preparation 0." in capsys.readouterr().out
    assert report["stages"].keys() == {"preparation", "scoring"}, "it is not fitted again"

    fine_tune = [*options, "--max_steps", "2", "--resume_from_checkpoint", "last"]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(GenreTrainer, "training_step", stop)
        train(*fine_tune)
    assert GenreClassifier(run_dir).labels, "the linear probe is still there"
    deadlines = []
    with monkeypatch.context() as patched:
        scoring = 7.0  # seconds, of the run that is resumed
        patched.setattr("music_genre.training.results.seconds_of_scoring", lambda folder: scoring)
        patched.setattr(averaging, "is_lower", lambda *_: False)
        stop_early = train_hf.StopEarly
        patched.setattr(
            train_hf,
            "StopEarly",
            lambda deadline: deadlines.append(deadline) or stop_early(deadline),
        )
        started = time.monotonic()
        train(*fine_tune, "--time_budget_minutes", "10")
    assert deadlines[0] == pytest.approx(started + 600 - 3 * scoring, abs=5)
    assert "Linear probe on layer" not in capsys.readouterr().out, "it is not fitted again"
    again = read_report(run_dir)["train"]
    assert (again["steps"], again["resumed_at_step"]) == (2, 0)
    assert again["linear_probe"]["C"] == report["linear_probe"]["C"]
    assert again["linear_probe"].keys() >= {"calibrated_loss", "fine_tuned_calibrated_loss"}
    probe, saved = (load_file(f / "model.safetensors") for f in (run_dir / "linear_probe", run_dir))
    assert again["linear_probe"]["is_kept"]
    assert torch.equal(saved["projector.weight"], probe["projector.weight"])
    with pytest.raises(InputError, match="is fine-tuned already: leave out --num_train_epochs 0"):
        train(*probe_alone, "--resume_from_checkpoint", "last")
    assert read_report(run_dir)["train"]["steps"] == 2
    write_seen({"another track"}, run_dir)
    with pytest.raises(InputError, match="was trained on other tracks"):
        train(*fine_tune)


def test_fine_tuning_starts_from_the_probe_as_it_was_before_calibration(options, tmp_path):
    run_dir = tmp_path / "run"
    train(*options, "--max_steps", "1", "--learning_rate", "1e-30", "--save_strategy", "steps",
          "--save_steps", "1")  # fmt: skip
    assert abs(read_report(run_dir)["temperature"] - 1) > 0.01, "otherwise this shows nothing"
    probe, trained = (
        load_file(run_dir / folder / "model.safetensors")
        for folder in ("linear_probe", "checkpoint-1")
    )
    assert all(torch.equal(probe[name], trained[name]) for name in probe)


def test_a_run_of_no_epochs_needs_a_linear_probe(options):
    with pytest.raises(InputError, match="and this one has none"):
        train(*options, "--num_train_epochs", "0", "--linear_probe", "False")
