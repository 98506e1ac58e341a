"""The arguments of train_hf.py: its help, which of them win, and what is refused."""

import json
import re
import subprocess
import sys
from dataclasses import fields

import pytest

from music_genre.training.arguments import parse_arguments
from music_genre.training.options import (
    OF_THE_TRAINER,
    DataArguments,
    ModelArguments,
    RecipeOptions,
)


def run_without_torch(root, *argv) -> subprocess.CompletedProcess:
    code = f"""
import runpy, sys
sys.argv = ["train_hf.py", *{argv!r}]
try:
    runpy.run_path({str(root / "train_hf.py")!r}, run_name="__main__")
finally:
    assert not {{"torch", "datasets"}} & set(sys.modules)
"""
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)


def test_help_has_all_our_options_and_does_not_wait_for_torch(root):
    result = run_without_torch(root, "configs/gtzan.json", "--help")
    assert result.returncode == 0, result.stderr
    for group in (DataArguments, ModelArguments, RecipeOptions):
        for option in fields(group):
            assert f"--{option.name} " in result.stdout
    assert "up to 15 percent" in result.stdout
    assert "no_linear_probe" not in result.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--dataset", "data/nothere"],
            "There is no file or folder data/nothere, and a dataset on the Hub is named USER/NAME.",
        ),
        (
            ["--window_seconds", "0"],
            "--window_seconds must be 0.5 or more and at most 60, not 0.0.",
        ),
    ],
)
def test_what_is_wrong_at_once_is_said_without_waiting_for_torch(argv, message, root):
    result = run_without_torch(root, *argv)
    assert result.returncode == 2
    assert result.stderr == f"error: {message}\n"


def test_a_process_uses_one_gpu(monkeypatch):
    """On a machine with two, `python train_hf.py` got a DataParallel and ended in an error."""
    *_, recipe = parse_arguments(["configs/gtzan.json", "--use_cpu"])
    monkeypatch.setattr(recipe, "_n_gpu", 2)
    assert recipe.n_gpu == 1
    assert recipe.train_batch_size == recipe.per_device_train_batch_size


def test_options_that_help_recommends_are_there(capsys):
    recommended = set(re.findall(r"--(\w+)", OF_THE_TRAINER)) - {"help_all"}
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--help_all"])
    assert stop.value.code == 0
    listed = set(re.findall(r"--(\w+)", capsys.readouterr().out))
    assert len(recommended) > 8
    assert recommended <= listed


def test_flags_win_over_the_json_file():
    data, model, recipe = parse_arguments(
        ["configs/gtzan.json", "--learning_rate", "0.5", "--use_cpu"]
    )
    assert data.split is None
    assert model.model_name_or_path == "ntu-spml/distilhubert"
    assert recipe.learning_rate == 0.5
    assert recipe.eval_strategy == "epoch"


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


def error_of(argv, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_arguments([str(text) for text in argv])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    return error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rat", "1"], "did you mean learning_rate"),
        (["--hub_tokn=hf_secret"], "there is no option '--hub_tokn'; did you mean hub_token?"),
        (["--learning_rate", "fast"], "invalid float value"),
        (["--split", "kfold"], "invalid choice"),
        (["nowhere.json"], "nowhere.json is neither an option nor a JSON file"),
        (["configs/gtzan.jsn"], "a JSON file; did you mean configs/gtzan.json?"),
        (["a.json", "b.json"], "only one can be the JSON file"),
        (["README.md"], "README.md: it cannot be read as JSON"),
        (["--bf16", "--precision", "fp32"], "bf16 and fp32 are both asked for"),
        (["--bf16", "--fp16"], "bf16 and fp16 are both asked for"),
        (["--fp16", "--use_cpu"], "fp16 needs a GPU"),
        (["--seeds", "3"], "two or more different numbers"),
        (["--seeds", "0", "1"], "needs an --output_dir"),
        (["--seeds", "0", "-1", "--output_dir", "x"], "--seeds must be 0 or more"),
        (
            ["--load_best_model_at_end", "True", "--eval_strategy", "no"],
            "--load_best_model_at_end requires",
        ),
        (["--eval_strategy", "sometimes"], "sometimes"),
    ],
)
def test_a_wrong_argument_is_one_line(argv, message, capsys, root, monkeypatch):
    monkeypatch.chdir(root)
    assert message in error_of(argv, capsys)


