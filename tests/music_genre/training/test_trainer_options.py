"""Every option of the installed Trainer works or is refused in one sentence; here is which.

docs/trainer-options.md is made from the tables of this file and of trainer_options.py:

    python -m tests.music_genre.training.test_trainer_options > docs/trainer-options.md
"""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import SchedulerType, TrainingArguments

from music_genre.errors import InputError
from music_genre.training.arguments import RecipeArguments, parse_arguments
from music_genre.training.trainer import ClipTrainer, validation_metrics
from music_genre.training.trainer_options import METRICS, REFUSED
from tests.training_runs import check_saved_is, flags, read_report, train

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "trainer-options.md"
UNCHANGED = "passed to the Trainer unchanged"
MANY = "test_a_run_with_many_options_obeys_them"
REFERENCE = "configs/gtzan.json, test_a_run_leaves_what_is_promised"

BEST = "--load_best_model_at_end True --eval_strategy steps --save_strategy steps"

# Option: a value, with the options it needs; how it is known to work.
WORKS = {
    "output_dir": ("here", "test_with_an_archive_in_data_the_model_lands_where_the_app_looks"),
    "per_device_train_batch_size": ("4", REFERENCE),
    "num_train_epochs": ("2.5", REFERENCE),
    "max_steps": ("7", MANY),
    "learning_rate": ("0.5", REFERENCE),
    "lr_scheduler_type": ("polynomial", "test_schedules_are_made_or_refused"),
    "lr_scheduler_kwargs": (
        "{} --lr_scheduler_type polynomial",
        "test_schedules_are_made_or_refused",
    ),
    "warmup_steps": ("0.25", REFERENCE),
    "optim": ("adafactor", MANY),
    "weight_decay": ("0.5", REFERENCE),
    "adam_beta1": ("0.5", UNCHANGED),
    "adam_beta2": ("0.5", UNCHANGED),
    "adam_epsilon": ("0.5", UNCHANGED),
    "gradient_accumulation_steps": (
        "3",
        "test_soft_targets_and_accumulation_give_the_gradient_of_one_large_batch",
    ),
    "max_grad_norm": ("0.5", UNCHANGED),
    "label_smoothing_factor": ("0.5", "test_label_smoothing_is_that_of_torch"),
    "bf16": ("True", "test_what_is_asked_for_is_the_precision: the same as --precision bf16"),
    "fp16": (None, "test_what_is_asked_for_is_the_precision: the same as --precision fp16"),
    "tf32": (None, f"{UNCHANGED}; refused by it without an Ampere GPU"),
    "activation_checkpointing": ("True", "test_other_ways_through_the_recipe"),
    "gradient_checkpointing": ("True", "test_other_ways_through_the_recipe"),
    "logging_strategy": ("epoch", UNCHANGED),
    "logging_steps": ("3", MANY),
    "logging_first_step": ("True", MANY),
    "log_level": ("error", UNCHANGED),
    "log_level_replica": ("error", UNCHANGED),
    "disable_tqdm": ("True", REFERENCE),
    "report_to": ("tensorboard", "test_a_tracker_that_is_not_installed_is_named"),
    "run_name": ("mine --report_to wandb", UNCHANGED),
    "project": ("mine --report_to trackio", UNCHANGED),
    "eval_strategy": (
        "no",
        "test_a_run_without_validation_ends_with_its_last_weights",
    ),
    "eval_steps": ("3 --eval_strategy steps --save_strategy steps --save_steps 3", MANY),
    "per_device_eval_batch_size": ("3", MANY),
    "save_strategy": ("best", "test_a_run_that_saves_only_the_best_scores_it"),
    "save_steps": ("3 --eval_strategy steps --save_strategy steps --eval_steps 3", MANY),
    "save_total_limit": ("1", MANY),
    "push_to_hub": ("True --hub_model_id you/it", "tests/music_genre/publishing/test_hub.py"),
    "hub_private_repo": (
        "False --push_to_hub --hub_model_id you/it",
        "tests/music_genre/publishing/test_hub.py",
    ),
    "hub_model_id": ("you/it --push_to_hub", "tests/music_genre/publishing/test_hub.py"),
    "load_best_model_at_end": (
        "True",
        "test_the_best_checkpoint_is_saved_on_request_also_after_sigterm",
    ),
    "metric_for_best_model": ("macro_f1 --load_best_model_at_end True", MANY),
    "resume_from_checkpoint": ("last", "test_a_resumed_run_ends_as_the_uninterrupted_one"),
    "full_determinism": ("True", UNCHANGED),
    "seed": ("3", "test_seeds_are_summed_up_and_a_finished_one_is_not_run_again"),
    "data_seed": ("3", "test_the_seed_of_the_data_orders_the_clips"),
    "use_cpu": ("True", "test_two_processes_score_every_clip_once"),
    "dataloader_num_workers": ("2", "test_workers_make_the_same_crops_in_every_epoch"),
    "dataloader_pin_memory": ("False", UNCHANGED),
    "dataloader_prefetch_factor": ("3 --dataloader_num_workers 1", UNCHANGED),
    "ddp_find_unused_parameters": ("True", UNCHANGED),
    "ddp_timeout": ("60", UNCHANGED),
}

