"""The arguments of train_hf.py: its help, which of them win, and what is refused."""

import json
import re
from dataclasses import fields

import numpy as np
import pytest
from transformers import TrainingArguments

from music_genre.errors import InputError
from music_genre.training.arguments import (
    METRICS,
    REFUSED_OPTIONS,
    ModelArguments,
    RecipeArguments,
    parse_arguments,
)
from music_genre.training.trainer import validation_metrics


def error_of(argv: list, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_arguments([str(text) for text in argv])
    assert stop.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: train_hf.py ")
    return error


def test_help_shows_what_a_run_without_a_file_takes(capsys):
    """It said mixup 0.0 and no augmentation, and configs/gtzan.json has both."""
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option, default in (("mixup", "0.4"), ("spec_augment", "True"), ("learning_rate", "3e-05")):
        assert re.search(rf"--{option} .*?\(default: {default}\)", text), option


def test_a_process_uses_one_gpu(monkeypatch):
    """With two the Trainer's DataParallel would multiply the loss."""
    *_, recipe = parse_arguments(["configs/gtzan.json", "--use_cpu"])
    monkeypatch.setattr(recipe, "_n_gpu", 2)
    assert recipe.n_gpu == 1
    assert recipe.train_batch_size == recipe.per_device_train_batch_size
    assert recipe.dataloader_num_workers == 0, "they are to keep a GPU busy"


def test_flags_win_over_the_json_file():
    data, model, recipe = parse_arguments(
        ["configs/gtzan.json", "--learning_rate", "0.5", "--use_cpu", "--window_seconds", "30"]
    )
    assert model.window_seconds == 30
    assert data.split is None
    assert model.model_name_or_path == "ntu-spml/distilhubert"
    assert recipe.learning_rate == 0.5
    assert recipe.eval_strategy == "epoch"
    assert recipe.output_dir is None, "and not the Trainer's own"


@pytest.mark.parametrize("config", ["gtzan.json", "gtzan-ast.json"])
def test_the_base_models_of_configs_are_at_a_fixed_commit(config, root):
    path = str(root / "configs" / config)
    options = ([], ["--revision", "main"], ["--model_name_or_path", "other/model"])
    fixed, newest, other = (parse_arguments([path, *more])[1].revision for more in options)
    assert re.fullmatch("[0-9a-f]{40}", fixed)
    assert (newest, other) == ("main", None)


def test_a_folder_with_the_name_of_a_base_model_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ntu-spml" / "distilhubert").mkdir(parents=True)
    assert ModelArguments().revision is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rat", "1"], "--learning_rat is not an option; --help lists them"),
        (["--hub_tokn=hf_secret"], "error: --hub_tokn is not an option; --help lists them"),
        (["--learning_rate", "fast"], "invalid float value"),
        (["nowhere.json"], "nowhere.json is neither an option nor a file with a JSON object"),
        (["README.md"], "README.md is neither an option nor a file with a JSON object"),
        (["--seed", "1", "a.json"], "a.json is not an option"),
        (["--bf16", "--fp16", "--job", "t4-small"], "At most one of fp16 and bf16 can be True"),
        (["--fp16", "--use_cpu"], "fp16 needs a GPU"),
        (["--seeds", "3", "--output_dir", "x"], "--seeds takes two or more different numbers"),
        (["--seeds", "3", "3", "--output_dir", "x"], "--seeds takes two or more different"),
        (["--seeds", "0", "1"], "and an --output_dir"),
        (["--window_seconds", "nan"], "--window_seconds must be 0.5 to 60"),
        (["--mixup", "nan"], "--mixup must be 0 or more, not nan"),
        (["--num_train_epochs", "-3"], "--num_train_epochs must be 0 or more, not -3"),
        (["--per_device_eval_batch_size", "0"], "must be 1 or more, not 0"),
        (["--metric_for_best_model", "f1"], "must be one of calibrated_loss"),
        (["--genre_from", "names"], "invalid choice: 'names'"),
        (["--load_best_model_at_end", "True", "--eval_strategy", "no"], "--load_best_model_at_end"),
    ],
)
def test_a_wrong_argument_is_one_line_under_the_usage(argv, message, capsys, root, monkeypatch):
    monkeypatch.chdir(root)
    assert message in error_of(argv, capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"learning_rates": 1}, "mine.json is not an option; --help lists them"),
        ({"hub_token": "hf_secret"}, "--hub_token cannot be set"),
        ({"eval_strategy": "sometimes"}, "sometimes is not a valid IntervalStrategy"),
        ({"learning_rate": "fast"}, "invalid float value"),
        ({"learning_rate": [1]}, "list"),
        ({"per_device_train_batch_size": 8.5}, "invalid int value"),
        ([1], "neither an option nor a file with a JSON object"),
    ],
)
def test_values_in_json_are_checked_as_flags_are(content, message, tmp_path, capsys):
    config = tmp_path / "mine.json"
    config.write_text(json.dumps(content))
    assert message in error_of([config], capsys)