NUMBERS_OUT_OF_RANGE = {
    "window_seconds": ("0", "0.01", "-1", "1000", "nan"),
    "mixup": ("-1", "inf", "nan"),
    "time_budget_minutes": ("0", "-5", "nan"),
    "split_seed": ("-1",),
    "seed": ("-1", str(2**32)),
    "data_seed": ("-1",),
    "learning_rate": ("0", "-1e-5", "nan", "inf"),
    "num_train_epochs": ("-0.1", "-1", "nan", "inf"),
    "max_steps": ("0", "-2"),
    "per_device_train_batch_size": ("0", "-1"),
    "per_device_eval_batch_size": ("0",),
    "gradient_accumulation_steps": ("0",),
    "warmup_steps": ("-1", "nan"),
    "weight_decay": ("-1", "nan"),
    "max_grad_norm": ("-1", "nan"),
    "label_smoothing_factor": ("-0.1", "1", "nan"),
    "adam_beta1": ("1", "-1"),
    "adam_epsilon": ("0",),
    "save_total_limit": ("0",),
    "logging_steps": ("0", "nan"),
    "dataloader_num_workers": ("-1",),
}


@pytest.mark.parametrize(
    ("option", "value"),
    [(o, value) for o, values in NUMBERS_OUT_OF_RANGE.items() for value in values],
)
def test_a_number_out_of_range_is_refused_as_flag_and_in_json(option, value, tmp_path, capsys):
    config = tmp_path / "mine.json"
    config.write_text(f'{{"{option}": "{value}"}}')
    for argv in ([f"--{option}={value}"], [config]):
        assert f"--{option} must be" in error_of(argv, capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"learning_rates": 1}, "no option 'learning_rates'; did you mean learning_rate?"),
        ({"help_all": True}, "no option 'help_all'"),
        ({"precision": "bf61"}, "invalid choice: 'bf61'"),
        ({"split": "kfold"}, "invalid choice: 'kfold'"),
        ({"from_scratch": "perhaps"}, "perhaps"),
        ({"learning_rate": [1, 2]}, "invalid float value"),
        ({"learning_rate": None}, "invalid float value"),
        ({"per_device_train_batch_size": 8.5}, "invalid int value"),
        ({"seeds": "0 1"}, "invalid int value"),
        ([1], "must hold one JSON object"),
    ],
)
def test_values_in_json_are_checked_as_flags_are(content, message, tmp_path, capsys):
    config = tmp_path / "mine.json"
    config.write_text(json.dumps(content))
    error = error_of([config], capsys)
    assert message in error
    assert str(config) in error


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


@pytest.mark.parametrize("config_first", [True, False])
def test_only_an_argument_of_no_option_is_the_json_file(config_first, root):
    value = ["--run_name", "other.json", "--report_to", "wandb"]
    config = [str(root / "configs" / "mel-cnn.json")]
    _, model, recipe = parse_arguments(config + value if config_first else value + config)
    assert recipe.run_name == "other.json"
    assert model.from_scratch


@pytest.mark.parametrize(
    ("argv", "launched_with", "precision", "reason"),
    [
        (["--bf16"], "no", "bf16", "asked for"),
        (["--precision", "bf16", "--bf16"], "no", "bf16", "asked for"),
        ([], "bf16", "bf16", "asked for by accelerate launch"),
        (["--precision", "fp32"], "bf16", "fp32", "asked for"),
    ],
)
def test_what_is_asked_for_is_the_precision(argv, launched_with, precision, reason, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched_with)
    *_, recipe = parse_arguments([*argv, "--use_cpu"])
    assert (recipe.precision, recipe.precision_reason) == (precision, reason)
    assert recipe.bf16 == (precision == "bf16")
    assert recipe.mixed_precision == {"fp32": "no"}.get(precision, precision)