# A value for each refused option that is not its default.
REFUSED_VALUES = {
    "optim_args": "a=1",
    "optim_target_modules": "all-linear",
    "average_tokens_across_devices": "False",
    "activation_checkpointing_kwargs": '{"use_reentrant": false}',
    "gradient_checkpointing_kwargs": '{"use_reentrant": false}',
    "eval_accumulation_steps": "2",
    "torch_empty_cache_steps": "3",
    "torch_compile_backend": "inductor",
    "torch_compile_mode": "default",
    "neftune_noise_alpha": "5",
    "log_on_each_node": "False",
    "trackio_space_id": "you/space",
    "trackio_bucket_id": "you/bucket",
    "trackio_static_space_id": "you/space",
    "eval_delay": "1",
    "eval_do_concat_batches": "False",
    "include_for_metrics": "loss",
    "hub_token": "hf_x",
    "hub_strategy": "checkpoint",
    "hub_revision": "main",
    "accelerator_config": '{"split_batches": true}',
    "dataloader_multiprocessing_context": "spawn",
    "dataloader_in_order": "False",
    "label_names": "genre",
    "train_sampling_strategy": "sequential",
    "length_column_name": "size",
    "ddp_backend": "gloo",
    "ddp_bucket_cap_mb": "5",
    "fsdp": "full_shard",
    "fsdp_config": '{"a": 1}',
    "deepspeed": "ds.json",
    "debug": "underflow_overflow",
    "skip_memory_metrics": "False",
    "do_train": "False",
    "do_eval": "False",
    "do_predict": "False",
    "local_rank": "0",
}
NOT_FROM_TEXT = {"liger_kernel_config", "parallelism_config"}


