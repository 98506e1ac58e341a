"""Fine-tune DistilHuBERT, or another audio model, to tell music genres apart; report; publish.

    accelerate launch train_hf.py                              # your GTZAN, or else the quickstart
    accelerate launch train_hf.py configs/gtzan.json           # the reference run
    accelerate launch train_hf.py configs/gtzan.json --dataset data/gtzan --learning_rate 3e-5

Without arguments it trains on the GTZAN archive in data/ if there is one. If not, it runs the
quickstart: synthesised music and a tiny net, a few minutes on two cores, no network.
"""

import os
import sys

from music_genre.training.launcher import stop_with_launcher
from music_genre.training.options import answer_early

# Before torch: on a CPU that others use too, threads that spin while they wait made a step 10 to 20
# times slower; threads that sleep cost 12 to 25 % where the CPU is free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if __name__ == "__main__":
    stop_with_launcher()
    answer_early(sys.argv[1:], __doc__)  # what follows takes seconds to import

import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import PartialState

from music_genre.errors import InputError, exit_with_message
from music_genre.evaluation.seeds import describe_seeds, summarize_seeds
from music_genre.hub_access import check_access
from music_genre.loading import find_model
from music_genre.publishing.card import model_card
from music_genre.publishing.hub import publish
from music_genre.report import RUNS_DIR, read_report, write_report
from music_genre.training.arguments import RecipeArguments, parse_arguments
from music_genre.training.callbacks import FindBestCheckpoint
from music_genre.training.checkpoints import (
    LINEAR_PROBE,
    LOCK_FILE,
    check_steps_per_epoch,
    find_checkpoint,
    hold_folder,
    is_disk_full,
    is_finished,
    is_linear_probe,
    load_weights,
    n_steps_of,
    prepare_folder,
    replace_when_complete,
)
from music_genre.training.data import Source, load_data
from music_genre.training.fallback import (
    load_linear_probe_if_not_beaten,
    read_choice,
    save_linear_probe,
)
from music_genre.training.linear_probe import describe_choice, fit_linear_probe, keep_layers
from music_genre.training.options import DataArguments, ModelArguments
from music_genre.training.results import (
    describe_training,
    make_report,
    print_results,
    write_results,
)
from music_genre.training.scoring import evaluate
from music_genre.training.setup import (
    Run,
    add_callbacks,
    can_have_linear_probe,
    check_trackers,
    default_output_dir,
    explain_launcher,
    make_trainer,
    prepare_cpu,
    print_plan,
)

RESUME = "--resume_from_checkpoint last resumes the run."


def what_is_left(output_dir: str | None) -> str:
    """What a person who stops a run has."""
    folder = Path(output_dir or RUNS_DIR)
    if not output_dir or not (list(folder.glob("checkpoint-*")) or read_choice(folder)):
        return "Stopped: nothing was saved."
    model = f" {folder} has a model: python app.py --model {folder}." if read_report(folder) else ""
    return f"Stopped.{model} {RESUME}"


def run(
    data_arguments: DataArguments, model_arguments: ModelArguments, arguments: RecipeArguments
) -> None:
    """Train once, score, and write what a run leaves.

    Raises:
        InputError: with a sentence for the person.
        SystemExit: 143 after SIGTERM, when a checkpoint was saved.
    """
    started = time.monotonic()
    prepare_cpu(arguments)
    check_trackers(arguments)
    found = find_model(model_arguments.model_name_or_path, model_arguments.revision)
    with arguments.main_process_first(desc="preparing data and folder"):
        dataset, source = load_data(
            data_arguments.dataset, data_arguments.split, data_arguments.split_seed
        )
        if not len(dataset["validation"]):
            raise InputError("The validation split is empty: take another --split.")
        if arguments.output_dir is None:
            arguments.output_dir = default_output_dir(model_arguments, source)
        folder = Path(arguments.output_dir)
        if PartialState().is_main_process and (folder / LOCK_FILE).exists():
            with hold_folder(folder):  # a run that works in it is no earlier one
                pass
        checkpoint = find_checkpoint(folder, arguments.resume_from_checkpoint)
    repo_id = open_repository(arguments, source)

    with hold_folder(folder) if PartialState().is_main_process else nullcontext():
        trainer, datasets = make_trainer(found, dataset, source, model_arguments, arguments)
        this = Run(trainer, datasets, source, model_arguments, arguments, found.commit)
        if trainer.is_world_process_zero():
            prepare_folder(folder, checkpoint)
            print_plan(this)
        train_and_score(this, checkpoint, repo_id, started)


