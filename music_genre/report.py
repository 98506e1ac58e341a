"""Read and write report.json, the measurements of a model, and find the finished runs by it."""

import json
import os
from pathlib import Path

RUNS_DIR = Path("runs")
REPORT_FILE = "report.json"
MIN_TRACKS_PER_GENRE = 5  # fewer say nothing about a genre
PREDICTIONS_FILES = {"test": "predictions.csv", "validation": "predictions_validation.csv"}


def read_report(folder: Path) -> dict | None:
    """Return the report in a folder; None if it is missing or cannot be read."""
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def gap_in(report: dict, split: str) -> str | None:
    """Return why the accuracy on a split does not represent the model; None if it does.

    A split that represents the model has at least 5 tracks of each genre. A report that another
    program wrote may raise any error.
    """
    score = report.get(split)
    if not score:
        return f"{split} split is empty"
    n, tracks = score["n"], {genre: row["n"] for genre, row in score["per_genre"].items()}
    if missing := [genre for genre, count in tracks.items() if not count]:
        return f"{split} split has {n} tracks and none of {', '.join(missing)}"
    if min(tracks.values()) < MIN_TRACKS_PER_GENRE:
        return f"{split} split has {n} tracks, fewer than 5 of some genres"
    return None


def headline_split(report: dict) -> str | None:
    """Return the split whose accuracy represents the model: test, or else validation, or None.

    It is also None if the base model may have been trained on tracks of these splits.
    """
    if report.get("contamination"):
        return None
    return next((name for name in ("test", "validation") if not gap_in(report, name)), None)


def why_not_in_headline(report: dict) -> str:
    """Explain why splits have no figure that represents the model; empty if test has one."""
    if contamination := report.get("contamination"):
        return f"No figure stands for the model: {contamination}."
    headline = headline_split(report)
    passed_over = {"test": (), "validation": ("test",)}.get(headline, ("test", "validation"))
    gaps = ", and the ".join(gap for name in passed_over if (gap := gap_in(report, name)))
    return f"The {gaps}: too few for a figure that stands for the model." if gaps else ""


def split_in_pictures(report: dict) -> str:
    """Return the split for the pictures and the table of genres: the headline's if there is one."""
    return headline_split(report) or ("test" if report.get("test") else "validation")


def write_report(report: dict, folder: Path) -> None:
    """Write or replace the report atomically."""
    partial = folder / f"{REPORT_FILE}.{os.getpid()}.partial"
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / REPORT_FILE)


def newest_run(runs_dir: Path = RUNS_DIR) -> Path | None:
    """Return the folder of the last finished training run, at any depth, preferring real music.

    A demonstration, which is trained on synthesised music, is returned only if no other run exists.
    """
    reports = [
        report
        for report in runs_dir.rglob(REPORT_FILE)
        if report.with_name("model.safetensors").is_file()
        and not any(part.startswith(".") for part in report.relative_to(runs_dir).parts)
    ]
    reports.sort(key=lambda report: (not is_demonstration(report.parent), report.stat().st_mtime))
    return reports[-1].parent if reports else None


def is_demonstration(run: Path) -> bool:
    """Whether a run was trained on music that this project synthesised."""
    return bool((read_report(run) or {}).get("is_synthetic"))
