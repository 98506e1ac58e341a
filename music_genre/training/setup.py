"""Set up one training run: model, clips, recipe and callbacks, put together in a `Run`."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.commands.config.config_args import default_config_file
from datasets import Dataset
from transformers import PreTrainedModel, ProgressCallback, set_seed

from music_genre.cpu_modules import use_cpu_modules
from music_genre.errors import InputError
from music_genre.evaluation.environment import hardware
from music_genre.loading import ModelFolder
from music_genre.report import RUNS_DIR
from music_genre.training.arguments import RecipeArguments
from music_genre.training.callbacks import (
    NamedProgress,
    OncePerStep,
    SaveOnSigterm,
    SetEpoch,
    TimeKeeper,
)
from music_genre.training.clips import Augmentation, ClipDataset, CropDataset
from music_genre.training.data import Source, print_once
from music_genre.training.feature_store import N_NEW_EPOCHS, open_store
from music_genre.training.linear_probe import has_linear_head
from music_genre.training.model import SPECTROGRAM_MODELS, load_for_training
from music_genre.training.options import ModelArguments
from music_genre.training.standardize import missing_genres
from music_genre.training.trainer import ClipTrainer, Collate, compute_metrics


@dataclass
class Run:
    """What belongs to one training run."""

    trainer: ClipTrainer
    datasets: dict[str, ClipDataset | CropDataset]  # by split
    source: Source
    model_arguments: ModelArguments
    arguments: RecipeArguments
    base_model_commit: str | None  # None where it is a folder

    @property
    def folder(self) -> Path:
        return Path(self.arguments.output_dir)


def prepare_cpu(arguments: RecipeArguments) -> None:
    """Where a CPU trains, let it have its memory and all its cores.

    `accelerate launch` allows each process one thread unless told otherwise, on a CPU too.
    """
    if arguments.device.type != "cpu":
        return
    if "ACCELERATE_MIXED_PRECISION" in os.environ and torch.get_num_threads() == 1:
        n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_processes))


def explain_launcher() -> None:
    """`accelerate launch` warns before this program starts, and cannot be told not to."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ and not Path(default_config_file).is_file():
        print_once(
            "If accelerate launch lists values that were not passed: they suit this machine, and "
            "`accelerate config default` stores them."
        )


def check_trackers(arguments: RecipeArguments) -> None:
    for name in arguments.report_to:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--report_to {name} needs a package that is not here: `pip install {name}`. The "
                "learning curves are drawn without it."
            )


def default_output_dir(model_arguments: ModelArguments, source: Source) -> str:
    """`runs/MODEL-DATASET`, both by the last part of their path: runs/distilhubert-gtzan."""
    names = (model_arguments.model_name_or_path, source.name)
    return str(RUNS_DIR / "-".join(Path(name).absolute().name for name in names).lower())


def make_trainer(
    found: ModelFolder,
    dataset: dict[str, Dataset],
    source: Source,
    model_arguments: ModelArguments,
    arguments: RecipeArguments,
) -> tuple[ClipTrainer, dict[str, ClipDataset | CropDataset]]:
    """Load the model and put it, the clips and the recipe together."""
    set_seed(arguments.seed)  # before the model: its head is random
    model, feature_extractor = load_for_training(
        found,
        dataset["train"].features["genre"].names,
        model_arguments.window_seconds,
        model_arguments.from_scratch,
    )
    model.config.trained_on_synthetic_music = source.is_synthetic
    _check_abilities(model, model_arguments, arguments)
    freeze = model_arguments.freeze_feature_encoder
    if freeze is None:  # random convolutions have to be trained
        freeze = not model_arguments.from_scratch and hasattr(model, "freeze_feature_encoder")
    if freeze:
        model.freeze_feature_encoder()
    if arguments.device.type == "cpu":
        use_cpu_modules(model, is_frozen=freeze)
    if hasattr(model.config, "apply_spec_augment"):
        model.config.apply_spec_augment = arguments.spec_augment
    window = int(model_arguments.window_seconds * feature_extractor.sampling_rate)
    augmentation = Augmentation(
        arguments.mixup,
        arguments.speed_perturbation,
        arguments.spec_augment,
    )
    datasets = {
        "train": CropDataset(dataset["train"], window, arguments.seed, augmentation),
        "validation": ClipDataset(dataset["validation"], window),
        "test": ClipDataset(dataset["test"], window),
    }
    has_repeated_epochs = arguments.max_steps > 0 or arguments.num_train_epochs > N_NEW_EPOCHS
    if freeze and has_repeated_epochs:
        datasets["train"].repeats = True
        n_crops = len(datasets["train"]) * arguments.world_size  # each process has a store
        datasets["train"].store = open_store(model, window, n_crops)
    trainer = ClipTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"],
        data_collator=Collate(feature_extractor, model.main_input_name),
        processing_class=feature_extractor,
        compute_metrics=compute_metrics,
    )
    if trainer.pop_callback(ProgressCallback):
        trainer.add_callback(NamedProgress())
    return trainer, datasets