def train_and_score(run: Run, checkpoint: str | None, repo_id: str | None, started: float) -> None:
    """The part of a run that holds its folder: linear probe, fine-tuning, results."""
    choice = start_from_linear_probe(run, checkpoint)
    has_epochs = run.arguments.max_steps > 0 or run.arguments.num_train_epochs > 0
    if choice and not checkpoint:
        training = describe_training(run, time.monotonic() - started)
        training["linear_probe"] = choice | {"is_kept": True}
        write_model(run, training, None if has_epochs else repo_id, is_last=not has_epochs)
    if not has_epochs:
        return
    if choice and run.trainer.is_world_process_zero():
        print("Fine-tuning starts. Whoever stops it keeps the linear probe, a finished model.")
    if choice and not checkpoint:
        load_weights(run.trainer.model, run.folder / LINEAR_PROBE)  # as it was before calibration
    training = fine_tune(run, checkpoint, started)
    if choice is not None:
        choice = load_linear_probe_if_not_beaten(run.trainer, run.datasets["validation"])
        training["linear_probe"] = choice
        if choice and choice["is_kept"]:
            training["best_step"] = 0
    write_model(run, training, repo_id, is_last=True)


def start_from_linear_probe(run: Run, checkpoint: str | None) -> dict[str, Any] | None:
    """Fit the linear probe and choose the layers; a resumed run has both in its checkpoint.

    Returns:
        What `fit_linear_probe` returned; empty if a resumed run does not bring it along. None if
        the run has no linear probe.
    """
    model = run.trainer.model
    is_wanted = run.model_arguments.linear_probe is not False
    if not is_wanted or not can_have_linear_probe(model, run.model_arguments):
        return None
    if not checkpoint:
        choice = fit_linear_probe(run.trainer, run.datasets["train"])
        save_linear_probe(run.trainer, choice)
        if run.trainer.is_world_process_zero():
            print(describe_choice(choice))
        return choice
    keep_layers(model, type(model.config).from_pretrained(checkpoint).num_hidden_layers)
    if is_linear_probe(checkpoint):
        load_weights(model, Path(checkpoint))
        if run.trainer.is_world_process_zero():
            print("No step of fine-tuning was saved: the run continues from the linear probe.")
    return read_choice(run.folder) or {}


def fine_tune(run: Run, checkpoint: str | None, started: float) -> dict[str, Any]:
    """Train; what the model has in the end is its last weights.

    With --load_best_model_at_end, it is those of the step that validation found best.

    Returns:
        The part of report.json on the training.

    Raises:
        SystemExit: 143 after SIGTERM, when a checkpoint was saved.
    """
    trainer, steps_before = run.trainer, n_steps_of(checkpoint)
    n_batches = len(trainer.get_train_dataloader())
    check_steps_per_epoch(checkpoint, n_batches / run.arguments.gradient_accumulation_steps)
    time_keeper, on_sigterm = add_callbacks(run, started)
    trainer.add_callback(FindBestCheckpoint(checkpoint))
    training_started = time.monotonic()
    trainer.train(resume_from_checkpoint=None if is_linear_probe(checkpoint) else checkpoint)
    seconds = time.monotonic() - training_started
    if on_sigterm.is_asked:
        if trainer.is_world_process_zero():
            print(f"Stopped after step {trainer.state.global_step}; it is saved. {RESUME}")
        sys.exit(128 + signal.SIGTERM)
    return describe_training(run, seconds, steps_before) | {
        "run_seconds": round(time.monotonic() - started, 1),
        "forecast_seconds": time_keeper.forecast and round(time_keeper.forecast, 1),
        "stopped_by_budget": time_keeper.stopped_early,
    }


