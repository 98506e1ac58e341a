"""Compare other ways with the fine-tuned model: one table and one picture of what was measured.

    python -m baselines --dataset data/gtzan-random data/gtzan-filtered \\
        --runs runs/mel-cnn-random runs/mel-cnn runs/distilhubert-random runs/distilhubert-gtzan

scikit-learn is trained and tested on the feature tables of the prepared datasets here and now. The
other rows come from the reports of runs: train_hf.py writes one (configs/mel-cnn.json trains the
mel CNN), and so does python -m baselines.images. Rows without a run say "not run".
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
        help="what python -m data_prep made of an archive with feature CSVs, one per split",
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
    from data_prep.prepared import read_preparation

    for folder in arguments.dataset:
        if read_preparation(folder) is None:
            raise InputError(
                f"{folder} is not a prepared dataset: make one with python -m data_prep."
            )
    from baselines.comparison import add_missing, plot_rows, read_runs, to_markdown
    from baselines.csv_features import feature_rows

    of_runs = read_runs(arguments.runs)  # first, so that a wrong folder is refused at once
    rows = add_missing(feature_rows(arguments.dataset) + of_runs)
    table = to_markdown(rows)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "comparison.md").write_text(table, encoding="utf-8")
    plot_rows(rows, arguments.output_dir / "comparison.png")
    print(f"{table}\nWritten to {arguments.output_dir}: comparison.md, comparison.png.")


if __name__ == "__main__":
    main()
