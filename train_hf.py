# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["music-genre[train,onnx]"]
# [tool.uv.sources]
# music-genre = { path = "." }
# ///
"""Fine-tune DistilHuBERT or another audio model to classify music genres; report and publish it.

    accelerate launch train_hf.py                              # your GTZAN, or the quickstart
    accelerate launch train_hf.py configs/gtzan.json           # the reference run
    accelerate launch train_hf.py configs/gtzan.json --dataset data/gtzan --learning_rate 3e-5

If no data and no model are given, it trains on the GTZAN archive in data/. Without an archive, it
runs the quickstart: synthesised music and a tiny net, minutes on two cores, no network.
"""

import os
import sys

# Set this before torch is imported: on a shared CPU, threads that spin while they wait made a step
# ten times slower. On a free CPU, threads that sleep cost less than that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from music_genre.training.launcher import stop_with_launcher

if __name__ == "__main__":
    stop_with_launcher()

from pathlib import Path
from typing import Any

from accelerate import PartialState

from music_genre.errors import InputError, exit_with_message
from music_genre.loading import find_model, load_feature_extractor, without_warnings
from music_genre.publishing.card import model_card
from music_genre.publishing.hub import publish
from music_genre.report import read_report, write_report
from music_genre.training import checkpoints, results, setup
from music_genre.training.arguments import (
    QUICKSTART_CONFIG,
    REFERENCE_CONFIG,
    DataArguments,
    ModelArguments,
    RecipeArguments,
    parse_arguments,
)
from music_genre.training.averaging import average_and_choose
from music_genre.training.callbacks import LoadCheckpoints, StopEarly
from music_genre.training.clock import Clock
from music_genre.training.data import find_archives, load_data, prepare
from music_genre.training.failures import explain_failures
from music_genre.training.job import run_as_job
from music_genre.training.linear_probe import describe_choice, fit_linear_probe, keep_layers
from music_genre.training.processes import print_once
from music_genre.training.run_options import checkpoint_to_resume, options_of, write_options
from music_genre.training.scoring import evaluate
from music_genre.training.seeds import run_seeds
from music_genre.training.seen import check_resumed, write_seen
from music_genre.training.setup import Run


def run(data: DataArguments, model: ModelArguments, recipe: RecipeArguments) -> None:
    """Train once, score the model, and write the files of the run.

    Raises:
        InputError: with a sentence for the user.
        SystemExit: 143 after SIGTERM and 130 after Ctrl-C, when a checkpoint was saved.
    """
    clock = Clock()
    setup.use_all_cores(recipe)
    base = find_model(model.model_name_or_path, model.revision)
    sampling_rate = load_feature_extractor(base).sampling_rate
    options = options_of(data, model, recipe)
    # What can fail fails before the preparation, which may take hours.
    if recipe.output_dir:
        checkpoint_to_resume(recipe, options)
    setup.check_model(base, model, recipe)
    repo_id = setup.open_repository(recipe, data.dataset)
    with clock.stage("preparation"):
        dataset, preparation = load_data(
            prepare(data, sampling_rate, bool(recipe.resume_from_checkpoint)), data, sampling_rate
        )
    recipe.output_dir = recipe.output_dir or setup.default_output_dir(model, preparation)
    checkpoint = checkpoint_to_resume(recipe, options)
    PartialState().wait_for_everyone()

    with checkpoints.open_folder(recipe):
        this = setup.make_run(base, dataset, preparation, model, recipe, clock)
        if checkpoint:
            check_resumed(this.seen, this.folder)
        if recipe.should_save:
            write_seen(this.seen, this.folder)
            write_options(options, this.folder)
        setup.print_plan(this)
        train_and_score(this, checkpoint, repo_id)


def train_and_score(run: Run, checkpoint: str | None, repo_id: str | None) -> None:
    """Write the linear probe as a finished model; fine-tune, and replace it if that is better."""
    probe, fine_tuned = run.folder / checkpoints.LINEAR_PROBE, run.folder / checkpoints.FINISHING
    is_only_probe = not setup.has_epochs(run.arguments)
    report = read_report(run.folder)
    if is_only_probe and report and report["train"]["steps"]:
        raise InputError(
            f"{run.folder} is fine-tuned already: leave out --num_train_epochs 0 to go on with it."
        )
    choice = start_from_linear_probe(run, checkpoint) if run.has_linear_probe else None
    if choice and (is_only_probe or not report):
        training = results.describe_training(run, choice | {"is_kept": True})
        write_model(run, probe, training, repo_id, is_last=is_only_probe)
    if is_only_probe:
        return
    if choice:
        print_once("You can stop at any time: the linear probe is already saved as a usable model.")

    steps_before, stopped_by_budget = fine_tune(run, checkpoint)
    save_fine_tuned(run, fine_tuned)
    source = fine_tuned
    if choice:
        with run.clock.stage("averaging"):
            choice |= average_and_choose(fine_tuned, probe, run.tracks["validation"], run.arguments)
        source = probe if choice["is_kept"] else fine_tuned
    training = results.describe_training(run, choice, steps_before, stopped_by_budget)
    write_model(run, source, training, repo_id, is_last=True)