def write_model(run: Run, training: dict[str, Any], repo_id: str | None, is_last: bool) -> None:
    """Score the model as it is, write all that a run leaves, and publish it in `repo_id`."""
    datasets = {name: run.datasets[name] for name in ("validation", "test")}
    if run.trainer.is_world_process_zero():
        n = sum(map(len, datasets.values()))
        print(f"Scoring {n} tracks of validation and test: whole, then 2 s of each.")
    scores, temperature = evaluate(run.trainer, datasets, in_one_pass=is_last)
    if not run.trainer.is_world_process_zero():
        return
    report = make_report(run, scores, training) | {"temperature": temperature}
    with replace_when_complete(run.folder, is_last) as new:
        write_results(run, scores, report, new)
        model_card(report, repo_id or str(run.folder)).save(new / "README.md")
        write_report(report, new)
    print_results(report, run.folder)
    if repo_id:
        print(f"Published: {publish(run.folder, repo_id, run.arguments.hub_private_repo)}")


def run_seeds(argv: list[str], recipe: RecipeArguments) -> None:
    """One run after another, each in a folder of its own; finished ones are not run again."""
    folders = [Path(recipe.output_dir) / f"seed-{seed}" for seed in recipe.seeds]
    if recipe.push_to_hub:
        raise InputError("--seeds makes several models: publish the one you choose.")
    if not recipe.resume_from_checkpoint:
        with recipe.main_process_first(desc="preparing the folders"):
            start_anew(folders)
    for seed, folder in zip(recipe.seeds, folders, strict=True):
        arguments = parse_arguments([*argv, "--seed", str(seed), "--output_dir", str(folder)])
        if recipe.resume_from_checkpoint:
            if is_finished(folder):
                continue
            has_checkpoint = any(folder.glob("checkpoint-*")) or read_choice(folder)
            arguments[-1].resume_from_checkpoint = "last" if has_checkpoint else None
        run(*arguments)
    if PartialState().is_main_process:
        print(describe_seeds(summarize_seeds(folders)))


def start_anew(folders: list[Path]) -> None:
    """So that no model of an earlier run counts as one of this, if this one is resumed."""
    for folder in folders:
        find_checkpoint(folder, None)
    if PartialState().is_main_process:
        for folder in folders:
            with hold_folder(folder):
                prepare_folder(folder, None)


def open_repository(arguments: RecipeArguments, source: Source) -> str | None:
    """With --push_to_hub, the id of a repository that can be written; before hours of work."""
    if not arguments.push_to_hub:
        return None
    if not arguments.hub_model_id:
        raise InputError("--push_to_hub needs --hub_model_id USER/NAME.")
    if source.is_synthetic:
        raise InputError("A model of synthesised music is a demonstration: it is not pushed.")
    arguments.push_to_hub = False  # the Trainer would upload every checkpoint, pickles and all
    return check_access(arguments.hub_model_id, arguments.hub_private_repo)


def main() -> None:
    argv = sys.argv[1:]
    arguments = parse_arguments(argv, __doc__)
    recipe = arguments[-1]
    explain_launcher()
    with exit_with_message(lambda: what_is_left(recipe.output_dir)):
        try:
            if recipe.seeds:
                run_seeds(argv, recipe)
            else:
                run(*arguments)
        except InputError:
            raise
        except Exception as error:
            if not is_disk_full(error, Path(recipe.output_dir or RUNS_DIR)):
                raise
            raise InputError(f"The disk is full. Make room; then {RESUME}") from error


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # in a log file, too
    main()
