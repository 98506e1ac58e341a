"""Set up one training run: model, clips, recipe and callbacks, put together in a `Run`."""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import joblib
import torch
from datasets import Dataset
from transformers import PreTrainedModel, set_seed

from data_prep.prepared import Preparation
from music_genre.cpu_modules import use_cpu_modules
from music_genre.errors import InputError
from music_genre.evaluation.environment import hardware
from music_genre.hub_access import check_access
from music_genre.loading import ModelError, ModelFolder, find_model
from music_genre.report import RUNS_DIR
from music_genre.training.arguments import DataArguments, ModelArguments, RecipeArguments
from music_genre.training.callbacks import SetEpoch, StopOnBadLoss
from music_genre.training.checkpoints import Command
from music_genre.training.clips import Augmentation, CropDataset, TrackDataset, WindowDataset
from music_genre.training.clock import Clock
from music_genre.training.linear_probe import FAMILIES, can_have_linear_probe
from music_genre.training.model import SPECTROGRAM_MODELS, load_for_training
from music_genre.training.processes import print_once
from music_genre.training.seen import SeenTracks, describe_base
from music_genre.training.trainer import Collate, CropLoss, GenreTrainer, compute_metrics

# Variables by which trackio would make or fill a repository or server that no option names.
TRACKIO_VARIABLES = (
    "TRACKIO_SPACE_ID",
    "TRACKIO_BUCKET_ID",
    "TRACKIO_DATASET_ID",
    "TRACKIO_REGISTRY_BUCKET_ID",
    "TRACKIO_SERVER_URL",
)
# Options that say where a run is and how it is watched, and not what comes out of it.
NOT_OF_THE_RESULT = (
    "output_dir",
    "resume_from_checkpoint",
    "disable_tqdm",
    "report_to",
    "run_name",
    "push_to_hub",
    "hub_model_id",
    "job",
    "job_timeout",
    "job_detach",
)


@dataclass
class Run:
    """What belongs to one training run."""

    trainer: GenreTrainer
    crops: CropDataset
    tracks: dict[str, TrackDataset]  # of validation and test
    preparation: Preparation
    model_arguments: ModelArguments
    arguments: RecipeArguments
    base: ModelFolder
    seen: SeenTracks  # what the model is trained on, its base's training included
    seen_test_tracks: int | None  # by the base; None if it does not say
    contamination: str | None  # what the base may know of the test tracks, in a sentence
    clock: Clock

    @property
    def folder(self) -> Path:
        return Path(self.arguments.output_dir)

    @property
    def has_linear_probe(self) -> bool:
        return wants_linear_probe(self.trainer.model, self.model_arguments)


def find_base(arguments: ModelArguments) -> ModelFolder:
    try:
        return find_model(arguments.model_name_or_path, arguments.revision)
    except ModelError as error:
        name = Path(arguments.model_name_or_path)
        hint = ""
        # Their weights are not on the Hub in this form.
        if not name.exists() and (size := re.fullmatch(r"efficientat-(mn\d+)", name.name)):
            hint = f" `python -m music_genre.efficientat {size[1]} {name}` makes it."
        raise ModelError(
            f"{error} --model_name_or_path names the model to start from.{hint}"
        ) from error


