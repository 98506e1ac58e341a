"""Measure what each ingredient of the recipe is worth, on artists that were not trained on.

    python benchmarks/ablation.py data/gtzan --model_name_or_path ntu-spml/distilhubert
    python benchmarks/ablation.py data/gtzan --config configs/gtzan-efficientat.json

Source of the tables in docs/ablation.md. Cross-validation over artists: the clips of train and
validation are divided into five folds. Three are trained on, one is validation (it decides between
linear probe and fine-tuned model, and gives the temperature), and one is scored. Each row is the
audio course's recipe (course_recipe.py) or a run of train_hf.py with changes to --config. A
finished run is a line of results.jsonl under --output_dir and is not repeated, so a table can be
made over several days. It shows all rows in that file; with --table, nothing is run. The test split
is never used. Intervals are by bootstrap over artists.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Audio, DatasetDict, concatenate_datasets, load_from_disk
from sklearn.model_selection import StratifiedGroupKFold

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ROOT, parser_of, print_head, print_row
from music_genre.evaluation.intervals import artist_groups, mean_interval
from music_genre.evaluation.predictions import read_predictions
from music_genre.loading import find_model, load_feature_extractor
from music_genre.report import PREDICTIONS_FILES

N_FOLDS = 5
RESULTS = "results.jsonl"
NO_AUGMENTATION = {"mixup": 0, "speed_perturbation": False, "spec_augment": False}
COURSE, PROBE = "the course's recipe", "the linear probe"
REFERENCE = "configs/gtzan.json"
ROWS: dict[str, dict[str, object]] = {  # REFERENCE stands for --config
    PROBE: {"num_train_epochs": 0},
    "configs/gtzan.json, no augmentation": NO_AUGMENTATION,
    "configs/gtzan.json, the best epoch": {"load_best_model_at_end": True},
    REFERENCE: {},
}


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("dataset", help="a folder that data_prep made")
    parser.add_argument("--config", default=REFERENCE)
    parser.add_argument("--model_name_or_path", help="default: the model of --config")
    parser.add_argument("--rows", nargs="+", help="default: all; an unknown name lists them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "fp16", "bf16"))
    parser.add_argument("--table", action="store_true", help="run nothing, print finished runs")
    parser.add_argument(
        "--minus", type=Path, metavar="OUTPUT_DIR",
        help=f"print differences from {REFERENCE} in OUTPUT_DIR, not from the probe",
    )  # fmt: skip
    parser.add_argument("--output_dir", type=Path, default=ROOT / "runs" / "ablation")
    arguments = parser.parse_args()
    names = [COURSE, *(name.replace(REFERENCE, arguments.config) for name in ROWS)]
    arguments.rows = arguments.rows or names
    if unknown := set(arguments.rows) - set(names):
        parser.error(f"there is no row {unknown.pop()!r} among {names}")
    config = json.loads((ROOT / arguments.config).read_text())
    arguments.model_name_or_path = arguments.model_name_or_path or config["model_name_or_path"]
    return arguments


def save_folds(dataset: str, model_id: str, folder: Path) -> None:
    """Write fold K as a dataset whose test split is scored, and prepare it as train_hf.py would."""
    parts = load_from_disk(dataset).cast_column("audio", Audio(decode=False))
    pool = concatenate_datasets([parts["train"], parts["validation"]])
    artists = artist_groups(pool["artist"])
    splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
    folds = [rows for _, rows in splitter.split(artists, pool["genre"], artists)]
    rate = load_feature_extractor(find_model(model_id)).sampling_rate
    for k in range(N_FOLDS):
        test, validation = folds[k], folds[k - 1]
        train = np.setdiff1d(np.arange(len(pool)), [*test, *validation])
        rows = {"train": train, "validation": validation, "test": test}
        if not (folder / str(k)).exists():
            splits = {name: pool.select(sorted(split_rows)) for name, split_rows in rows.items()}
            DatasetDict(splits).save_to_disk(folder / str(k))
        command = ["-m", "data_prep", folder / str(k), "--output_dir", folder / f"{k}-prepared"]
        command += ["--sampling_rate", rate]
        subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True)


def run(arguments: argparse.Namespace, row: str, fold: int, seed: int) -> dict:
    """Train once; return a line of results.jsonl."""
    name = "".join(c if c.isalnum() else "-" for c in row)
    folder = arguments.output_dir / f"{name}-{fold}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    common = {"seed": seed, "model_name_or_path": arguments.model_name_or_path}
    precision = arguments.precision
    dataset = arguments.output_dir / "folds" / str(fold)
    if row == COURSE:
        predictions = folder / "predictions.csv"
        options = {"output": predictions, "checkpoints": folder / "checkpoints"}
        options["precision"] = precision
        command = ["benchmarks/course_recipe.py", dataset]
    else:
        predictions = folder / PREDICTIONS_FILES["test"]
        options = {
            "dataset": f"{dataset}-prepared", "output_dir": folder, "save_total_limit": 1,
            "disable_tqdm": True,
        }  # fmt: skip
        options |= ROWS[row.replace(arguments.config, REFERENCE)]
        if precision != "auto":
            options |= {name: precision == name for name in ("fp16", "bf16")}
        if any(folder.glob("checkpoint-*")):  # an earlier run was stopped
            options["resume_from_checkpoint"] = "last"
        command = ["train_hf.py", arguments.config]
    flags = (text for name, value in (common | options).items() for text in (f"--{name}", value))
    minutes = cpu_minutes([*command, *flags], folder / "log.txt")
    tracks = [result_of(line) for line in read_predictions(predictions)]
    figures = {"minutes": minutes, "precision": precision, "tracks": tracks}
    return {"row": row, "fold": fold} | common | figures


def result_of(line: dict[str, str]) -> dict[str, str | float]:
    """Return the kept part of a line of predictions.csv, whose probabilities have six digits."""
    columns = ("track_id", "artist", "genre", "prediction", "short_prediction")
    nll = -np.log(max(float(line[line["genre"]]), 5e-7))
    return {key: line[key] for key in columns} | {"nll": round(nll, 4)}


def cpu_minutes(command: list[object], log: Path) -> float:
    """Run it with one thread, and return its CPU time, which other work does not affect."""
    threads = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, env=threads, stdout=file,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command[0]} failed; its output is in {log}")
    return round((usage.ru_utime + usage.ru_stime) / 60, 2)


def by_track(results: list[dict]) -> pd.DataFrame:
    """A line for each row and track: whether it is right, from whole clips and from 2 s, and NLL.

    Several seeds are averaged.
    """
    lines = pd.DataFrame([{"row": r["row"]} | track for r in results for track in r["tracks"]])
    lines["whole"] = lines["prediction"] == lines["genre"]
    lines["short"] = lines["short_prediction"] == lines["genre"]
    columns = {"artist": "first", "genre": "first", "whole": "mean", "short": "mean", "nll": "mean"}
    return lines.groupby(["row", "track_id"], sort=False).agg(columns)


def print_tables(results: list[dict], reference: list[dict], reference_name: str) -> None:
    """Print accuracies and negative log-likelihood, differences, recall and mistakes by genre.

    Args:
        reference: the results from which the differences are computed.
        reference_name: its name.
    """
    tracks = by_track(results)
    genres = sorted(tracks["genre"].unique())
    others = by_track(reference).droplevel("row") if reference else tracks.iloc[:0].droplevel("row")
    measures = {"whole clips": "whole", "2 s": "short", "NLL": "nll"}
    columns = [name for measure in measures for name in (measure, f"minus {reference_name}")]
    print_head("recipe", "n", "artists", *columns, "minutes")
    for row, row_tracks in tracks.groupby(level="row", sort=False):
        row_tracks = row_tracks.droplevel("row")
        cells: list[object] = [len(row_tracks), row_tracks["artist"].replace("", None).nunique()]
        for key in measures.values():
            cells.append(with_interval(row_tracks[key], row_tracks["artist"]))
            cells.append(difference(row_tracks, others, key) if row != reference_name else "")
        minutes = np.median([result["minutes"] for result in results if result["row"] == row])
        print_row(row, *cells, f"{minutes:.1f}")
    print()
    print_head("recall", *genres)
    for row, row_tracks in tracks.groupby(level="row", sort=False):
        recall = row_tracks.groupby("genre")["whole"].mean().reindex(genres)
        print_row(row, *(f"{value:.2f}" for value in recall))
    print()
    print_head("taken for", *genres)
    for row in dict.fromkeys(result["row"] for result in results):
        lines = [line for r in results if r["row"] == row for line in r["tracks"]]
        print_row(row, *(mistakes([t for t in lines if t["genre"] == g]) for g in genres))


def mistakes(lines: list[dict]) -> str:
    """The two genres that these tracks of one genre are most often taken for, with their shares."""
    wrong = Counter(t["prediction"] for t in lines if t["prediction"] != t["genre"])
    return ", ".join(f"{name} {n / len(lines):.2f}" for name, n in wrong.most_common(2))


def with_interval(values: pd.Series, artists: pd.Series) -> str:
    low, high = mean_interval(values.to_numpy(), artist_groups(artists))
    return f"{values.mean():.3f} ({low:.2f} to {high:.2f})"


def difference(tracks: pd.DataFrame, others: pd.DataFrame, key: str) -> str:
    """Return the mean difference on tracks that both have; a tie if its interval contains zero."""
    common = sorted(set(tracks.index) & set(others.index))
    if not common:
        return "-"
    values = (tracks.loc[common, key] - others.loc[common, key]).to_numpy()
    if not values.any():
        return "none"
    low, high = mean_interval(values, artist_groups(tracks.loc[common, "artist"]))
    tie = ", tie" if low <= 0 <= high else ""
    return f"{values.mean():+.3f} ({low:+.2f} to {high:+.2f}){tie}"


def read_results(folder: Path) -> list[dict]:
    path = folder / RESULTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    arguments = parse_arguments()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    results = read_results(arguments.output_dir)
    if not arguments.table:
        folds = arguments.output_dir / "folds"
        save_folds(arguments.dataset, arguments.model_name_or_path, folds)
        finished = {(r["row"], r["fold"], r["seed"]) for r in results}
        for seed, row, fold in itertools.product(arguments.seeds, arguments.rows, range(N_FOLDS)):
            if (row, fold, seed) not in finished:
                results.append(run(arguments, row, fold, seed))
                with (arguments.output_dir / RESULTS).open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
    models = ", ".join(sorted({result["model_name_or_path"] for result in results}))
    print(
        f"{models}; train and validation in {N_FOLDS} folds by artist (seed 0); n counts the "
        "tracks scored, and artists counts the known artists"
    )
    row = REFERENCE if arguments.minus else PROBE
    reference = [
        r for r in read_results(arguments.minus or arguments.output_dir) if r["row"] == row
    ]
    print_tables(results, reference, f"{row} of {arguments.minus}" if arguments.minus else row)


if __name__ == "__main__":
    main()
