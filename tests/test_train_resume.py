"""Runs that are stopped and resumed; what is in the folder of another run."""

from pathlib import Path

import pytest

from music_genre.errors import InputError
from tests.training_runs import (
    check_pipeline,
    check_predictions,
    every_five_steps,
    flags,
    interrupted_by,
    read_report,
    train,
)


@pytest.fixture(scope="module")
def uninterrupted(prepared, tiny_config, tmp_path_factory) -> Path:
    """What the interrupted runs below have to end as: validation and a checkpoint each 5 steps."""
    output_dir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(*every_five_steps(prepared, tiny_config, output_dir))
    return output_dir


@pytest.mark.parametrize(
    ("name", "code", "steps_kept"), [("SIGKILL", -9, 25), ("SIGTERM", 143, 28)]
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    name, code, steps_kept, uninterrupted, prepared, tiny_config, tmp_path
):
    """Data order, crops, optimiser and random numbers are taken up in the middle of an epoch."""
    output_dir = tmp_path / "resumed"
    options = every_five_steps(prepared, tiny_config, output_dir)
    stopped = interrupted_by(name, options)
    assert stopped.returncode == code, stopped.stderr[-3000:]
    assert not (output_dir / "report.json").exists()
    if name == "SIGTERM":
        assert "Stopped by SIGTERM after step 28; it is saved." in stopped.stdout
        assert "Traceback" not in stopped.stderr
    train(*options, "--resume_from_checkpoint", "last")
    resumed, whole = read_report(output_dir), read_report(uninterrupted)
    assert resumed["train"]["resumed_at_step"] == steps_kept
    for split in ("validation", "test"):
        assert resumed[split] == whole[split]
    assert (output_dir / "predictions.csv").read_text() == (
        uninterrupted / "predictions.csv"
    ).read_text()


def test_a_resumed_run_keeps_the_layers_of_its_linear_probe(prepared, pretrained, tmp_path, capsys):
    def options(name: str) -> list[str]:
        augmented = {
            "from_scratch": False,
            "mixup": 0.4,
            "speed_perturbation": True,
            "spec_augment": True,
        }
        recipe = augmented | {"freeze_feature_encoder": True, "num_train_epochs": 3}
        return every_five_steps(prepared, pretrained, tmp_path / name, **recipe)

    assert interrupted_by("SIGTERM", options("stopped")).returncode == 143
    train(*options("stopped"), "--resume_from_checkpoint", "last")
    assert "Linear probe on layer" not in capsys.readouterr().out
    train(*options("whole"))
    assert "Linear probe on layer" in capsys.readouterr().out
    linear_probe = read_report(tmp_path / "whole")["train"]["linear_probe"]
    assert linear_probe["is_kept"] == (read_report(tmp_path / "whole")["train"]["best_step"] == 0)
    stopped, whole = read_report(tmp_path / "stopped"), read_report(tmp_path / "whole")
    assert stopped["train"]["resumed_at_step"] == 28
    assert stopped["validation"] == whole["validation"]
    check_predictions(tmp_path / "whole", prepared)
    check_pipeline(tmp_path / "whole")


def test_another_runs_folder_is_not_overwritten(tmp_path, prepared, tiny_config):
    (tmp_path / "report.json").write_text('{"is_synthetic": false}')
    with pytest.raises(InputError, match="holds another run"):
        train(*flags(prepared, tiny_config, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_demonstration_may_be_repeated(tmp_path, prepared, tiny_config):
    """The first run's checkpoints, of later steps, must not get in the way of the second's."""
    output_dir = tmp_path / "again"
    train(*flags(prepared, tiny_config, output_dir, num_train_epochs=2))
    train(*flags(prepared, tiny_config, output_dir, num_train_epochs=1))
    assert read_report(output_dir)["train"]["steps"] == 10
    assert [path.name for path in output_dir.glob("checkpoint-*")] == ["checkpoint-10"]


def test_there_must_be_a_checkpoint_to_resume_from(tmp_path, prepared, tiny_config):
    options = flags(prepared, tiny_config, tmp_path / "none")
    with pytest.raises(InputError, match="no checkpoint"):
        train(*options, "--resume_from_checkpoint", "last")
    with pytest.raises(InputError, match="is no checkpoint to go on from"):
        train(*options, "--resume_from_checkpoint", tmp_path)
