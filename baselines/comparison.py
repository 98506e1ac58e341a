"""Rows of the comparison: what was measured, as a Markdown table and as a picture.

The figures of fine-tuned models, and of the mel CNN, come from the report.json of their runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from music_genre.errors import InputError
from music_genre.evaluation.plots import BLUE, INK, ORANGE
from music_genre.loading import find_model, load_classifier
from music_genre.report import REPORT_FILE, read_report

NOT_RUN = "not run"
SPLITS = ("random", "filtered")  # the columns; one of another name is added where it was measured
WITHOUT_LEAK = ("filtered", "artist")  # splits in which no artist of test is in train
GREEN = "#3d8b5f"
COLOURS = {"random": ORANGE, "filtered": BLUE, "artist": GREEN}
HEAD = ("model", "input", "parameters", "training minutes")
CHANCE = 0.1
# Rows of models that a full comparison has.
MEL_CNN, FINE_TUNED = "mel CNN", "fine-tuned encoder"
IMAGES = "images_original"  # the input of the mel CNN on images, as its report has it


@dataclass
class TestResult:
    """Test accuracies on one split: one per seed, all on the same `n` tracks."""

    __test__ = False  # no class of tests

    accuracies: list[float]
    intervals: list[tuple[float, float]]  # 95 %, over artists; of each seed
    n: int
    seconds: float  # of training, the mean over seeds or folds
    how: str = ""  # such as "10-fold", where it is not one held-out part
    size: str = ""  # parameters, or what such a model has in their place

    @property
    def accuracy(self) -> float:
        return mean(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """The mean of the seeds' intervals: more seeds do not narrow it."""
        low, high = zip(*self.intervals, strict=True)
        return mean(low), mean(high)

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
    results: dict[str, TestResult] = field(default_factory=dict)  # by split

    @property
    def difference(self) -> float | None:
        """What new artists cost, where both splits were measured."""
        split = next((split for split in WITHOUT_LEAK if split in self.results), None)
        if split is None or "random" not in self.results:
            return None
        return self.results[split].accuracy - self.results["random"].accuracy


# --- reports --------------------------------------------------------------------------------


def read_runs(folders: Sequence[Path]) -> list[Row]:
    """Rows from folders of finished runs: one run each, or the parent of `seed-0`, `seed-1`, ...

    Raises:
        InputError: a folder holds no report, or runs of one row were tested on different tracks.
    """
    rows: dict[tuple[str, str], Row] = {}
    for folder in folders:
        for run in _find_runs(folder):
            report = read_report(run)
            if report is None or not report.get("test"):
                raise InputError(f"{run} has no figures of a test split in {REPORT_FILE}.")
            name, what = _name_model(report), _name_input(report)
            row = rows.setdefault((name, what), Row(name, what))
            _add(row, run, report)
    return list(rows.values())


def _find_runs(folder: Path) -> list[Path]:
    if (folder / REPORT_FILE).is_file():
        return [folder]
    runs = sorted(report.parent for report in folder.glob(f"seed-*/{REPORT_FILE}"))
    if not runs:
        raise InputError(
            f"{folder} holds no finished run: neither {REPORT_FILE} nor seed-*/{REPORT_FILE}."
        )
    return runs


def _name_model(report: dict) -> str:
    name = Path(report["model"]).name
    if name == "mel-cnn":
        return MEL_CNN
    if (report["train"].get("linear_probe") or {}).get("is_kept"):
        return f"{name}, linear probe"
    return f"{name}, {'from scratch' if report['from_scratch'] else 'fine-tuned'}"


def _name_input(report: dict) -> str:
    """The input, with the dataset's name where it is not GTZAN."""
    name = report.get("input") or f"audio, windows of {report['window_seconds']:g} s"
    return name if report["dataset"] == "GTZAN" else f"{name} ({report['dataset']})"