def document() -> str:
    """The page of the docs: one row for each option of the Trainer."""
    rows = [
        f"| `--{option.name}` | "
        + (
            f"refused: {REFUSED[option.name]}"
            if option.name in REFUSED
            else f"works: {WORKS[option.name][1]}"
        ).replace("|", "\\|")
        + " |"
        for option in fields(TrainingArguments)
    ]
    return "\n".join(
        [
            "# The Trainer's options",
            "",
            "`train_hf.py` takes every option of the `TrainingArguments` of transformers, on the",
            "command line or in a JSON file. Each works or is refused in one sentence, with exit",
            "code 2. A test compares this page with the installed transformers.",
            "",
            "| Option | What happens |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


def test_every_option_of_the_installed_trainer_is_in_one_table():
    names = {option.name for option in fields(TrainingArguments)}
    assert WORKS.keys() | REFUSED.keys() == names, "an option is new or gone: decide about it"
    assert not WORKS.keys() & REFUSED.keys()


def test_the_tests_that_the_table_names_exist():
    tests = DOCUMENT.parents[1] / "tests"
    source = "".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py"))
    for _, how in WORKS.values():
        for name in re.findall(r"\btest_\w+\b(?!\.py)", how):
            assert f"def {name}(" in source, name


def test_the_page_of_the_docs_is_this_table():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), __doc__


@pytest.mark.parametrize("name", sorted(NOT_FROM_TEXT))
def test_a_refused_option_that_has_no_text_form_is_refused_in_python(name):
    with pytest.raises(InputError, match=f"--{name} cannot be set"):
        RecipeArguments(**{name: {"a": True}})


@pytest.mark.parametrize("name", sorted(REFUSED.keys() - NOT_FROM_TEXT))
def test_a_refused_option_is_one_sentence(name, tmp_path, capsys):
    value = REFUSED_VALUES.get(name, "True")
    config = tmp_path / "mine.json"
    config.write_text(json.dumps({name: value}))
    for argv in ([f"--{name}={value}"], [str(config)]):
        with pytest.raises(SystemExit) as stop:
            parse_arguments(argv)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error == f"error: --{name} cannot be set. {REFUSED[name]}\n"


@pytest.mark.parametrize("name", [name for name, (value, _) in WORKS.items() if value])
def test_a_working_option_reaches_the_trainer(name, monkeypatch):
    value, *others = shlex.split(WORKS[name][0])
    *_, recipe = parse_arguments([f"--{name}={value}", *others, "--use_cpu"])
    passed = getattr(recipe, name)
    if isinstance(passed, (list, dict)):
        assert json.dumps(passed).strip("[]\"'") == value
    else:
        assert str(getattr(passed, "value", passed)) == value


# --- combinations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--optim sgd", "--optim must be one of"),
        ("--optim adafactor --adam_beta1 0.5", "have no effect on --optim adafactor"),
        ("--report_to mlflow", "--report_to must be none or one of"),
        ("--report_to all", "--report_to must be none or one of"),
        ("--run_name mine", "--run_name needs --report_to"),
        ("--project mine --report_to wandb", "--project needs --report_to trackio"),
        ("--eval_steps 3", "--eval_steps needs --eval_strategy steps"),
        ("--save_steps 3", "--save_steps needs --save_strategy steps"),
        ("--logging_steps 3 --logging_strategy epoch", "--logging_steps needs"),
        ("--hub_model_id you/it", "--hub_model_id needs --push_to_hub"),
        ("--hub_private_repo False", "--hub_private_repo needs --push_to_hub"),
        ("--metric_for_best_model f1", "--metric_for_best_model must be one of"),
        ("--metric_for_best_model macro_f1", "--metric_for_best_model needs --load_best_model"),
        ("--save_total_limit 1 --max_steps -3", "--max_steps must be 1 or more"),
        ("--max_steps 0", "--max_steps must be 1 or more"),
        (f"{BEST} --eval_steps 2 --save_steps 4", "--save_steps 4 must be the same as"),
        (f"{BEST} --eval_steps 2", "--save_steps 500 must be the same as --eval_steps 2"),
        (BEST, "--save_steps 500 must be the same as --eval_steps 10"),
    ],
)
def test_what_would_have_no_effect_is_refused(argv, sentence, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(argv.split())
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["DEEPSPEED", "FSDP"])
def test_sharding_by_the_launcher_is_refused(launcher, monkeypatch, capsys):
    monkeypatch.setenv(f"ACCELERATE_USE_{launcher}", "true")
    with pytest.raises(SystemExit):
        parse_arguments(["--use_cpu"])
    assert f"accelerate launch with {launcher} cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("name", [schedule.value for schedule in SchedulerType])
