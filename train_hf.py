# /// script
# # pyproject.toml has a reason for each; tests/test_packaging.py compares the two.
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.11.*",
#   "transformers>=5.23,<6",
#   "huggingface_hub>=2.4,<3",
#   "numpy>=2,<3",
#   "soundfile>=0.13,<1",
#   "av>=18,<19",
#   "soxr>=1,<2",
#   "pebble>=5.1,<6",
#   "joblib>=1.4,<2",
#   "mutagen>=1.48,<2",
#   "pyarrow>=24,<27",
#   "tqdm>=4.66,<5",
#   "torchaudio==2.11.0",
#   "accelerate>=1.15,<2",
#   "datasets>=5.2,<6",
#   "evaluate>=0.4.6,<1",
#   "pandas>=2.3,<4",
#   "filelock>=3.12,<5",
#   "scikit-learn>=1.7,<2",
#   "scipy>=1.15,<2",
#   "threadpoolctl>=3.2,<4",
#   "matplotlib>=3.10,<4",
#   "pillow>=11,<14",
#   "onnx>=1.23,<2",
#   "onnxscript>=0.7.2,<1",
#   "onnxruntime>=1.31,<2",
# ]
# ///
"""Fine-tune DistilHuBERT, or another audio model, to tell music genres apart; report; publish.

    accelerate launch train_hf.py                              # your GTZAN, or else the quickstart
    accelerate launch train_hf.py configs/gtzan.json           # the reference run
    accelerate launch train_hf.py configs/gtzan.json --dataset data/gtzan --learning_rate 3e-5

Without arguments it trains on the GTZAN archive in data/ if there is one. If not, it runs the
quickstart: synthesised music and a tiny net, a few minutes on two cores, no network.
"""

import os
import sys

# Before torch: on a CPU that others use too, threads that spin while they wait made a step ten
# times slower; threads that sleep cost less where the CPU is free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from music_genre.training.launcher import stop_with_launcher

if __name__ == "__main__":
    stop_with_launcher()

from music_genre.training.arguments import REFERENCE_CONFIG, parse_arguments

if __name__ == "__main__":  # a wrong option need not wait for the other imports
    parse_arguments(sys.argv[1:], __doc__)

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from music_genre.errors import InputError, exit_with_message
from music_genre.evaluation.seeds import describe_seeds, summarize_seeds
from music_genre.hub_access import check_access
from music_genre.loading import load_feature_extractor, without_warnings
from music_genre.publishing.card import model_card
from music_genre.publishing.hub import publish
from music_genre.report import RUNS_DIR, read_report, write_report
from music_genre.training.arguments import DataArguments, ModelArguments, RecipeArguments
from music_genre.training.averaging import average_and_choose
from music_genre.training.callbacks import LoadCheckpoint, StopOnSignal, StopOnTime
from music_genre.training.checkpoints import (
    FINISHING,
    LINEAR_PROBE,
    Command,
    check_precision,
    check_steps_per_epoch,
    find_checkpoint,
    hold_folder,
    is_disk_full,
    is_finished,
    is_held,
    is_linear_probe,
    load_weights,
    move_into_place,
    num_steps_of,
    prepare_folder,
    read_choice,
    save_linear_probe,
)
from music_genre.training.data import QUICKSTART_CONFIG, find_archives, load_data, prepare
from music_genre.training.job import run_as_job
from music_genre.training.linear_probe import describe_choice, fit_linear_probe, keep_layers
from music_genre.training.processes import print_once
from music_genre.training.results import (
    describe_training,
    make_report,
    print_results,
    write_results,
)
from music_genre.training.scoring import evaluate
from music_genre.training.seen import SeenTracks
from music_genre.training.setup import (
    Run,
    check_trackers,
    default_output_dir,
    explain_launcher,
    find_base,
    has_epochs,
    identify,
    make_run,
    print_plan,
    use_all_cores,
)

RESUME = "The same command with --resume_from_checkpoint last resumes the run."


def run(data: DataArguments, model: ModelArguments, recipe: RecipeArguments) -> None:
    """Train once, score, and write what a run leaves.

    Raises:
        InputError: with a sentence for the person.
        SystemExit: 143 after SIGTERM and 130 after Ctrl-C, when a checkpoint was saved.
    """
    started = time.monotonic()
    use_all_cores(recipe)
    check_trackers(recipe)
    base = find_base(model)
    sampling_rate = load_feature_extractor(base).sampling_rate
    folders = [None]
    if PartialState().is_main_process:
        folders = [prepare(data, sampling_rate, bool(recipe.resume_from_checkpoint))]
    (prepared,) = broadcast_object_list(folders)
    dataset, preparation = load_data(prepared, data, sampling_rate)
    recipe.output_dir = recipe.output_dir or default_output_dir(model, preparation)
    repo_id = open_repository(recipe, preparation.is_synthetic)

    own_tracks = SeenTracks.of(preparation.dataset_name, dataset["train"])
    command = identify(data, model, recipe, own_tracks, dataset)
    folder, is_main = Path(recipe.output_dir), PartialState().is_main_process
    if is_main and is_held(folder):  # a run that works in it is no earlier one
        with hold_folder(folder):
            pass
    if is_finished(folder) and Command.of(folder) == command and not recipe.resume_from_checkpoint:
        print_once(f"{folder} is finished by this command: nothing to do. Try it: python app.py")
        return
    checkpoint = find_checkpoint(folder, recipe.resume_from_checkpoint, command)
    PartialState().wait_for_everyone()

    with hold_folder(folder) if is_main else nullcontext():
        this = make_run(base, dataset, preparation, own_tracks, model, recipe)
        if is_main:
            prepare_folder(folder, checkpoint)
            command.write(folder)
            print_plan(this)
        train_and_score(this, checkpoint, repo_id, started)


