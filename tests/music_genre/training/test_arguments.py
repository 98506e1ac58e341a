"""What can be said to train_hf.py: its help, which options win, and what is no option."""

import re
import subprocess
import sys

import pytest

from music_genre.training.arguments import parse_arguments
from music_genre.training.options import OF_THE_TRAINER


def test_help_comes_at_once_and_has_all_our_options(root):
    code = """
import runpy, sys
sys.argv = ["train_hf.py", "configs/gtzan.json", "--help"]
try:
    runpy.run_path("train_hf.py", run_name="__main__")
except SystemExit as stop:
    assert not stop.code
print({"torch", "transformers"} & set(sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.endswith("set()\n")
    for option in ("--dataset", "--window_seconds", "--mixup", "--seeds", "--precision"):
        assert option in result.stdout


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
    assert data.split == "filtered"
    assert model.model_name_or_path == "ntu-spml/distilhubert"
    assert recipe.learning_rate == 0.5
    assert recipe.eval_strategy == "epoch"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rat", "1"], "did you mean learning_rate"),
        (["--learning_rate", "fast"], "invalid float value"),
        (["nowhere.json"], "nowhere.json cannot be read"),
        (["--split", "kfold"], "invalid choice"),
    ],
)
def test_a_wrong_argument_is_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"learning_rates": 1}', "no option 'learning_rates'; did you mean learning_rate?"),
        ('{"help_all": true}', "no option 'help_all'"),
    ],
)
def test_an_unknown_option_in_json_is_named(content, message, tmp_path, capsys):
    config = tmp_path / "mine.json"
    config.write_text(content)
    with pytest.raises(SystemExit):
        parse_arguments([str(config)])
    assert message in capsys.readouterr().err