def start_from_linear_probe(run: Run, checkpoint: str | None) -> dict[str, Any] | None:
    """Fit the linear probe, or restore a resumed run's; return what `fit_linear_probe` returned."""
    trainer = run.trainer
    if not checkpoint:
        with run.clock.stage("linear probe"):
            choice = fit_linear_probe(trainer, run.crops)
        if run.arguments.should_save:
            checkpoints.save_linear_probe(
                run.folder, trainer.model, trainer.processing_class, choice
            )
        print_once(describe_choice(choice))
        PartialState().wait_for_everyone()
        return choice
    config = type(trainer.model.config).from_pretrained(checkpoint)
    keep_layers(trainer.model, getattr(config, "num_hidden_layers", 0))
    if checkpoints.is_linear_probe(checkpoint):
        checkpoints.load_weights(trainer.model, Path(checkpoint))
        print_once("No step of fine-tuning was saved: the run continues from the linear probe.")
    return checkpoints.read_choice(run.folder)


def fine_tune(run: Run, checkpoint: str | None) -> tuple[int, bool]:
    """Fine-tune to the last weights, or with --load_best_model_at_end to the best step's weights.

    Returns:
        The steps done before this run resumed, and whether --time_budget_minutes ended it.

    Raises:
        SystemExit: 143 after SIGTERM and 130 after Ctrl-C, when a checkpoint was saved.
    """
    trainer, arguments, clock = run.trainer, run.arguments, run.clock
    steps_before = checkpoints.steps_done(checkpoint, arguments.precision)
    resumed = checkpoint if steps_before else None
    # The end needs time to score the average, the probe, and the result again in one pass.
    scoring = clock.stages.get(results.SCORING) or results.seconds_of_scoring(run.folder)
    reserved = 3 * scoring
    minutes = arguments.time_budget_minutes
    budget = float("inf") if minutes is None else 60 * minutes
    stop = StopEarly(deadline=clock.started + budget - reserved)
    trainer.add_callback(stop)
    trainer.add_callback(LoadCheckpoints(resumed))
    # The Trainer warns about renamed tensors, but LoadCheckpoints loads them.
    with clock.stage(results.FINE_TUNING), without_warnings("transformers.trainer"):
        trainer.train(resume_from_checkpoint=resumed)
    if stop.asked_by:
        step = trainer.state.global_step
        print_once(f"Stopped after step {step}; it is saved. {checkpoints.RESUME}")
        sys.exit(128 + stop.asked_by)
    return steps_before, stop.is_late


def save_fine_tuned(run: Run, folder: Path) -> None:
    """Save with the Trainer, which can also save a model that is sharded over several GPUs."""
    run.trainer.save_model(str(folder))
    if run.arguments.should_save:
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle
    PartialState().wait_for_everyone()


def write_model(
    run: Run, source: Path, training: dict[str, Any], repo_id: str | None, is_last: bool
) -> None:
    """Score the model in `source` and write the files of the run; publish them if `is_last`."""
    num_tracks = sum(map(len, run.tracks.values()))
    print_once(f"Scoring {num_tracks} tracks of validation and test: whole, then 2 s of each.")
    with run.clock.stage(results.SCORING):
        classifier, scores, temperature = evaluate(source, run.tracks, run.arguments, is_last)
    training["stages"] = run.clock.rounded()
    if run.arguments.should_save:
        report = results.make_report(run, scores, temperature, training, classifier.labels)
        new = run.folder / checkpoints.FINISHING
        new.mkdir(exist_ok=True)
        results.write_results(run, classifier, scores, report, new)
        model_card(report, str(run.folder)).save(new / "README.md")
        write_report(report, new)
        checkpoints.move_into_place(run.folder)
    if not run.trainer.is_world_process_zero():
        return
    results.print_results(report, run.folder)
    if is_last:
        print(run.clock.describe())
        if repo_id:
            print(f"Published: {publish(run.folder, repo_id, run.arguments.hub_private_repo)}")


def names_a_run(argv: list[str]) -> bool:
    """Whether the command line asks for more than the quickstart: a config file, data, a model."""
    options = {argument.partition("=")[0].replace("-", "_").strip("_") for argument in argv}
    is_config = bool(argv) and not argv[0].startswith("-")
    names = {"h", "help", "dataset", "model_name_or_path", "seeds", "job", "push_to_hub"}
    return is_config or not names.isdisjoint(options)


def main() -> None:
    argv, config = sys.argv[1:], REFERENCE_CONFIG
    with exit_with_message(f"Stopped. If a checkpoint is there: {checkpoints.RESUME}"):
        if not names_a_run(argv) and not find_archives():
            print_once("There is no GTZAN archive in data/, so this is the quickstart.")
            config = QUICKSTART_CONFIG
        data, model, recipe = parse_arguments(argv, __doc__, config)
        with explain_failures(recipe.output_dir):
            if recipe.job:
                if PartialState().is_main_process:  # each process would submit, and cost, a job
                    run_as_job(argv, data, model, recipe)
            elif recipe.seeds:
                run_seeds(run, argv, recipe)
            else:
                run(data, model, recipe)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # in a log file, too
    main()
