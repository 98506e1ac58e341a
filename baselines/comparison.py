"""Rows of the comparison: what was measured, as a Markdown table and as a picture.

Fine-tuned models, and the mel CNN, come in by the `report.json` that their training left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np

from music_genre.errors import InputError
from music_genre.evaluation.metrics import accuracy_interval
from music_genre.evaluation.plots import BLUE, INK, ORANGE
from music_genre.report import REPORT_FILE, read_report

NOT_RUN = "not run"
SPLITS = ("random", "filtered")  # the columns; one of another name is added where it was measured
APART = ("filtered", "artist")  # splits with the artists of test in no other part
GREEN = "#3d8b5f"
COLOURS = {"random": ORANGE, "filtered": BLUE, "artist": GREEN}
HEAD = ("model", "input", "parameters", "training minutes")
# Rows that are there before anything was run, by the input their reports have.
AUDIO_CNN, IMAGE_CNN, FINE_TUNED = "mel CNN", "mel CNN on images", "fine-tuned encoder"


@dataclass
class Score:
    """Test accuracies on one split: one a seed, all on the same `n` tracks."""

    accuracies: list[float]
    n: int
    seconds: float  # of training, the mean over seeds or folds
    how: str = ""  # e.g. "10-fold", where it isn't one held-out part
    size: str = ""  # parameters, or what such a model has in their place

    @property
    def accuracy(self) -> float:
        return mean(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, over tracks: more seeds are no more tracks, and do not narrow it."""
        return accuracy_interval((np.arange(self.n) < round(self.accuracy * self.n)).astype(float))

    def __str__(self) -> str:
        low, high = self.interval
        seeds = " / ".join(f"{accuracy:.2f}" for accuracy in self.accuracies)
        notes = [f"n {self.n:,}", self.how, f"seeds {seeds}" if len(self.accuracies) > 1 else ""]
        return (
            f"**{self.accuracy:.2f}** ({low:.2f} to {high:.2f}); {', '.join(filter(None, notes))}"
        )


@dataclass
class Row:
    """One model with one input."""

    model: str
    input: str
    scores: dict[str, Score] = field(default_factory=dict)  # by split

    @property
    def difference(self) -> float | None:
        """What new artists cost, where both were measured."""
        apart = next((self.scores[split] for split in APART if split in self.scores), None)
        if apart is None or "random" not in self.scores:
            return None
        return apart.accuracy - self.scores["random"].accuracy


# --- reports --------------------------------------------------------------------------------


def read_runs(folders: Sequence[Path]) -> list[Row]:
    """Rows from folders of finished runs: a run each, or the parent of `seed-0`, `seed-1`, ...

    Raises:
        InputError: a folder holds no report, or runs of one row were tested on different tracks.
    """
    rows: dict[tuple[str, str], Row] = {}
    for folder in folders:
        for run in _runs_in(folder):
            report = read_report(run)
            if report is None or not report.get("test"):
                raise InputError(f"{run} has no figures of a test split in {REPORT_FILE}.")
            name, heard = _name(report), _input(report)
            row = rows.setdefault((name, heard), Row(name, heard))
            _add(row, run, report)
    return list(rows.values())


def _runs_in(folder: Path) -> list[Path]:
    runs = [folder] if (folder / REPORT_FILE).is_file() else []
    runs = runs or sorted(report.parent for report in folder.glob(f"seed-*/{REPORT_FILE}"))
    if not runs:
        raise InputError(
            f"{folder} holds no finished run: neither {REPORT_FILE} nor seed-*/{REPORT_FILE}."
        )
    return runs


def _name(report: dict) -> str:
    name = Path(report["model"]).name
    if name == "mel-cnn":
        return AUDIO_CNN
    return f"{name}, {'from scratch' if report['from_scratch'] else 'fine-tuned'}"


def _input(report: dict) -> str:
    """The data by its name only where it isn't GTZAN: the title says that."""
    heard = report.get("input") or f"audio, windows of {report['window_seconds']:g} s"
    return heard if report["dataset"] == "GTZAN" else f"{heard} ({report['dataset']})"