def use_all_cores(arguments: RecipeArguments) -> None:
    """`accelerate launch` allows each process one thread unless told otherwise, on a CPU too."""
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if arguments.device.type == "cpu" and is_launched and torch.get_num_threads() == 1:
        n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(max(1, joblib.cpu_count() // n_processes))


def check_trackers(arguments: RecipeArguments) -> None:
    """trackio makes nothing on the Hub that no option names."""
    if "trackio" not in arguments.report_to:
        return
    for variable in TRACKIO_VARIABLES:
        if os.environ.pop(variable, None):
            print_once(
                f"{variable} is set and not used: records stay on this machine, unless "
                "--trackio_space_id or --trackio_bucket_id names a place on the Hub."
            )


def default_output_dir(model_arguments: ModelArguments, preparation: Preparation) -> str:
    """`runs/MODEL-DATASET`, both by the last part of their path: runs/distilhubert-gtzan."""
    names = (model_arguments.model_name_or_path, preparation.dataset_name)
    return str(RUNS_DIR / "-".join(Path(name).absolute().name for name in names).lower())


def identify(
    data: DataArguments,
    model: ModelArguments,
    recipe: RecipeArguments,
    seen: SeenTracks,
    dataset: dict[str, Dataset],
) -> Command:
    """What makes a run the same: the options that matter for its result, and the clips."""
    options = (
        asdict(model) | recipe.to_dict() | {"split": data.split, "seed_of_split": data.split_seed}
    )
    options = {name: v for name, v in options.items() if name not in NOT_OF_THE_RESULT}
    clips = [sorted(seen.samples), *(dataset[name]["track_id"][:] for name in dataset)]
    return Command(_digest(options), _digest(clips))


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def wants_linear_probe(model: PreTrainedModel, arguments: ModelArguments) -> bool:
    is_possible = not arguments.from_scratch and can_have_linear_probe(model)
    return arguments.linear_probe is not False and is_possible


def why_no_linear_probe(model: PreTrainedModel, arguments: ModelArguments) -> str | None:
    """A sentence, where a person may expect one and there is none."""
    is_expected = not arguments.from_scratch and arguments.linear_probe is not False
    if not is_expected or can_have_linear_probe(model):
        return None
    known = ", ".join(FAMILIES)
    return f"No linear probe: it is for {known}, and not with a weighted sum of layers."


def make_run(
    base: ModelFolder,
    dataset: dict[str, Dataset],
    preparation: Preparation,
    own_tracks: SeenTracks,
    model_arguments: ModelArguments,
    arguments: RecipeArguments,
    clock: Clock | None = None,
) -> Run:
    """Load the model and put it, the clips and the recipe together.

    Args:
        clock: of the run; a new one by default.
    """
    set_seed(arguments.seed)  # before the model: its head is random
    model, feature_extractor = load_for_training(
        base,
        dataset["train"].features["genre"].names,
        model_arguments.window_seconds,
        model_arguments.from_scratch,
    )
    model.config.trained_on_synthetic_music = preparation.is_synthetic
    _check_abilities(model, model_arguments, arguments)
    _freeze_convolutions(model, model_arguments, arguments)
    if hasattr(model.config, "apply_spec_augment"):
        model.config.apply_spec_augment = arguments.spec_augment
    window = int(model_arguments.window_seconds * feature_extractor.sampling_rate)
    augmentation = Augmentation(
        arguments.mixup, arguments.speed_perturbation, arguments.spec_augment
    )
    crops = CropDataset(dataset["train"], window, arguments.seed, augmentation)
    tracks = {name: TrackDataset(dataset[name], window) for name in ("validation", "test")}
    loss = CropLoss(arguments.label_smoothing_factor)
    has_time_first = model.main_input_name == "input_values"  # AST, EfficientAT
    try:
        trainer = GenreTrainer(
            model=model,
            args=arguments,
            train_dataset=crops,
            eval_dataset=WindowDataset(tracks["validation"]),
            data_collator=Collate(feature_extractor, model.main_input_name, has_time_first),
            processing_class=feature_extractor,
            compute_loss_func=loss,
            compute_metrics=compute_metrics,
            callbacks=[SetEpoch(crops), StopOnBadLoss(loss)],
        )
    except (ValueError, RuntimeError) as error:  # options that do not go together or go here
        raise InputError(str(error).splitlines()[0]) from error
    base_tracks = None if model_arguments.from_scratch else SeenTracks.read(base.path)
    n_seen, contamination = None, None
    if not model_arguments.from_scratch and not preparation.is_synthetic:
        n_seen, contamination = describe_base(
            base, base_tracks, preparation.dataset_name, preparation.kind, dataset["test"]
        )
    return Run(
        trainer, crops, tracks, preparation, model_arguments, arguments, base,
        own_tracks.joined(base_tracks), n_seen, contamination, clock or Clock(),
    )  # fmt: skip


def _freeze_convolutions(
    model: PreTrainedModel, model_arguments: ModelArguments, arguments: RecipeArguments
) -> None:
    freeze = model_arguments.freeze_feature_encoder
    if freeze is None:  # random convolutions have to be trained
        freeze = not model_arguments.from_scratch and hasattr(model, "freeze_feature_encoder")
    if freeze:
        model.freeze_feature_encoder()
    if freeze and arguments.device.type == "cpu":
        use_cpu_modules(model)


def _check_abilities(
    model: PreTrainedModel, model_arguments: ModelArguments, arguments: RecipeArguments
) -> None:
    """
    Raises:
        InputError: an option asks for what this kind of model does not have.
    """
    config = model.config
    has_probe = wants_linear_probe(model, model_arguments)
    if not has_epochs(arguments) and not has_probe:
        raise InputError(
            "--num_train_epochs 0 makes the linear probe only, and this run has none: give a "
            "number of epochs."
        )
    masks_features = getattr(config, "mask_time_prob", 0) or getattr(config, "mask_feature_prob", 0)
    masks_spectrograms = config.model_type in SPECTROGRAM_MODELS
    for option, is_possible in {
        "freeze_feature_encoder": hasattr(model, "freeze_feature_encoder"),
        "linear_probe": has_probe,
        "spec_augment": bool(masks_features) or masks_spectrograms,
    }.items():
        is_asked = getattr(model_arguments, option, None) or getattr(arguments, option, None)
        if is_asked and not is_possible:
            raise InputError(
                f"--{option} has no effect on {model_arguments.model_name_or_path}, a model of "
                f"type {config.model_type}"
                f"{' with random weights' if model_arguments.from_scratch else ''}: set it to "
                "False."
            )


def has_epochs(arguments: RecipeArguments) -> bool:
    return arguments.max_steps > 0 or arguments.num_train_epochs > 0


def open_repository(arguments: RecipeArguments, preparation: Preparation) -> str | None:
    """With --push_to_hub, the id of a repository that can be written; before hours of work."""
    if not arguments.push_to_hub:
        return None
    if not arguments.hub_model_id:
        raise InputError("--push_to_hub needs --hub_model_id USER/NAME.")
    if preparation.is_synthetic:
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
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if run.arguments.device.type == "cuda" and torch.cuda.device_count() > 1 and not is_launched:
        print(f"{torch.cuda.device_count()} GPUs are here: `accelerate launch` uses all of them.")
    if reason := why_no_linear_probe(model, model_arguments):
        print(reason)
    if run.contamination:
        print(f"Warning: {run.contamination}.")
