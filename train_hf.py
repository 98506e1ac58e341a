"""Fine-tune DistilHuBERT, or another audio model, to tell music genres apart; report; publish.

    accelerate launch train_hf.py                              # your GTZAN, or else the quickstart
    accelerate launch train_hf.py configs/gtzan.json           # the reference run
    accelerate launch train_hf.py configs/gtzan.json --dataset data/gtzan --learning_rate 3e-5

Without arguments it trains on the GTZAN archive in data/ if there is one. If not, it runs the
quickstart: synthesised music and a tiny net, a few minutes on two cores, no network.
"""

import importlib.util
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch: on a CPU that others use too, threads that spin while they wait made a step 10 to 20
# times slower; threads that sleep cost 12 to 25 % where the CPU is free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from data_prep import InputError, errors_in_a_sentence
from data_prep.splits import describe_leakage
from music_genre.checkpoints import find_checkpoint, is_disk_full, n_steps_of
from music_genre.data import Source, load_data
from music_genre.model import RUNS_DIR, load_for_training, locate
from music_genre.options import DataArguments, ModelArguments, short_help
from music_genre.publish import check_access, publish

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from music_genre.arguments import RecipeArguments
    from music_genre.callbacks import SaveOnSigterm, TimeKeeper
    from music_genre.evaluation import Score
    from music_genre.streaming import StreamedCrops
    from music_genre.trainer import ClipDataset, ClipTrainer, CropDataset

TRACKERS = ("tensorboard", "trackio", "wandb")  # named as their packages are
GO_ON = "--resume_from_checkpoint last goes on with it."


# --- training -------------------------------------------------------------------------------


def use_all_cores(arguments: "RecipeArguments") -> None:
    """`accelerate launch` allows each process one thread unless told otherwise, on a CPU too."""
    import torch

    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if arguments.device.type == "cpu" and is_launched and torch.get_num_threads() == 1:
        n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_processes))


@dataclass
class Run:
    """What belongs to one training run."""

    trainer: "ClipTrainer"
    clips: dict[str, "ClipDataset | CropDataset | StreamedCrops"]
    source: Source
    model_arguments: ModelArguments
    arguments: "RecipeArguments"

    @property
    def folder(self) -> Path:
        return Path(self.arguments.output_dir)


def check_trackers(arguments: "RecipeArguments") -> None:
    for name in arguments.report_to:
        if name in TRACKERS and importlib.util.find_spec(name) is None:
            raise InputError(
                f"--report_to {name} needs a package that is not here: `pip install {name}`. The "
                "learning curves are drawn without it."
            )


def run(
    data_arguments: DataArguments, model_arguments: ModelArguments, arguments: "RecipeArguments"
) -> None:
    """Train once, score, and write what a run leaves.

    Raises:
        InputError: with a sentence for the person.
        SystemExit: 143 after SIGTERM, when a checkpoint was saved.
    """
    started = time.monotonic()
    use_all_cores(arguments)
    check_trackers(arguments)
    if data_arguments.streamed and arguments.max_steps <= 0:
        raise InputError("A stream has no length: say with --max_steps how many batches to train.")
    location = locate(model_arguments.model_name_or_path, model_arguments.revision)
    with arguments.main_process_first(desc="preparing data and folder"):
        dataset, source = load_data(
            data_arguments.dataset,
            data_arguments.split,
            data_arguments.split_seed,
            data_arguments.streamed,
        )
        if not len(dataset["validation"]):
            raise InputError("The validation split is empty: take another --split.")
        if arguments.output_dir is None:
            arguments.output_dir = default_output_dir(model_arguments, source)
        checkpoint = find_checkpoint(Path(arguments.output_dir), arguments.resume_from_checkpoint)
        steps_before = n_steps_of(checkpoint)
    repo_id = open_repository(arguments, source)

    trainer, clips = make_trainer(location, dataset, source, model_arguments, arguments)
    this = Run(trainer, clips, source, model_arguments, arguments)
    if trainer.is_world_process_zero():
        print_plan(this)
    began_with_head = begin_with_head(this, checkpoint)
    time_keeper, on_sigterm = add_callbacks(this, started)
    training_started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    training_seconds = time.monotonic() - training_started
    if on_sigterm.is_asked:
        print(f"Stopped by SIGTERM after step {trainer.state.global_step}; it is saved. {GO_ON}")
        sys.exit(128 + signal.SIGTERM)

    from music_genre.evaluation import evaluate
    from music_genre.head import take_head_alone_if_better

    head_alone = take_head_alone_if_better(trainer) if began_with_head else None
    scores, temperature = evaluate(trainer, {n: clips[n] for n in ("validation", "test")})
    if trainer.is_world_process_zero():
        training = describe_training(this, training_seconds, steps_before) | {
            "run_seconds": round(time.monotonic() - started, 1),
            "forecast_seconds": time_keeper.forecast and round(time_keeper.forecast, 1),
            "stopped_by_budget": time_keeper.stopped_early,
            "head_alone": head_alone,
        }
        report = describe(this, scores, training) | {"temperature": temperature}
        write_results(this, scores, report, repo_id)
        print_results(report, this.folder)
        if repo_id:
            print(f"Published: {publish(this.folder, repo_id, arguments.hub_private_repo)}")