def test_values_of_all_kinds_are_read_from_json(tmp_path):
    config = tmp_path / "mine.json"
    config.write_text(
        json.dumps(
            {
                "seeds": [3, 4], "output_dir": "x", "mixup": 1, "linear_probe": False,
                "save_total_limit": None, "learning_rate": 1e-3, "use_cpu": True,
                "lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-5},
            }
        )
    )  # fmt: skip
    _, model, recipe = parse_arguments([str(config), "--mixup", "0.5", "--seeds", "5", "6"])
    assert (recipe.seeds, recipe.mixup, recipe.learning_rate) == ([5, 6], 0.5, 1e-3)
    assert recipe.save_total_limit is None
    assert recipe.lr_scheduler_kwargs == {"min_lr": 1e-5}
    assert not model.linear_probe


@pytest.mark.parametrize(
    ("argv", "launched_with", "precision", "reason"),
    [
        (["--bf16"], "no", "bf16", "asked for"),
        ([], "bf16", "bf16", "asked for by accelerate launch"),
        (["--bf16", "False"], "bf16", "fp32", "asked for"),
        (["configs/quickstart.json"], "bf16", "fp32", "asked for"),
        (["configs/quickstart.json", "--bf16"], "no", "bf16", "asked for"),
        (["--fp16", "--job", "t4-small"], "no", "fp16", "asked for"),  # this machine needs no GPU
    ],
)
def test_what_is_asked_for_is_the_precision(argv, launched_with, precision, reason, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched_with)
    *_, recipe = parse_arguments([*argv, "--use_cpu"])
    assert (recipe.precision, recipe.precision_reason) == (precision, reason)
    assert recipe.bf16 == (precision == "bf16")
    assert recipe.mixed_precision == {"fp32": "no"}.get(precision, precision)


# --- the Trainer's options ------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REFUSED_OPTIONS))
def test_an_option_that_would_corrupt_a_run_is_refused_with_its_reason(name):
    with pytest.raises(InputError) as error:
        RecipeArguments("out", use_cpu=True, **{name: "hf_x" if name == "hub_token" else True})
    assert str(error.value) == f"--{name} cannot be set. {REFUSED_OPTIONS[name]}"


def test_only_options_of_the_trainer_are_refused():
    assert {option.name for option in fields(TrainingArguments)} >= REFUSED_OPTIONS.keys()
    assert len(REFUSED_OPTIONS) < 12


def test_a_run_makes_nothing_on_the_hub_that_is_not_named():
    recipe = RecipeArguments("out", use_cpu=True)
    assert recipe.trackio_static_space_id is False
    assert recipe.hub_private_repo is True
    assert not recipe.push_to_hub


def test_every_metric_that_may_choose_the_best_checkpoint_is_measured():
    probabilities = [np.array([[0.9, 0.1]]), np.array([[0.2, 0.8]])]
    for way in ({"save_strategy": "best"}, {"load_best_model_at_end": True}):
        best = RecipeArguments("out", use_cpu=True, **way)
        assert best.metric_for_best_model == "calibrated_loss"
    assert set(METRICS) <= validation_metrics(probabilities, np.array([0, 1])).keys()