def _add(row: Row, run: Path, report: dict) -> None:
    test, seconds = report["test"], report["train"]["seconds"]
    score = row.scores.get(report["split"])
    if score is None:
        size = _count_parameters(run, report)
        row.scores[report["split"]] = Score([test["accuracy"]], test["n"], seconds, size=size)
        return
    if score.n != test["n"]:
        raise InputError(
            f"{run} was tested on {test['n']} tracks of the {report['split']} split, another run "
            f"of {row.model} on {score.n}: their mean would say nothing. Put them into two tables."
        )
    n_before = len(score.accuracies)
    score.seconds = (score.seconds * n_before + seconds) / (n_before + 1)
    score.accuracies.append(test["accuracy"])


def _count_parameters(run: Path, report: dict) -> str:
    """Of the model in the folder, as it is served; empty where there is none and no figure."""
    n = report.get("parameters")
    if n is None and (run / "model.safetensors").is_file():
        from music_genre.loading import find_model, load_classifier

        n = load_classifier(find_model(str(run))).num_parameters()
    return f"{n / 1e6:.1f} million" if n else ""


def add_missing(rows: list[Row]) -> list[Row]:
    """Rows that say "not run" for what a full comparison has and this one has not."""
    added = list(rows)
    if not any(row.model == AUDIO_CNN and "images" not in row.input for row in rows):
        added.append(Row(AUDIO_CNN, "audio"))
    if not any("images" in row.input for row in rows):
        added.append(Row(AUDIO_CNN, "images_original"))
    if not any(row.model.endswith("fine-tuned") for row in rows):
        added.append(Row(FINE_TUNED, "audio"))
    return added


# --- table and picture ----------------------------------------------------------------------


def columns_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys([*SPLITS, *(split for row in rows for split in row.scores)]))


def markdown(rows: Sequence[Row]) -> str:
    """The table; every figure in it was measured, and "not run" stands where there is none."""
    columns = columns_of(rows)
    lines = [
        [*HEAD, *(f"{split} split" for split in columns), "difference"],
        ["---"] * len(HEAD) + ["---"] * len(columns) + ["---:"],
        *(_cells(row, columns) for row in rows),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    scored = row.scores.get("filtered") or next(iter(row.scores.values()), None)
    minutes, size = NOT_RUN, NOT_RUN
    if scored:
        minutes = f"{scored.seconds / 60:.1f}" if scored.seconds >= 6 else "< 0.1"
        size = scored.size or "not known"
    difference = f"{row.difference:+.2f}" if row.difference is not None else NOT_RUN
    figures = [str(row.scores.get(split, NOT_RUN)) for split in columns]
    return [row.model, row.input, size, minutes, *figures, difference]


def draw(rows: Sequence[Row], path: Path) -> None:
    """A line a row, a point a split with its 95 % interval."""
    from matplotlib.figure import Figure

    columns = columns_of(rows)
    figure = Figure(figsize=(9, 1.2 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        measured = [split for split in columns if split in row.scores]
        for i, split in enumerate(measured):
            score, colour = row.scores[split], COLOURS.get(split, INK)
            place = y + 0.12 * (2 * i - len(measured) + 1)
            axes.plot(score.interval, (place, place), color=colour, linewidth=2, alpha=0.4)
            axes.plot(score.accuracy, place, "o", color=colour)
        if not row.scores:
            axes.text(0.12, y, NOT_RUN, va="center", color=INK, style="italic")
    for split in columns:
        axes.plot([], [], "o-", color=COLOURS.get(split, INK), label=f"{split} split")
    axes.axvline(0.1, color=INK, linewidth=0.8, linestyle=":")
    axes.text(0.1, -0.6, " chance", color=INK, fontsize="small", va="center")
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.9), xlabel="test accuracy, 95 % interval")
    axes.set_yticks(range(len(rows)), [f"{row.model}\n{row.input}" for row in rows], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    figure.legend(loc="outside upper right", ncols=len(columns), frameon=False)
    figure.savefig(path, dpi=130)