def begin_with_head(run: Run, checkpoint: str | None) -> bool:
    """Fit the head and choose the layers; a run that goes on has both in its checkpoint.

    Returns:
        Whether the run begins, or began, with it.
    """
    from music_genre.head import fit_head, has_linear_head, keep_layers, save_head_alone
    from music_genre.trainer import ClipDataset

    model, crops = run.trainer.model, run.clips["train"]
    model_arguments = run.model_arguments
    if (
        not model_arguments.head_first
        or model_arguments.from_scratch
        or not has_linear_head(model)
        or model.config.use_weighted_layer_sum  # it chooses among the layers itself
    ):
        return False
    if checkpoint:
        config = json.loads(Path(checkpoint, "config.json").read_text(encoding="utf-8"))
        keep_layers(model, config.get("encoder_layers", config["num_hidden_layers"]))
        return True
    head = fit_head(run.trainer, ClipDataset(crops.sample(), crops.window))
    if run.trainer.is_world_process_zero():
        print(
            f"The head, fitted on layer {head['layers']} of {head['of_layers']}: accuracy "
            f"{head['accuracy']:.3f}, cross-validated over the artists of train."
        )
    save_head_alone(run.trainer, run.clips["validation"])
    return True


def default_output_dir(model_arguments: ModelArguments, source: Source) -> str:
    name = Path(model_arguments.model_name_or_path).name
    return str(RUNS_DIR / f"{name}-{source.name.split('/')[-1].lower()}")


