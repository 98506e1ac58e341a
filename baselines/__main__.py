"""Put other ways beside the fine-tuned model: one table and one picture, of what was measured.

    python -m baselines --dataset data/gtzan-random data/gtzan-filtered \\
        --runs runs/mel-cnn-random runs/mel-cnn runs/distilhubert-random runs/distilhubert-gtzan

The CSV features of the prepared datasets are learnt and tested here and now, by scikit-learn. The
other rows come from the reports of runs: train_hf.py leaves one (configs/mel-cnn.json trains the
mel CNN), and so does python -m baselines.images. What was not run is there and says so.
"""

import argparse
from pathlib import Path

from music_genre.errors import InputError, exit_with_message


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m baselines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dataset",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="what python -m data_prep made of an archive with feature CSVs; one a split",
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders of finished runs, or of seed-0, seed-1, ...",
    )
    parser.add_argument("--output_dir", type=Path, default=Path("runs/comparison"))
    arguments = parser.parse_args()
    if not arguments.dataset and not arguments.runs:
        parser.error("give at least one --dataset DIR or --runs DIR to compare.")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with exit_with_message("Stopped: nothing was written."):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    from data_prep.prepare import read_preparation

    for folder in arguments.dataset:
        if read_preparation(folder) is None:
            raise InputError(f"{folder} is no prepared dataset: make one by python -m data_prep.")
    from baselines.comparison import add_missing, draw, markdown, read_runs
    from baselines.csv_features import rows_of

    of_runs = read_runs(arguments.runs)  # before minutes of work: a wrong folder is told at once
    rows = add_missing(rows_of(arguments.dataset) + of_runs)
    table = markdown(rows)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "comparison.md").write_text(table, encoding="utf-8")
    draw(rows, arguments.output_dir / "comparison.png")
    print(f"{table}\nWritten to {arguments.output_dir}: comparison.md, comparison.png.")


if __name__ == "__main__":
    main()