def train_and_score(run: Run, checkpoint: str | None, repo_id: str | None, started: float) -> None:
    """The part of a run that holds its folder: linear probe, fine-tuning, results."""
    probe = run.folder / LINEAR_PROBE
    choice = start_from_linear_probe(run, checkpoint)
    is_only_probe = not has_epochs(run.arguments)
    seconds_of_scoring = 0.0
    if choice and (is_only_probe or not read_report(run.folder)):
        training = describe_training(run, time.monotonic() - started)
        training["linear_probe"] = choice | {"is_kept": True}
        scoring_started = time.monotonic()
        write_model(run, probe, training, repo_id if is_only_probe else None, is_only_probe)
        seconds_of_scoring = time.monotonic() - scoring_started
    if is_only_probe:
        return
    if choice:
        print_once("You can stop at any time: the linear probe is already saved as a usable model.")
    # Scoring at the end is of the average, the probe, and again in one pass.
    training = fine_tune(run, checkpoint, started, reserved=3 * seconds_of_scoring)
    source = run.folder / FINISHING
    save_fine_tuned(run, source)
    if run.has_linear_probe and not choice:
        print_once(
            f"The fine-tuned model of step {run.trainer.state.global_step} is kept, and neither "
            f"averaged nor compared with the linear probe: {probe} is not there."
        )
    elif choice:
        is_quiet = run.arguments.disable_tqdm
        choice |= average_and_choose(source, probe, run.tracks["validation"], is_quiet)
        training["linear_probe"] = choice
        if choice["is_kept"]:
            source, training["best_step"] = probe, 0
    write_model(run, source, training, repo_id, is_last=True)


def start_from_linear_probe(run: Run, checkpoint: str | None) -> dict[str, Any] | None:
    """Fit the linear probe and choose the layers; a resumed run has both in its checkpoint.

    Returns:
        What `fit_linear_probe` returned; None if the run has no linear probe, or a resumed run does
        not bring it along.
    """
    trainer = run.trainer
    if not run.has_linear_probe:
        return None
    if not checkpoint:
        choice = fit_linear_probe(
            trainer.model,
            trainer.processing_class,
            run.crops,
            trainer.accelerator,
            run.arguments.disable_tqdm,
        )
        if trainer.is_world_process_zero():
            save_linear_probe(run.folder, trainer.model, trainer.processing_class, choice)
            print(describe_choice(choice))
        PartialState().wait_for_everyone()
        return choice
    config = type(trainer.model.config).from_pretrained(checkpoint)
    keep_layers(trainer.model, getattr(config, "num_hidden_layers", 0))
    if is_linear_probe(checkpoint):
        load_weights(trainer.model, Path(checkpoint))
        print_once("No step of fine-tuning was saved: the run continues from the linear probe.")
    return read_choice(run.folder)


def fine_tune(run: Run, checkpoint: str | None, started: float, reserved: float) -> dict[str, Any]:
    """Train; what the model has in the end is its last weights.

    With --load_best_model_at_end, it is those of the step that validation found best.

    Args:
        reserved: seconds of --time_budget_minutes that are not for training.

    Returns:
        The part of report.json on the training.

    Raises:
        SystemExit: 143 after SIGTERM and 130 after Ctrl-C, when a checkpoint was saved.
    """
    trainer, arguments, steps_before = run.trainer, run.arguments, num_steps_of(checkpoint)
    check_precision(checkpoint, arguments.precision)
    num_batches = len(trainer.get_train_dataloader())
    check_steps_per_epoch(checkpoint, num_batches / arguments.gradient_accumulation_steps)
    checkpoint = None if is_linear_probe(checkpoint) else checkpoint
    on_signal = StopOnSignal()
    on_time = StopOnTime(started + 60 * (arguments.time_budget_minutes or float("inf")) - reserved)
    for callback in (on_signal, on_time, *([LoadCheckpoint(checkpoint)] if checkpoint else [])):
        trainer.add_callback(callback)
    training_started = time.monotonic()
    # It warns about renamed tensors, which LoadCheckpoint and the next lines load.
    is_loaded = checkpoint or arguments.load_best_model_at_end
    with without_warnings("transformers.trainer") if is_loaded else nullcontext():
        trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.monotonic() - training_started
    if on_signal.asked_by:
        print_once(f"Stopped after step {trainer.state.global_step}; it is saved. {RESUME}")
        sys.exit(128 + on_signal.asked_by)
    best = trainer.state.best_model_checkpoint
    if arguments.load_best_model_at_end and best and not (arguments.fsdp or arguments.deepspeed):
        load_weights(trainer.model, Path(best))
    return describe_training(run, seconds, steps_before) | {
        "run_seconds": round(time.monotonic() - started, 1),
        "stopped_by_budget": on_time.stopped_early,
    }