def run_seeds(argv: list[str], seeds: list[int], output_dir: str | None) -> None:
    """One run after another, each in a folder of its own; finished ones are not run again."""
    from music_genre.arguments import parse_arguments
    from music_genre.report import read_report
    from music_genre.seeds import describe_seeds, summarise_seeds

    if len(set(seeds)) < 2 or not output_dir:
        raise InputError("--seeds takes two or more different numbers, and needs an --output_dir.")
    folders = [Path(output_dir) / f"seed-{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        arguments = parse_arguments([*argv, "--seed", str(seed), "--output_dir", str(folder)])
        recipe = arguments[-1]
        if recipe.push_to_hub:
            raise InputError("--seeds makes several models: publish the one you choose.")
        if recipe.resume_from_checkpoint:
            if read_report(folder):
                continue
            has_checkpoint = any(folder.glob("checkpoint-*"))
            recipe.resume_from_checkpoint = "last" if has_checkpoint else None
        run(*arguments)
    if recipe.process_index == 0:
        print(describe_seeds(summarise_seeds(folders)))


def open_repository(arguments: "RecipeArguments", source: Source) -> str | None:
    """With --push_to_hub, the id of a repository that can be written; before hours of work."""
    if arguments.hub_token:
        raise InputError(
            "A token does not belong on a command line or in a file that is shared: revoke it, and "
            "give a new one to `hf auth login` or put it into HF_TOKEN."
        )
    if not arguments.push_to_hub:
        return None
    if source.is_synthetic:
        raise InputError("A model of synthesised music is a demonstration: it is not pushed.")
    arguments.push_to_hub = False  # the Trainer would upload every checkpoint, pickles and all
    return check_access(arguments.hub_model_id, arguments.hub_private_repo)


def make_trainer(
    location: dict[str, Any],
    dataset: dict[str, "Dataset | IterableDataset"],
    source: Source,
    model_arguments: ModelArguments,
    arguments: "RecipeArguments",
) -> tuple["ClipTrainer", dict[str, "ClipDataset"]]:
    """Load the model and put it, the clips and the recipe together."""
    # Imported here, so that a wrong argument is answered in two seconds.
    from transformers import set_seed

    from music_genre import front_end
    from music_genre import trainer as training

    set_seed(arguments.seed)  # before the model: its head is random
    model, feature_extractor = load_for_training(
        location,
        dataset["train"].features["genre"].names,
        model_arguments.window_seconds,
        model_arguments.from_scratch,
    )
    model.config.trained_on_synthetic_music = source.is_synthetic
    if model_arguments.freeze_feature_encoder and hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
        if arguments.device.type == "cpu":
            front_end.speed_up(model)
    if hasattr(model.config, "apply_spec_augment"):
        model.config.apply_spec_augment = arguments.masks
    window = int(model_arguments.window_seconds * feature_extractor.sampling_rate)
    clips = {
        "train": make_crops(dataset["train"], window, arguments),
        "validation": training.ClipDataset(dataset["validation"], window),
        "test": training.ClipDataset(dataset["test"], window),
    }
    trainer = training.ClipTrainer(
        model=model,
        args=arguments,
        train_dataset=clips["train"],
        eval_dataset=clips["validation"],
        data_collator=training.make_collate(feature_extractor, model.main_input_name),
        processing_class=feature_extractor,
        compute_metrics=training.compute_metrics,
    )
    return trainer, clips


def make_crops(
    clips: "Dataset | IterableDataset", window: int, arguments: "RecipeArguments"
) -> "CropDataset | StreamedCrops":
    from datasets import Dataset

    from music_genre.streaming import StreamedCrops
    from music_genre.trainer import Augmentation, CropDataset

    augmentation = Augmentation(arguments.mixup, arguments.speed, arguments.masks)
    if isinstance(clips, Dataset):
        return CropDataset(clips, window, arguments.seed, augmentation)
    process = (arguments.process_index, arguments.world_size)
    return StreamedCrops(clips, window, arguments.seed, augmentation, *process)


def add_callbacks(run: Run, started: float) -> tuple["TimeKeeper", "SaveOnSigterm"]:
    from music_genre.callbacks import SaveOnSigterm, SetEpoch, TimeKeeper

    minutes = run.arguments.time_budget_minutes
    validation, scoring = run.trainer.estimate_evaluation(run.clips)
    time_keeper = TimeKeeper(started, minutes and minutes * 60, validation, scoring)
    on_sigterm = SaveOnSigterm()
    for callback in (SetEpoch(run.clips["train"]), time_keeper, on_sigterm):
        run.trainer.add_callback(callback)
    return time_keeper, on_sigterm


def print_plan(run: Run) -> None:
    model, model_arguments = run.trainer.model, run.model_arguments
    if run.source.is_synthetic:
        print("A demonstration on synthesised music: what comes out is no music classifier.")
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(
        f"{run.source.name}, {run.source.split} split: "
        + ", ".join(f"{name} {_length(c.clips)}" for name, c in run.clips.items())
        + f" clips.\n{model_arguments.model_name_or_path}"
        f"{' (random weights)' if model_arguments.from_scratch else ''}: "
        f"{model.num_parameters() / 1e6:.1f} million parameters, {n_trained / 1e6:.1f} trained; "
        f"windows of {model_arguments.window_seconds:g} s, "
        f"{_length(run.trainer.get_train_dataloader())} batches an epoch.\n"
        f"Precision: {run.arguments.precision}, {run.arguments.precision_reason}."
    )


def _length(of: Any) -> int | str:
    try:
        return len(of)
    except TypeError:
        return "streamed"


# --- results --------------------------------------------------------------------------------


def describe_training(run: Run, seconds: float, steps_before: int) -> dict[str, Any]:
    """What report.json says of the training that took `seconds`, from step `steps_before` on."""
    from music_genre.report import hardware

    arguments, state = run.arguments, run.trainer.state
    crops_a_step = (
        arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps
    )
    audio_seconds = (
        (state.global_step - steps_before) * crops_a_step * run.model_arguments.window_seconds
    )
    return {
        "seconds": round(seconds, 1),
        # What training heard, over all its time, which validation takes a share of.
        "audio_seconds_per_second": round(audio_seconds / seconds, 1),
        "epochs": round(state.epoch, 2),
        "steps": state.global_step,
        "resumed_at_step": steps_before,
        "best_step": state.best_global_step,
        "hardware": hardware(),
        "precision": arguments.precision,
        "processes": arguments.world_size,
        "recipe": {
            "learning rate": arguments.learning_rate,
            "clips a step": crops_a_step,
            "schedule": str(arguments.lr_scheduler_type),
            "weight decay": arguments.weight_decay,
        },
    }


def describe(
    run: Run, scores: dict[str, "Score | None"], training: dict[str, Any]
) -> dict[str, Any]:
    """The content of report.json."""
    from music_genre.report import versions

    model_id, labels = (
        run.model_arguments.model_name_or_path,
        list(run.trainer.model.config.label2id),
    )
    return {
        "model": model_id,
        "base_model": model_id if "/" in model_id and not Path(model_id).exists() else None,
        "from_scratch": run.model_arguments.from_scratch,
        "dataset": run.source.name,
        "is_synthetic": run.source.is_synthetic,
        "split": run.source.split,
        "leakage": run.source.leakage,
        "seed": run.arguments.seed,
        "window_seconds": run.model_arguments.window_seconds,
        "train": training,
        "versions": versions(),
    } | {name: score.summary(labels) if score else None for name, score in scores.items()}


def write_results(
    run: Run, scores: dict[str, "Score | None"], report: dict[str, Any], repo_id: str | None
) -> None:
    """Write all that a run leaves in its folder, the report last: with it the run is finished."""
    from music_genre import report as reporting
    from music_genre.model_card import model_card

    trainer, folder, labels = run.trainer, run.folder, list(run.trainer.model.config.label2id)
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    for name, score in scores.items():
        if score:
            reporting.write_predictions(folder / reporting.PREDICTIONS_FILES[name], score, labels)
    name = "test" if scores["test"] else "validation"
    title = (
        f"{run.source.name}, {run.source.split} split, {name}: "
        f"{report[name]['accuracy']:.1%} of {report[name]['n']} clips"
    )
    reporting.draw_confusion_matrix(folder / "confusion_matrix.png", scores[name], labels, title)
    reporting.draw_reliability(folder / "reliability.png", report[name])
    reporting.draw_learning_curves(folder / "learning_curves.png", trainer.state.log_history)
    model_card(report, repo_id or str(folder)).save(folder / "README.md")
    reporting.write_report(report, folder)


def print_results(report: dict[str, Any], folder: Path) -> None:
    for name in ("validation", "test"):
        if score := report[name]:
            low, high = score["accuracy_ci95"]
            print(
                f"{name}: accuracy {score['accuracy']:.3f} ({low:.3f} to {high:.3f} with 95 % "
                f"confidence), macro-F1 {score['macro_f1']:.3f}, {score['n']} clips; "
                f"heard for {score['short']['seconds']:g} s only: {score['short']['accuracy']:.3f}"
            )
    if (head_alone := report["train"]["head_alone"]) and head_alone["is_kept"]:
        print("No epoch of fine-tuning was better on validation than the head alone: it is kept.")
    if report["leakage"]:
        print(f"Leakage: {describe_leakage(report['leakage'])}.")
    print(f"Written to {folder}. Try it: python app.py --model {folder}")


def main() -> None:
    argv = sys.argv[1:]
    if {"-h", "--help"} & set(argv):
        print(short_help(__doc__))
        return
    # Imported here, for it takes two seconds; and it answers a wrong argument.
    from music_genre.arguments import parse_arguments

    arguments = parse_arguments(argv, __doc__)
    recipe = arguments[-1]
    with errors_in_a_sentence(f"Stopped. From the last checkpoint, {GO_ON}"):
        try:
            if recipe.seeds:
                run_seeds(argv, recipe.seeds, recipe.output_dir)
            else:
                run(*arguments)
        except InputError:
            raise
        except Exception as error:
            if not is_disk_full(error, Path(recipe.output_dir or RUNS_DIR)):
                raise
            raise InputError(f"The disk is full. Make room; then {GO_ON}") from error


if __name__ == "__main__":
    main()
