"""The options that a run started with, in a file in its folder: a resumed run must have the same.

options = options_of(data, model, recipe)
checkpoint = checkpoint_to_resume(recipe, options)
"""

import json
from pathlib import Path
from typing import Any

from music_genre.errors import InputError
from music_genre.training.arguments import DataArguments, ModelArguments, RecipeArguments
from music_genre.training.checkpoints import find_checkpoint, is_linear_probe

OPTIONS_FILE = "options.json"
# The linear probe depends only on these: fine-tuning may continue from it with another recipe.
PROBE_OPTIONS = (
    "model_name_or_path", "from_scratch", "linear_probe", "window_seconds", "speed_perturbation",
    "seed",
)  # fmt: skip
TRAINING_OPTIONS = (
    *PROBE_OPTIONS, "freeze_feature_encoder", "learning_rate", "lr_scheduler_type", "warmup_steps",
    "weight_decay", "optim", "mixup", "spec_augment", "label_smoothing_factor", "crops_per_step",
)  # fmt: skip
# A resumed run may train longer. Runs that are summarized together must not.
ALL_OPTIONS = (
    *TRAINING_OPTIONS, "num_train_epochs", "max_steps", "dataset", "split", "split_seed",
    "genre_from",
)  # fmt: skip


def options_of(
    data: DataArguments, model: ModelArguments, recipe: RecipeArguments
) -> dict[str, Any]:
    """ALL_OPTIONS and their values, as JSON has them."""
    values = vars(data) | vars(model) | vars(recipe) | {"crops_per_step": recipe.crops_per_step}
    for name in ("model_name_or_path", "dataset"):  # a folder may be moved
        values[name] = values[name] and Path(values[name]).name
    return json.loads(json.dumps({name: values[name] for name in ALL_OPTIONS}))


def checkpoint_to_resume(recipe: RecipeArguments, options: dict[str, Any]) -> str | None:
    """The checkpoint that --resume_from_checkpoint names; None for a new run.

    Raises:
        InputError: as `find_checkpoint`, or the run started with other options.
    """
    checkpoint = find_checkpoint(recipe.output_dir, recipe.resume_from_checkpoint)
    if checkpoint:
        names = PROBE_OPTIONS if is_linear_probe(checkpoint) else TRAINING_OPTIONS
        check_options(options, Path(recipe.output_dir), names)
    return checkpoint


def write_options(options: dict[str, Any], folder: Path) -> None:
    (folder / OPTIONS_FILE).write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")


def check_options(options: dict[str, Any], folder: Path, names: tuple[str, ...]) -> None:
    """Check that the run in `folder`, if there is one, started with the same options.

    Raises:
        InputError: one of the options `names` has another value now.
    """
    path = folder / OPTIONS_FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else options
    for name in names:
        if before.get(name) != options[name]:
            raise InputError(
                f"{folder} was started with {name} {before.get(name)}, and {name} is "
                f"{options[name]} now: resume with the old value, or start a new run in another "
                "--output_dir."
            )