def save_fine_tuned(run: Run, folder: Path) -> None:
    """By the Trainer, which also knows how to save a model that several GPUs share."""
    run.trainer.save_model(str(folder))
    if run.trainer.is_world_process_zero():
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle
    PartialState().wait_for_everyone()


def write_model(
    run: Run, source: Path, training: dict[str, Any], repo_id: str | None, is_last: bool
) -> None:
    """Score the model in a folder, write all that a run leaves, and publish it in `repo_id`."""
    num_tracks = sum(map(len, run.tracks.values()))
    print_once(f"Scoring {num_tracks} tracks of validation and test: whole, then 2 s of each.")
    classifier, scores, temperature = evaluate(
        source, run.tracks, in_one_pass=is_last, is_quiet=run.arguments.disable_tqdm
    )
    if not run.trainer.is_world_process_zero():
        return
    report = make_report(run, scores, temperature, training, classifier.labels)
    new = run.folder / FINISHING
    new.mkdir(exist_ok=True)
    write_results(run, classifier, scores, report, new)
    model_card(report, repo_id or str(run.folder)).save(new / "README.md")
    write_report(report, new)
    move_into_place(run.folder, is_last)
    print_results(report, run.folder)
    if repo_id:
        print(f"Published: {publish(run.folder, repo_id, run.arguments.hub_private_repo)}")


def run_seeds(argv: list[str], recipe: RecipeArguments) -> None:
    """One run after another, each in a folder of its own; finished ones are not run again."""
    started = time.monotonic()
    folders = [Path(recipe.output_dir) / f"seed-{seed}" for seed in recipe.seeds]
    if recipe.push_to_hub:
        raise InputError("--seeds makes several models: publish the one you choose.")
    for i, (seed, folder) in enumerate(zip(recipe.seeds, folders, strict=True)):
        arguments = parse_arguments([*argv, "--seed", str(seed), "--output_dir", str(folder)])
        of_seed = arguments[-1]
        if recipe.resume_from_checkpoint:
            if is_finished(folder):
                continue
            has_checkpoint = any(folder.glob("checkpoint-*")) or read_choice(folder)
            of_seed.resume_from_checkpoint = "last" if has_checkpoint else None
        if recipe.time_budget_minutes:  # one for all: what is left of it is shared by what is left
            left = recipe.time_budget_minutes - (time.monotonic() - started) / 60
            of_seed.time_budget_minutes = max(left, 0) / (len(folders) - i) or 1e-9
        run(*arguments)
    if PartialState().is_main_process:
        print(describe_seeds(summarize_seeds(folders)))


def open_repository(recipe: RecipeArguments, is_synthetic: bool) -> str | None:
    """With --push_to_hub, the id of a repository that can be written; before hours of work."""
    if not recipe.push_to_hub:
        return None
    if not recipe.hub_model_id:
        raise InputError("--push_to_hub needs --hub_model_id USER/NAME.")
    if is_synthetic:
        raise InputError("A model of synthesised music is a demonstration: it is not pushed.")
    recipe.push_to_hub = False  # the Trainer would upload every checkpoint, pickles and all
    return check_access(recipe.hub_model_id, recipe.hub_private_repo)


def what_is_left(output_dir: str | None) -> str:
    """What a person who stops a run has."""
    folder = Path(output_dir or RUNS_DIR)
    if not output_dir or not (list(folder.glob("checkpoint-*")) or read_choice(folder)):
        return "Stopped: nothing was saved."
    model = f" {folder} has a model: python app.py --model {folder}." if read_report(folder) else ""
    return f"Stopped.{model} {RESUME}"


def main() -> None:
    argv, config = sys.argv[1:], REFERENCE_CONFIG
    if not argv and not find_archives():
        print_once("There is no GTZAN archive in data/, so this is the quickstart.")
        config = QUICKSTART_CONFIG
    arguments = parse_arguments(argv, __doc__, config)
    recipe = arguments[-1]
    explain_launcher()
    with exit_with_message(lambda: what_is_left(recipe.output_dir)):
        try:
            if recipe.job:
                run_as_job(argv, arguments[0].dataset, recipe)
            elif recipe.seeds:
                run_seeds(argv, recipe)
            else:
                run(*arguments)
        except InputError:
            raise
        except ImportError as error:  # an optimizer or a tracker whose package is not here
            raise InputError(str(error)) from error
        except Exception as error:
            if not is_disk_full(error, Path(recipe.output_dir or RUNS_DIR)):
                raise
            raise InputError(f"The disk is full: make room. {RESUME}") from error


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # in a log file, too
    main()
