"""Which options of the Trainer work here. Every other one is refused with its reason.

docs/trainer-options.md lists both; tests/music_genre/training/test_trainer_options.py checks that
no option of the installed transformers is missing.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

import torch
from transformers import TrainingArguments, get_scheduler

from music_genre.errors import InputError
from music_genre.training.options import SEED_RANGE, check_ranges

OPTIMIZERS = ("adamw_torch_fused", "adamw_torch", "adafactor")
TRACKERS = ("tensorboard", "trackio", "wandb")  # named as their packages are
METRICS = ("calibrated_loss", "loss", "accuracy", "macro_f1")  # of a validation

_ALWAYS = "Every run trains, validates and tests."
_LANGUAGE = "It is made for language models."
_VALIDATION = "Validation scores whole clips, batch by batch, in its own way."
_SHARDING = "The models are small enough for one GPU: use several processes without sharding."
_DDP = "PyTorch's defaults are used for several processes."
_COMPILE = "Training is not tested with torch.compile."
_UPLOAD = "A run publishes its model once, when it is finished."
_ONE_MACHINE = "Runs on several machines are not supported."
_TRACKIO = "trackio keeps its records on this machine; upload them with trackio itself."
_MEMORY = (
    "Where memory runs out, halve --per_device_train_batch_size and double "
    "--gradient_accumulation_steps."
)
_OWN_ORDER = "Crops take turns by genre and depend on epoch and number, so that a run can resume."
NOTHING = (None, False, "", [], "no")  # the parser turns some defaults into others

# Any value but the default is refused.
REFUSED = {
    "optim_args": f"The optimizers here ({', '.join(OPTIMIZERS)}) take none.",
    "optim_target_modules": f"The optimizers here ({', '.join(OPTIMIZERS)}) take none.",
    "average_tokens_across_devices": _LANGUAGE,
    "bf16_full_eval": "Final scores are computed in fp32; --precision bf16 sets that of training.",
    "fp16_full_eval": "Final scores are computed in fp32; --precision fp16 sets that of training.",
    "activation_checkpointing_kwargs": "PyTorch's defaults are used.",
    "gradient_checkpointing_kwargs": "PyTorch's defaults are used.",
    "torch_compile": _COMPILE,
    "torch_compile_backend": _COMPILE,
    "torch_compile_mode": _COMPILE,
    "use_liger_kernel": _LANGUAGE,
    "liger_kernel_config": _LANGUAGE,
    "use_cache": _LANGUAGE,
    "neftune_noise_alpha": _LANGUAGE,
    "auto_find_batch_size": _MEMORY,
    "torch_empty_cache_steps": _MEMORY,
    "logging_nan_inf_filter": "A loss that is not a finite number ends the run.",
    "log_on_each_node": _ONE_MACHINE,
    "include_num_input_tokens_seen": _LANGUAGE,
    "trackio_space_id": _TRACKIO,
    "trackio_bucket_id": _TRACKIO,
    "trackio_static_space_id": _TRACKIO,
    "eval_delay": "Each validation can give the best checkpoint.",
    "prediction_loss_only": _VALIDATION,
    "eval_on_start": "The linear probe is validated before training; --from_scratch has none.",
    "eval_accumulation_steps": "Predictions are small: the probabilities of windows.",
    "eval_do_concat_batches": _VALIDATION,
    "eval_use_gather_object": _VALIDATION,
    "include_for_metrics": _VALIDATION,
    "batch_eval_metrics": _VALIDATION,
    "save_only_model": "A checkpoint without the optimizer cannot be resumed.",
    "save_on_each_node": _ONE_MACHINE,
    "enable_jit_checkpoint": "A run already saves a checkpoint on SIGTERM.",
    "hub_token": "A token does not belong on a command line or in a file that is shared: revoke "
    "it, and give a new one to `hf auth login` or put it into HF_TOKEN.",
    "hub_strategy": _UPLOAD,
    "hub_always_push": _UPLOAD,
    "hub_revision": _UPLOAD,
    "greater_is_better": "It follows from --metric_for_best_model.",
    "ignore_data_skip": "A resumed run continues with the crops that come next.",
    "restore_callback_states_from_checkpoint": "A resumed run restores what it needs.",
    "accelerator_config": "accelerate's defaults are used.",
    "parallelism_config": _SHARDING,
    "dataloader_drop_last": "It would leave clips out of validation and test.",
    "dataloader_persistent_workers": "Crops depend on the epoch, so workers start anew in each.",
    "dataloader_multiprocessing_context": "PyTorch's default is used.",
    "dataloader_in_order": _OWN_ORDER,
    "remove_unused_columns": "Clips hold only what is needed.",
    "label_names": "The label is the column of genres.",
    "train_sampling_strategy": _OWN_ORDER,
    "length_column_name": _OWN_ORDER,
    "ddp_backend": _DDP,
    "ddp_bucket_cap_mb": _DDP,
    "ddp_broadcast_buffers": _DDP,
    "ddp_static_graph": _DDP,
    "fsdp": _SHARDING,
    "fsdp_config": _SHARDING,
    "deepspeed": _SHARDING,
    "debug": "A loss that is not a finite number ends the run with its step.",
    "skip_memory_metrics": "Memory is not measured.",
    "do_train": _ALWAYS,
    "do_eval": _ALWAYS,
    "do_predict": _ALWAYS,
    "local_rank": "The launcher sets it.",
}

_COUNT = (1, 10**9)
_SMALLEST = 5e-324  # above zero

# Smallest and largest value.
RANGES = {
    "seed": SEED_RANGE,
    "data_seed": SEED_RANGE,
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "save_total_limit": _COUNT,
    "ddp_timeout": _COUNT,
    "num_train_epochs": (0, 10**6),  # 0 leaves the linear probe alone
    "learning_rate": (_SMALLEST, 1e38),
    "warmup_steps": (0, 10**9),
    "weight_decay": (0, 1e38),
    "adam_beta1": (0, 0.999999),
    "adam_beta2": (0, 0.999999),
    "adam_epsilon": (_SMALLEST, 1),
    "max_grad_norm": (0, 1e38),
    "label_smoothing_factor": (0, 0.999999),
    "logging_steps": (1e-6, 10**9),
    "eval_steps": (1e-6, 10**9),
    "save_steps": (1e-6, 10**9),
    "dataloader_num_workers": (0, 1000),
    "dataloader_prefetch_factor": (1, 1000),
}


def check_trainer_options(arguments: TrainingArguments) -> None:
    """Refuse what has no effect here, before `TrainingArguments.__post_init__` changes it.

    Raises:
        InputError: with the option, its value and the reason.
    """
    given = {}
    for option in fields(arguments):
        is_factory = option.default is MISSING
        default = option.default_factory() if is_factory else option.default
        value = getattr(arguments, option.name)
        if value != default and not (value in NOTHING and default in NOTHING):
            given[option.name] = value
    for name in given.keys() & REFUSED.keys():
        raise InputError(f"--{name} cannot be set. {REFUSED[name]}")
    check_ranges(arguments, RANGES)
    for is_wrong, sentence in _combinations(arguments, given):
        if is_wrong:
            raise InputError(sentence)


def _combinations(a: TrainingArguments, given: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """What is wrong, and the sentence that says so."""
    optimizers, trackers, metrics = map(", ".join, (OPTIMIZERS, TRACKERS, METRICS))
    tracker = a.report_to[0] if isinstance(a.report_to, list) and a.report_to else a.report_to
    for launcher in ("DEEPSPEED", "FSDP"):
        is_used = os.environ.get(f"ACCELERATE_USE_{launcher}", "false").lower() == "true"
        yield is_used, f"accelerate launch with {launcher} cannot be used. {_SHARDING}"
    yield (
        not (a.max_steps == -1 or 1 <= a.max_steps <= 10**9),
        f"--max_steps must be 1 or more, or -1 for --num_train_epochs, not {a.max_steps}.",
    )
    yield a.optim not in OPTIMIZERS, f"--optim must be one of {optimizers}, not {a.optim}."
    yield (
        a.optim == "adafactor"
        and bool(given.keys() & {"adam_beta1", "adam_beta2", "adam_epsilon"}),
        "--adam_beta1, --adam_beta2 and --adam_epsilon have no effect on --optim adafactor.",
    )
    yield (
        (a.metric_for_best_model or METRICS[0]).removeprefix("eval_") not in METRICS,
        f"--metric_for_best_model must be one of {metrics}, not {a.metric_for_best_model}.",
    )
    yield (
        "metric_for_best_model" in given
        and not (a.load_best_model_at_end or a.save_strategy == "best"),
        "--metric_for_best_model needs --load_best_model_at_end True.",
    )
    yield (
        bool(tracker) and tracker not in ("none", *TRACKERS),
        f"--report_to must be none or one of {trackers}, not {tracker}.",
    )
    yield (
        "run_name" in given and tracker not in ("trackio", "wandb"),
        "--run_name needs --report_to trackio or --report_to wandb.",
    )
    yield "project" in given and tracker != "trackio", "--project needs --report_to trackio."
    for kind in ("eval", "save", "logging"):
        yield (
            f"{kind}_steps" in given and getattr(a, f"{kind}_strategy") != "steps",
            f"--{kind}_steps needs --{kind}_strategy steps.",
        )
    for name in given.keys() & {"hub_model_id", "hub_private_repo"}:
        yield not a.push_to_hub, f"--{name} needs --push_to_hub True."
    yield (
        a.lr_scheduler_type in ("greedy", "reduce_lr_on_plateau"),
        f"--lr_scheduler_type {a.lr_scheduler_type} cannot be set. Schedules are fixed in advance.",
    )
    yield (
        a.lr_scheduler_type == "constant" and a.warmup_steps > 0,
        "--lr_scheduler_type constant has no warm-up: take constant_with_warmup, or give "
        "--warmup_steps 0.",
    )


def check_checkpoints(arguments: TrainingArguments) -> None:
    """After `TrainingArguments.__post_init__`, which fills in the steps that were not given.

    Raises:
        InputError: the best step might not be saved.
    """
    every = {"eval": arguments.eval_steps, "save": arguments.save_steps}
    is_by_steps = arguments.eval_strategy == arguments.save_strategy == "steps"
    if arguments.load_best_model_at_end and is_by_steps and every["eval"] != every["save"]:
        raise InputError(
            f"--save_steps {every['save']:g} must be the same as --eval_steps {every['eval']:g}: "
            "a step that is validated and not saved could be the best one."
        )


def check_schedule(arguments: TrainingArguments) -> None:
    """Make the schedule once, for ten steps: transformers checks its arguments only then.

    Raises:
        InputError: --lr_scheduler_kwargs does not fit --lr_scheduler_type.
    """
    name, values = arguments.lr_scheduler_type.value, arguments.lr_scheduler_kwargs or {}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments.learning_rate)
    try:
        if values and name.startswith("constant"):
            raise ValueError("it takes none")
        get_scheduler(name, optimizer, 1, 10, dict(values))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--lr_scheduler_kwargs {json.dumps(values)} does not fit --lr_scheduler_type {name}: "
            f"{error}."
        ) from error
