"""Mean, spread and interval over several runs that differ only in their seed."""

import json
from pathlib import Path

import numpy as np

from music_genre.errors import InputError
from music_genre.evaluation.intervals import artist_groups, mean_interval
from music_genre.evaluation.predictions import read_predictions
from music_genre.report import PREDICTIONS_FILES, read_report

SEEDS_FILE = "seeds.json"


def summarize_seeds(folders: list[Path]) -> dict:
    """Summarize the finished runs in `folders`, and write seeds.json beside them.

    The interval is that of the mean accuracy: a track is drawn with its predictions by all seeds.

    Raises:
        InputError: the runs were scored on different tracks.
    """
    reports = {folder: read_report(folder) for folder in folders}
    summary: dict = {"runs": {f.name: r["seed"] for f, r in reports.items()}}
    for name in ("validation", "test"):
        scores = [report[name] for report in reports.values() if report[name]]
        if not scores:
            continue
        tables = [read_predictions(folder / PREDICTIONS_FILES[name]) for folder in folders]
        if len({tuple(row["track_id"] for row in rows) for rows in tables}) > 1:
            raise InputError(
                f"The runs in {folders[0].parent} were scored on different tracks, so they have no "
                "common mean: run all seeds in another --output_dir."
            )
        is_right = np.array([[r["genre"] == r["prediction"] for r in rows] for rows in tables])
        artists = artist_groups([row["artist"] for row in tables[0]])
        summary[name] = {
            key: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
            for key, values in {
                "accuracy": [s["accuracy"] for s in scores],
                "macro_f1": [s["macro_f1"] for s in scores],
                "short_accuracy": [s["short"]["accuracy"] for s in scores],
                "ece": [s["ece"] for s in scores],
            }.items()
        } | {"accuracy_ci95": mean_interval(is_right.mean(0), artists), "n": scores[0]["n"]}
    path = folders[0].parent / SEEDS_FILE
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def describe_seeds(summary: dict) -> str:
    """Return the summary as a Markdown table."""
    lines = [
        f"| {len(summary['runs'])} seeds | tracks | accuracy | 95 % interval | macro-F1 "
        "| 2 s only |",
        "| --- | ---: | ---: | :---: | ---: | ---: |",
    ]
    for name in ("validation", "test"):
        if score := summary.get(name):
            low, high = score["accuracy_ci95"]
            cells = [
                f"{score[key]['mean']:.3f} ± {score[key]['sd']:.3f}"
                for key in ("accuracy", "macro_f1", "short_accuracy")
            ]
            cells.insert(1, f"{low:.3f} to {high:.3f}")
            lines.append(f"| {name} | {score['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)
