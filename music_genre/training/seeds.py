"""Several runs one after another, each with its own seed and folder."""

from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from music_genre.errors import InputError
from music_genre.evaluation.seeds import describe_seeds, summarize_seeds
from music_genre.report import read_report
from music_genre.training.arguments import RecipeArguments, parse_arguments
from music_genre.training.checkpoints import read_choice
from music_genre.training.clock import Clock
from music_genre.training.run_options import ALL_OPTIONS, check_options, options_of


def run_seeds(run: Callable[..., None], argv: list[str], recipe: RecipeArguments) -> None:
    """Run all seeds that are not finished; they share --time_budget_minutes.

    Args:
        run: does one run, and takes what `parse_arguments` returns.
        argv, recipe: the arguments of train_hf.py, and the recipe parsed from them.
    """
    if recipe.push_to_hub:
        raise InputError("--seeds makes several models: publish the one you choose.")
    clock = Clock()
    folders = [Path(recipe.output_dir) / f"seed-{seed}" for seed in recipe.seeds]
    arguments_of_seeds = [
        parse_arguments([*argv, "--seed", str(seed), "--output_dir", str(folder)])
        for seed, folder in zip(recipe.seeds, folders, strict=True)
    ]
    if recipe.resume_from_checkpoint:  # they differ only in their seed
        for arguments, folder in zip(arguments_of_seeds, folders, strict=True):
            check_options(options_of(*arguments), folder, ALL_OPTIONS)
    for i, (arguments, folder) in enumerate(zip(arguments_of_seeds, folders, strict=True)):
        seed_arguments = arguments[-1]
        if recipe.resume_from_checkpoint:
            train = (read_report(folder) or {"train": {"steps": 0}})["train"]
            # A report without steps is from the linear probe.
            if train["steps"] and not train["stopped_by_budget"]:
                continue
            has_checkpoint = any(folder.glob("checkpoint-*")) or read_choice(folder)
            seed_arguments.resume_from_checkpoint = "last" if has_checkpoint else None
        if recipe.time_budget_minutes:
            left = recipe.time_budget_minutes - clock.seconds / 60
            seed_arguments.time_budget_minutes = max(left, 0) / (len(folders) - i) or 1e-9
        run(*arguments)
    PartialState().wait_for_everyone()  # the first process writes the reports
    if PartialState().is_main_process:
        print(describe_seeds(summarize_seeds(folders)))
