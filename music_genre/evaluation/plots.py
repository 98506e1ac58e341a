"""The pictures of a training run: confusion matrix, reliability diagram, learning curves."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from music_genre.evaluation.metrics import SplitScore

BLUE, ORANGE = "#3266a8", "#d9772b"


@rc_context({"text.parse_math": False})  # a name such as "My $_$ music" is not a formula
def plot_confusion_matrix(path: Path, score: SplitScore, labels: Sequence[str], title: str) -> None:
    n = len(labels)
    size = min(24.0, max(7.0, 0.35 * n))  # inches; hundreds of genres get small letters
    figure = Figure(figsize=(size, size - 0.6), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        score.references,
        score.probabilities.argmax(-1),
        labels=range(n),
        display_labels=labels,
        include_values=n <= 40,
        cmap="Blues",
        colorbar=False,
        xticks_rotation=45 if n <= 40 else 90,
        ax=figure.subplots(),
    )
    if n > 40:
        figure.axes[0].tick_params(labelsize=max(4, 350 / n))
    figure.axes[0].set(title=title, xlabel="prediction", ylabel="true genre")
    figure.savefig(path, dpi=130)


def plot_reliability(path: Path, summary: dict) -> None:
    """Accuracy against confidence, by bin; from a split's summary."""
    bins = summary["reliability"]
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="perfectly calibrated")
    confidence, accuracy = ([b[key] for b in bins] for key in ("confidence", "accuracy"))
    axes.plot(confidence, accuracy, color=BLUE, marker="o", label="the model")
    for b in bins:
        axes.text(b["confidence"], b["accuracy"] + 0.03, b["n"], ha="center", fontsize=8)
    axes.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"expected calibration error {summary['ece']:.3f}, {summary['n']} tracks")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


def plot_learning_curves(path: Path, log_history: list[dict]) -> None:
    """Loss of training and validation, and accuracy of validation, from the Trainer's log."""
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
        if axes.lines:  # without validation, there are none on the right
            axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
