"""What a training run leaves for people: report.json, predictions.csv and two pictures."""

import csv
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PACKAGES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "huggingface_hub")
REPORT_FILE = "report.json"
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


def read_report(folder: Path) -> dict | None:
    try:
        return json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_report(report: dict, folder: Path) -> None:
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def write_predictions(
    path: Path,
    track_ids: Sequence[str],
    references: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
) -> None:
    """One row a test clip: track, truth, answer, and the probability of every genre."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["track_id", "genre", "prediction", *labels])
        for track_id, truth, row in zip(track_ids, references, probabilities, strict=True):
            writer.writerow(
                [track_id, labels[truth], labels[row.argmax()], *(f"{p:.6f}" for p in row)]
            )


def draw_confusion_matrix(
    path: Path, references: np.ndarray, predictions: np.ndarray, labels: Sequence[str], title: str
) -> None:
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(7, 6.4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        references,
        predictions,
        labels=range(len(labels)),
        display_labels=labels,
        cmap="Blues",
        colorbar=False,
        xticks_rotation=45,
        ax=figure.subplots(),
    )
    figure.axes[0].set(title=title, xlabel="answer", ylabel="truth")
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
