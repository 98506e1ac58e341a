"""Set up one training run: model, clips, recipe and callbacks, put together in a `Run`."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import torch
from datasets import Dataset
from transformers import PreTrainedModel, set_seed

from data_prep.prepared import SYNTHETIC, Preparation, read_preparation
from music_genre.cpu_modules import use_cpu_modules
from music_genre.errors import InputError
from music_genre.evaluation.environment import hardware
from music_genre.hub_access import check_access
from music_genre.loading import ModelFolder
from music_genre.report import RUNS_DIR
from music_genre.training.arguments import ModelArguments, RecipeArguments
from music_genre.training.callbacks import SetEpoch, StopOnBadLoss
from music_genre.training.clips import CropDataset, TrackDataset, WindowDataset
from music_genre.training.clock import Clock
from music_genre.training.launcher import is_launched
from music_genre.training.linear_probe import FAMILIES, can_have_linear_probe
from music_genre.training.model import load_for_training
from music_genre.training.seen import describe_base, hash_tracks, read_seen
from music_genre.training.trainer import Collate, GenreTrainer, compute_metrics, crop_loss


@dataclass
class Run:
    """Everything that belongs to one training run."""

    trainer: GenreTrainer
    crops: CropDataset
    tracks: dict[str, TrackDataset]  # of validation and test
    preparation: Preparation
    model_arguments: ModelArguments
    arguments: RecipeArguments
    base: ModelFolder
    seen: set[str]  # hashes of the tracks that the model and its base are trained on
    seen_test_tracks: int | None  # how many the base was trained on; None if unknown
    contamination: str | None  # a warning that the base may know the test tracks
    has_linear_probe: bool
    clock: Clock

    @property
    def folder(self) -> Path:
        return Path(self.arguments.output_dir)


def use_all_cores(arguments: RecipeArguments) -> None:
    """Use all cores of a CPU: `accelerate launch` by default allows each process one thread."""
    if arguments.device.type == "cpu" and is_launched() and torch.get_num_threads() == 1:
        n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(max(1, joblib.cpu_count() // n_processes))


def default_output_dir(model_arguments: ModelArguments, preparation: Preparation) -> str:
    """`runs/MODEL-DATASET` from the last parts of both paths, as in runs/distilhubert-gtzan."""
    names = (model_arguments.model_name_or_path, preparation.dataset_name)
    return str(RUNS_DIR / "-".join(Path(name).absolute().name for name in names).lower())


def check_model(
    base: ModelFolder, model_arguments: ModelArguments, arguments: RecipeArguments
) -> None:
    """Load the model once, with two labels, to see whether it can be trained in this way.

    Raises:
        InputError: the model cannot be loaded, refuses these windows, or has nothing to train.
    """
    model, _ = load_for_training(
        base, ["one", "other"], model_arguments.window_seconds, model_arguments.from_scratch
    )
    if not has_epochs(arguments) and not has_linear_probe(model, model_arguments):
        raise InputError("A run of no epochs makes the linear probe only, and this one has none.")


def has_linear_probe(model: PreTrainedModel, model_arguments: ModelArguments) -> bool:
    is_wanted = model_arguments.linear_probe is not False and not model_arguments.from_scratch
    return is_wanted and can_have_linear_probe(model)


def make_run(
    base: ModelFolder,
    dataset: dict[str, Dataset],
    preparation: Preparation,
    model_arguments: ModelArguments,
    arguments: RecipeArguments,
    clock: Clock | None = None,
) -> Run:
    """Load the model and combine it with the clips and the recipe."""
    set_seed(arguments.seed)  # before the model: its head is random
    model, feature_extractor = load_for_training(
        base,
        dataset["train"].features["genre"].names,
        model_arguments.window_seconds,
        model_arguments.from_scratch,
    )
    model.config.trained_on_synthetic_music = preparation.is_synthetic
    freeze = model_arguments.freeze_feature_encoder
    if freeze is None:  # random convolutions have to be trained
        freeze = not model_arguments.from_scratch
    freeze = freeze and hasattr(model, "freeze_feature_encoder")
    if freeze:
        model.freeze_feature_encoder()
    if arguments.device.type == "cpu":
        use_cpu_modules(model)
    if hasattr(model.config, "apply_spec_augment"):
        model.config.apply_spec_augment = arguments.spec_augment
    window = int(model_arguments.window_seconds * feature_extractor.sampling_rate)
    crops = CropDataset(
        dataset["train"], window, arguments.seed,
        arguments.mixup, arguments.speed_perturbation, arguments.spec_augment,
    )  # fmt: skip
    tracks = {name: TrackDataset(dataset[name], window) for name in ("validation", "test")}
    # Spectrograms with this input name (AST, EfficientAT) have time first. Waveforms have the same
    # name, but only spectrograms are masked.
    has_time_first = model.main_input_name == "input_values"
    try:
        trainer = GenreTrainer(
            model=model,
            args=arguments,
            train_dataset=crops,
            eval_dataset=WindowDataset(tracks["validation"]),
            data_collator=Collate(feature_extractor, model.main_input_name, has_time_first),
            processing_class=feature_extractor,
            compute_loss_func=partial(crop_loss, label_smoothing=arguments.label_smoothing_factor),
            compute_metrics=compute_metrics,
            callbacks=[SetEpoch(crops), StopOnBadLoss()],
        )
    except (ValueError, RuntimeError) as error:  # options that conflict or fail here
        raise InputError(str(error).splitlines()[0]) from error
    seen = set().union(*hash_tracks(preparation.dataset_name, dataset["train"]).values())
    n_seen, contamination = None, None
    if not model_arguments.from_scratch:
        seen_by_base = read_seen(base.path)
        seen |= seen_by_base or set()
        if not preparation.is_synthetic:
            n_seen, contamination = describe_base(base, seen_by_base, preparation, dataset["test"])
    return Run(
        trainer, crops, tracks, preparation, model_arguments, arguments, base,
        seen, n_seen, contamination, has_linear_probe(model, model_arguments), clock or Clock(),
    )  # fmt: skip


def has_epochs(arguments: RecipeArguments) -> bool:
    return arguments.max_steps > 0 or arguments.num_train_epochs > 0


def open_repository(arguments: RecipeArguments, dataset: str | None) -> str | None:
    """The repository of --push_to_hub; before hours of work, check that it can be written."""
    if not arguments.push_to_hub:
        return None
    if not arguments.hub_model_id:
        raise InputError("--push_to_hub needs --hub_model_id USER/NAME.")
    known = read_preparation(Path(dataset or "")) or {}
    if dataset == SYNTHETIC or known.get("is_synthetic"):
        raise InputError("A model of synthesised music is a demonstration: it is not pushed.")
    arguments.push_to_hub = False  # the Trainer would upload every checkpoint, pickles and all
    return check_access(arguments.hub_model_id, arguments.hub_private_repo)


def print_plan(run: Run) -> None:
    if not run.trainer.is_world_process_zero():
        return
    model, model_arguments = run.trainer.model, run.model_arguments
    if run.preparation.is_synthetic:
        print("A demonstration on synthesised music: what comes out is no music classifier.")
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    clips = {"train": run.crops.clips} | {name: of.clips for name, of in run.tracks.items()}
    print(
        f"{run.preparation.dataset_name}, {run.preparation.split} split: "
        + ", ".join(f"{name} {len(of)}" for name, of in clips.items())
        + f" clips.\n{model_arguments.model_name_or_path}"
        f"{' (random weights)' if model_arguments.from_scratch else ''}: "
        f"{model.num_parameters() / 1e6:.1f} million parameters, {n_trained / 1e6:.1f} trained; "
        f"windows of {model_arguments.window_seconds:g} s, "
        f"{len(run.trainer.get_train_dataloader())} batches an epoch.\n"
        f"Precision: {run.arguments.precision}, {run.arguments.precision_reason}. "
        f"On {hardware(run.arguments.device, run.arguments.world_size)}."
    )
    if run.arguments.device.type == "cuda" and torch.cuda.device_count() > 1 and not is_launched():
        print(f"{torch.cuda.device_count()} GPUs are here: `accelerate launch` uses all of them.")
    if not can_have_linear_probe(model):
        print(f"No linear probe: it needs one of {', '.join(FAMILIES)}, and no weighted layer sum")
    if run.contamination:
        print(f"Warning: {run.contamination}.")
