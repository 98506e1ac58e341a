"""Compare a model with baselines on the GTZAN archive's feature tables and images, in one table.

    python -m baselines data/gtzan.zip
    python -m baselines data/gtzan.zip --images --seeds 0 1 2 --runs runs/mine
    python -m baselines data/gtzan.zip --images --image_model models/efficientat-mn04

scikit-learn is trained on the archive's CSV files, which takes seconds. With --images, EfficientAT
is trained on its spectrogram images, which takes minutes for each seed. The rows of --runs come
from the report.json of finished runs. The table is printed as Markdown.
"""

import argparse
from functools import partial
from pathlib import Path

from music_genre.errors import exit_with_message

MAX_SEED = 2**32 - 1  # of NumPy


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m baselines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("archive", type=Path, help="the Kaggle zip, or a folder unpacked from it")
    parser.add_argument("--images", action="store_true", help="also train on the images")
    parser.add_argument(
        "--image_model", type=Path, metavar="DIR",
        help="initial weights for the images, from `python -m music_genre.efficientat` "
        "(default: random weights)",
    )  # fmt: skip
    parser.add_argument(
        "--splits", nargs="+", default=["random", "filtered"], help="splits of GTZAN"
    )
    parser.add_argument(
        "--seeds", type=partial(whole_number, 0), nargs="+", default=[0],
        help="seeds of the net on images",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=partial(whole_number, 1), default=30, help="epochs of the net on images"
    )
    parser.add_argument(
        "--runs", nargs="+", type=Path, default=[], metavar="DIR", help="folders of finished runs"
    )
    return parser.parse_args()


def whole_number(least: int, text: str) -> int:
    if not text.isdecimal() or not least <= int(text) <= MAX_SEED:
        raise argparse.ArgumentTypeError(
            f"it must be a whole number from {least} to {MAX_SEED}, not {text}"
        )
    return int(text)


def main() -> None:
    arguments = parse_arguments()
    with exit_with_message("Stopped."):
        from baselines import feature_tables, images
        from baselines.comparison import rows_of_runs, to_markdown
        from music_genre.loading import find_model, load_classifier

        # Check these first: a wrong folder must fail immediately, not start from random weights.
        rows = rows_of_runs(arguments.runs)
        if arguments.image_model:
            load_classifier(find_model(str(arguments.image_model)))
        for what, table in feature_tables.read_tables(arguments.archive).items():
            for split, parts in feature_tables.parts_of(table, arguments.splits):
                rows.append(feature_tables.evaluate(f"CSV, {what}", split, table, parts))
        if arguments.images:
            plots = images.read_images(arguments.archive)
            net = (arguments.seeds, arguments.epochs, arguments.image_model)
            rows += [images.evaluate(plots, split, *net) for split in arguments.splits]
        print(to_markdown(rows))


if __name__ == "__main__":
    main()