def can_have_linear_probe(model: PreTrainedModel, model_arguments: ModelArguments) -> bool:
    # A weighted sum chooses among the layers itself.
    return (
        not model_arguments.from_scratch
        and has_linear_head(model)
        and not getattr(model.config, "use_weighted_layer_sum", False)
    )


def _check_abilities(
    model: PreTrainedModel, model_arguments: ModelArguments, arguments: RecipeArguments
) -> None:
    """
    Raises:
        InputError: an option asks for what this kind of model does not have.
    """
    config = model.config
    has_probe = model_arguments.linear_probe is not False and can_have_linear_probe(
        model, model_arguments
    )
    if arguments.num_train_epochs == 0 and arguments.max_steps <= 0 and not has_probe:
        raise InputError(
            "--num_train_epochs 0 leaves the linear probe alone, and this run has none: give a "
            "number of epochs."
        )
    masks_features = getattr(config, "mask_time_prob", 0) or getattr(config, "mask_feature_prob", 0)
    masks_spectrograms = config.model_type in SPECTROGRAM_MODELS
    for option, is_possible in {
        "freeze_feature_encoder": hasattr(model, "freeze_feature_encoder"),
        "linear_probe": can_have_linear_probe(model, model_arguments),
        "spec_augment": bool(masks_features) or masks_spectrograms,
        "gradient_checkpointing": model.supports_gradient_checkpointing,
    }.items():
        is_asked = getattr(model_arguments, option, None) or getattr(arguments, option, None)
        if is_asked and not is_possible:
            raise InputError(
                f"--{option} has no effect on {model_arguments.model_name_or_path}, a model of "
                f"type {config.model_type}"
                f"{' with random weights' if model_arguments.from_scratch else ''}: set it to "
                "False."
            )


def add_callbacks(run: Run, started: float) -> tuple[TimeKeeper, SaveOnSigterm]:
    minutes = run.arguments.time_budget_minutes
    validation, scoring = run.trainer.estimate_evaluation(run.datasets)
    new, known = run.trainer.estimate_steps()
    if run.trainer.is_world_process_zero():
        print_estimate(run.trainer, new, known, validation, scoring)
    time_keeper = TimeKeeper(started, minutes and minutes * 60, validation, scoring, known / new)
    on_sigterm = SaveOnSigterm()
    for callback in (SetEpoch(run.datasets["train"]), time_keeper, OncePerStep(), on_sigterm):
        run.trainer.add_callback(callback)
    return time_keeper, on_sigterm


def print_estimate(
    trainer: ClipTrainer, new: float, known: float, validation: float, scoring: float
) -> None:
    """How long fine-tuning will take, before it starts.

    Args:
        new, known: seconds of a step with crops that are new, or known to the store.
        validation, scoring: seconds of each validation, and of scoring at the end.
    """
    arguments = trainer.args
    n_epochs = arguments.num_train_epochs
    n_steps = arguments.max_steps
    batches = len(trainer.get_train_dataloader())
    of_epoch = max(1, batches // arguments.gradient_accumulation_steps)
    if n_steps <= 0:
        n_steps = int(n_epochs * of_epoch)
    n_new = min(n_steps, N_NEW_EPOCHS * of_epoch)
    training = n_new * new + (n_steps - n_new) * known
    seconds = training + n_epochs * validation + scoring
    minutes = max(1, round(seconds / 60))
    print(
        f"Fine-tuning: {n_steps} steps, about {minutes} minute{'s' * (minutes > 1)} with scoring."
    )


def print_plan(run: Run) -> None:
    model, model_arguments = run.trainer.model, run.model_arguments
    if run.source.is_synthetic:
        print("A demonstration on synthesised music: what comes out is no music classifier.")
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(
        f"{run.source.name}, {run.source.split} split: "
        + ", ".join(f"{name} {len(d.clips)}" for name, d in run.datasets.items())
        + f" clips.\n{model_arguments.model_name_or_path}"
        f"{' (random weights)' if model_arguments.from_scratch else ''}: "
        f"{model.num_parameters() / 1e6:.1f} million parameters, {n_trained / 1e6:.1f} trained; "
        f"windows of {model_arguments.window_seconds:g} s, "
        f"{len(run.trainer.get_train_dataloader())} batches an epoch.\n"
        f"Precision: {run.arguments.precision}, {run.arguments.precision_reason}. "
        f"On {hardware(run.arguments.device, run.arguments.world_size)}."
    )
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if run.arguments.device.type == "cuda" and torch.cuda.device_count() > 1 and not is_launched:
        print(f"{torch.cuda.device_count()} GPUs are here: `accelerate launch` uses all of them.")
    warnings = missing_genres({name: d.clips for name, d in run.datasets.items()})
    for warning in warnings:
        print(f"Warning: {warning}")
    if warnings and run.source.split == "filtered":
        print("The fault-filtered lists are for all of GTZAN: prepare a part with --split artist.")