def test_schedules_are_made_or_refused(name, capsys):
    reasons = {
        "greedy": "Schedules are fixed in advance.",
        "reduce_lr_on_plateau": "Schedules are fixed in advance.",
        "cosine_with_min_lr": "min_lr",
        "cosine_warmup_with_min_lr": "min_lr",
        "warmup_stable_decay": "num_decay_steps",
    }
    argv = ["--use_cpu", "--lr_scheduler_type", name, "--warmup_steps", "0"]
    if name in reasons:
        with pytest.raises(SystemExit):
            parse_arguments(argv)
        assert reasons[name] in capsys.readouterr().err
    else:
        parse_arguments(argv)
    with pytest.raises(SystemExit):
        parse_arguments([*argv, "--lr_scheduler_kwargs", '{"nonsense": 1}'])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_constant_schedule_refuses_a_warm_up(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--lr_scheduler_type", "constant", "--warmup_steps", "10"])
    assert "has no warm-up" in capsys.readouterr().err


def test_every_metric_that_may_choose_the_best_checkpoint_is_measured():
    probabilities = [torch.tensor([[0.9, 0.1]]).numpy(), torch.tensor([[0.2, 0.8]]).numpy()]
    assert set(METRICS) <= validation_metrics(probabilities, [0, 1]).keys()


# --- runs -----------------------------------------------------------------------------------


def test_label_smoothing_is_that_of_torch():
    logits, targets = torch.randn(4, 3), torch.eye(3)[[0, 1, 2, 0]]
    trainer = SimpleNamespace(args=SimpleNamespace(label_smoothing_factor=0.3))
    loss = ClipTrainer.compute_loss(
        trainer, lambda: SimpleNamespace(logits=logits), {"labels": targets}
    )
    expected = torch.nn.functional.cross_entropy(logits, 0.7 * targets + 0.1)
    torch.testing.assert_close(loss, expected)


def log_of(folder: Path) -> list[dict]:
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


def test_a_run_with_many_options_obeys_them(prepared, tiny_config, tmp_path):
    options = {
        "max_steps": 5, "optim": "adafactor", "lr_scheduler_type": "polynomial",
        "logging_steps": 2, "logging_first_step": True, "label_smoothing_factor": 0.1,
        "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
        "save_total_limit": 3, "per_device_eval_batch_size": 3,
        "metric_for_best_model": "macro_f1", "load_best_model_at_end": True,
    }  # fmt: skip
    train(*flags(prepared, tiny_config, tmp_path / "steps", **options))
    log = log_of(tmp_path / "steps")
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 4]
    assert [entry["step"] for entry in log if "eval_macro_f1" in entry][:2] == [2, 4]
    checkpoints = list((tmp_path / "steps").glob("checkpoint-*"))
    assert len(checkpoints) <= 3
    states = torch.load(checkpoints[0] / "optimizer.pt")["state"].values()
    assert any("exp_avg_sq_row" in state for state in states), "this is not Adafactor's state"
    assert read_report(tmp_path / "steps")["validation"]["n"] == 10


@pytest.mark.parametrize("loads_best", [True, False])
def test_a_run_that_saves_only_the_best_scores_it(loads_best, prepared, tiny_config, tmp_path):
    options = {"save_strategy": "best", "load_best_model_at_end": loads_best, "max_steps": 2}
    train(*flags(prepared, tiny_config, tmp_path / "run", **options))
    assert bool(read_report(tmp_path / "run")["train"]["best_step"]) == loads_best
    assert list((tmp_path / "run").glob("checkpoint-*"))


def test_without_the_best_model_at_the_end_steps_may_be_validated_more_often_than_saved(
    prepared, tiny_config, tmp_path
):
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 2}
    options |= {"max_steps": 2}
    train(*flags(prepared, tiny_config, tmp_path / "run", **options))
    assert read_report(tmp_path / "run")["train"]["best_step"] is None
    check_saved_is(tmp_path / "run", tmp_path / "run" / "checkpoint-2")


def test_a_run_without_validation_ends_with_its_last_weights(prepared, tiny_config, tmp_path):
    options = {"eval_strategy": "no", "save_strategy": "no"}
    train(*flags(prepared, tiny_config, tmp_path / "run", max_steps=2, **options))
    assert read_report(tmp_path / "run")["train"]["steps"] == 2
    assert not list((tmp_path / "run").glob("checkpoint-*"))


if __name__ == "__main__":
    print(document(), end="")