def _add(row: Row, run: Path, report: dict) -> None:
    test, seconds = report["test"], report["train"]["seconds"]
    interval = tuple(test["accuracy_ci95"])
    result = row.results.get(report["split"])
    if result is None:
        size = _count_parameters(run, report)
        row.results[report["split"]] = TestResult(
            [test["accuracy"]], [interval], test["n"], seconds, size=size
        )
        return
    if result.n != test["n"]:
        raise InputError(
            f"{run} was tested on {test['n']} tracks of the {report['split']} split, another run "
            f"of {row.model} on {result.n}, so they have no common mean: compare them apart."
        )
    n_before = len(result.accuracies)
    result.seconds = (result.seconds * n_before + seconds) / (n_before + 1)
    result.accuracies.append(test["accuracy"])
    result.intervals.append(interval)


def _count_parameters(run: Path, report: dict) -> str:
    """Of the model in the folder, as it is served; empty where there is none and no figure."""
    n = report.get("parameters")
    if n is None and (run / "model.safetensors").is_file():
        n = load_classifier(find_model(str(run))).num_parameters()
    return f"{n / 1e6:.1f} million" if n else ""


def add_missing(rows: list[Row]) -> list[Row]:
    """Add rows that say "not run" for what a full comparison has and this one does not have."""
    added = list(rows)
    of_images = [IMAGES in row.input for row in rows if row.model == MEL_CNN]
    if False not in of_images:
        added.append(Row(MEL_CNN, "audio"))
    if True not in of_images:
        added.append(Row(MEL_CNN, IMAGES))
    if not any(row.model.endswith("fine-tuned") for row in rows):
        added.append(Row(FINE_TUNED, "audio"))
    return added


# --- table and picture ----------------------------------------------------------------------


def _splits_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys([*SPLITS, *(split for row in rows for split in row.results)]))


def to_markdown(rows: Sequence[Row]) -> str:
    """The table, with "not run" where nothing was measured."""
    columns = _splits_of(rows)
    lines = [
        [*HEAD, *(f"{split} split" for split in columns), "difference"],
        ["---"] * len(HEAD) + ["---"] * len(columns) + ["---:"],
        *(_cells(row, columns) for row in rows),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    first = row.results.get("filtered") or next(iter(row.results.values()), None)
    minutes, size = NOT_RUN, NOT_RUN
    if first:
        minutes = f"{first.seconds / 60:.1f}" if first.seconds >= 6 else "< 0.1"
        size = first.size or "not known"
    difference = f"{row.difference:+.2f}" if row.difference is not None else NOT_RUN
    figures = [str(row.results.get(split, NOT_RUN)) for split in columns]
    return [row.model, row.input, size, minutes, *figures, difference]


def plot_rows(rows: Sequence[Row], path: Path) -> None:
    """One line per row, with one point per split and its 95 % interval."""
    columns = _splits_of(rows)
    figure = Figure(figsize=(9, 1.2 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        measured = [split for split in columns if split in row.results]
        for i, split in enumerate(measured):
            result, colour = row.results[split], COLOURS.get(split, INK)
            height = y + 0.12 * (2 * i - len(measured) + 1)
            axes.plot(result.interval, (height, height), color=colour, linewidth=2, alpha=0.4)
            axes.plot(result.accuracy, height, "o", color=colour)
        if not row.results:
            axes.text(0.12, y, NOT_RUN, va="center", color=INK, style="italic")
    for split in columns:
        axes.plot([], [], "o-", color=COLOURS.get(split, INK), label=f"{split} split")
    axes.axvline(CHANCE, color=INK, linewidth=0.8, linestyle=":")
    axes.text(CHANCE, -0.6, " chance", color=INK, fontsize="small", va="center")
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.9), xlabel="test accuracy, 95 % interval")
    axes.set_yticks(range(len(rows)), [f"{row.model}\n{row.input}" for row in rows], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    figure.legend(loc="outside upper right", ncols=len(columns), frameon=False)
    figure.savefig(path, dpi=130)
