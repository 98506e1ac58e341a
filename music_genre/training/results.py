"""The output of a training run: report, weights, predictions, pictures and printed results."""

from pathlib import Path
from typing import Any

from data_prep.leakage import describe_leakage
from music_genre import GenreClassifier
from music_genre.evaluation import plots
from music_genre.evaluation.environment import hardware, versions
from music_genre.evaluation.metrics import SplitScore, describe_summary
from music_genre.evaluation.one_pass import seconds_in_one_pass
from music_genre.evaluation.predictions import write_predictions
from music_genre.report import (
    PREDICTIONS_FILES,
    read_report,
    split_in_pictures,
    why_not_in_headline,
)
from music_genre.training.seen import write_seen
from music_genre.training.setup import Run

# Names of stages in report.json, besides those in train_hf.py.
FINE_TUNING, SCORING = "fine-tuning", "scoring"


def seconds_of_scoring(folder: Path) -> float:
    """How long scoring took in the run so far, from its report; 0 if there is no report."""
    train = (read_report(folder) or {}).get("train", {})
    return train.get("stages", {}).get(SCORING, 0.0)


def describe_training(
    run: Run,
    linear_probe: dict[str, Any] | None,
    steps_before: int = 0,
    stopped_by_budget: bool = False,
) -> dict[str, Any]:
    """The part of report.json about training.

    Args:
        linear_probe: what is known about the probe, with `is_kept`: whether it is the saved model.
        steps_before: steps of the checkpoint that the run was resumed from.
    """
    arguments, state, clock = run.arguments, run.trainer.state, run.clock
    seconds = clock.stages.get(FINE_TUNING, clock.seconds)
    best_step = state.best_global_step if arguments.load_best_model_at_end else None
    return {
        "seconds": round(seconds, 1),
        "stages": clock.rounded(),
        "stopped_by_budget": stopped_by_budget,
        "epochs": round(state.epoch or 0, 2),
        "steps": state.global_step,
        "resumed_at_step": steps_before,
        "best_step": 0 if linear_probe and linear_probe["is_kept"] else best_step,
        "linear_probe": linear_probe,
        "hardware": hardware(arguments.device, arguments.world_size),
        "precision": arguments.precision,
        "processes": arguments.world_size,
        "recipe": {
            "learning rate": arguments.learning_rate,
            "clips a step": arguments.crops_per_step,
            "schedule": arguments.lr_scheduler_type.value,
            "weight decay": arguments.weight_decay,
            "mixup": arguments.mixup,
            "label smoothing": arguments.label_smoothing_factor,
            "speed perturbation": arguments.speed_perturbation,
            "SpecAugment": arguments.spec_augment,
        },
    }


def make_report(
    run: Run,
    scores: dict[str, SplitScore | None],
    temperature: float,
    training: dict[str, Any],
    labels: list[str],
) -> dict[str, Any]:
    """The content of report.json. It is published, so it has the names of folders, not paths."""
    model_id, preparation = run.model_arguments.model_name_or_path, run.preparation
    return {
        "model": name_without_path(model_id),
        "base_model": None if Path(model_id).exists() else model_id,
        "base_model_commit": run.base.commit,
        "from_scratch": run.model_arguments.from_scratch,
        "dataset": name_without_path(preparation.dataset_name),
        "is_synthetic": preparation.is_synthetic,
        "split": preparation.split,
        "split_description": preparation.split_description,
        "leakage": preparation.leakage,
        "leakage_description": preparation.leakage and describe_leakage(preparation.leakage),
        "test_tracks_seen_by_base": run.seen_test_tracks,
        "contamination": run.contamination,
        "seed": run.arguments.seed,
        "window_seconds": run.model_arguments.window_seconds,
        "sampling_rate": run.trainer.processing_class.sampling_rate,
        "model_type": run.trainer.model.config.model_type,
        "one_pass_seconds": seconds_in_one_pass(run.trainer.processing_class),
        "temperature": temperature,
        "train": training,
        "versions": versions(),
    } | {name: score.summary(labels) if score else None for name, score in scores.items()}


def name_without_path(name: str) -> str:
    """The last part of a path on this machine; a Hub id is returned unchanged."""
    return Path(name).resolve().name if Path(name).exists() else name


def write_results(
    run: Run,
    classifier: GenreClassifier,
    scores: dict[str, SplitScore | None],
    report: dict[str, Any],
    folder: Path,
) -> None:
    """Write weights, predictions, pictures and the list of train tracks into `folder`."""
    classifier.model.save_pretrained(folder)
    classifier.feature_extractor.save_pretrained(folder)
    write_seen(run.seen, folder)
    for name, score in scores.items():
        if score:
            write_predictions(folder / PREDICTIONS_FILES[name], score, classifier.labels)
    name = split_in_pictures(report)
    title = (
        f"{report['dataset']}, {report['split']} split, {name}: "
        f"{report[name]['accuracy']:.1%} of {report[name]['n']} tracks"
    )
    plots.plot_confusion_matrix(
        folder / "confusion_matrix.png", scores[name], classifier.labels, title
    )
    plots.plot_reliability(folder / "reliability.png", report[name])
    if run.trainer.state.log_history:
        plots.plot_learning_curves(folder / "learning_curves.png", run.trainer.state.log_history)


def print_results(report: dict[str, Any], folder: Path) -> None:
    for name in ("validation", "test"):
        if score := report[name]:
            print(describe_summary(name, score))
    linear_probe = report["train"]["linear_probe"]
    if report["train"]["steps"] and linear_probe and linear_probe["is_kept"]:
        print(
            "The saved model is the linear probe: averaged with the fine-tuned model, its loss on "
            f"validation went from {linear_probe['calibrated_loss']:.3f} to "
            f"{linear_probe['fine_tuned_calibrated_loss']:.3f}: no improvement beyond chance."
        )
    if report["leakage_description"]:
        print(f"Leakage: {report['leakage_description']}.")
    if not report["is_synthetic"] and (reason := why_not_in_headline(report)):
        print(reason)
    print(f"Written to {folder}. Try it: python app.py --model {folder}")
