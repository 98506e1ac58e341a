"""What a training run leaves for people: report.json, tables of answers and three pictures."""

import csv
import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from music_genre.evaluation.metrics import Score

PACKAGES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "huggingface_hub")
PREDICTIONS_FILES = {
    "test": "predictions.csv",
    "validation": "predictions_validation.csv",
}
INK, BLUE, ORANGE = "#333333", "#3266a8", "#d9772b"


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


def hardware() -> str:
    """The GPU by its name, or the number of CPU cores."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    cpu = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return f"{torch.get_num_threads()} cores of {cpu}"


def write_predictions(path: Path, score: "Score", labels: Sequence[str]) -> None:
    """One row a clip: track, truth, answer, and the probability of every genre."""
    rows = zip(score.track_ids, score.references, score.probabilities, strict=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["track_id", "genre", "prediction", *labels])
        for track_id, truth, row in rows:
            writer.writerow(
                [track_id, labels[truth], labels[row.argmax()], *(f"{p:.6f}" for p in row)]
            )


def draw_confusion_matrix(path: Path, score: "Score", labels: Sequence[str], title: str) -> None:
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(7, 6.4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        score.references,
        score.probabilities.argmax(-1),
        labels=range(len(labels)),
        display_labels=labels,
        cmap="Blues",
        colorbar=False,
        xticks_rotation=45,
        ax=figure.subplots(),
    )
    figure.axes[0].set(title=title, xlabel="answer", ylabel="truth")
    figure.savefig(path, dpi=130)


def draw_reliability(path: Path, summary: dict) -> None:
    """How often the answers were right, against how sure the model was; from a split's summary."""
    from matplotlib.figure import Figure

    bins = summary["reliability"]
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="as sure as right")
    confidence, accuracy = ([b[key] for b in bins] for key in ("confidence", "accuracy"))
    axes.plot(confidence, accuracy, color=BLUE, marker="o", label="the model")
    for b in bins:
        axes.annotate(
            str(b["n"]), (b["confidence"], b["accuracy"]), (0, 8), textcoords="offset points",
            ha="center", fontsize=8, color=INK,
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="how sure", ylabel="how often right")
    axes.set_title(f"calibration error {summary['ece']:.3f}, {summary['n']} clips")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


def draw_learning_curves(path: Path, log_history: list[dict]) -> None:
    """Loss in training and validation, and accuracy in the latter, by epoch; from the Trainer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key, label, colour in (
        (left, "loss", "training", BLUE),
        (left, "eval_loss", "validation", ORANGE),
        (right, "eval_accuracy", "validation", ORANGE),
    ):
        points = [(entry["epoch"], entry[key]) for entry in log_history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=".")
    left.set(xlabel="epoch", title="loss", ylim=(0, None))
    right.set(xlabel="epoch", title="accuracy", ylim=(0, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
