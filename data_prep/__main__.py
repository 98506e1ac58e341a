"""Turn GTZAN archives into a `datasets` Audio dataset.

    python -m data_prep "GTZAN Genre Collection.zip" --output_dir data/gtzan

The archive may be the Kaggle zip under any name, the original genres.tar.gz, or an unpacked folder.
The result is a folder for `datasets.load_from_disk`, with manifest.csv and a dataset card.
"""

import argparse
from pathlib import Path

from data_prep.splits import DESCRIPTIONS, METHODS
from music_genre.errors import InputError, exit_with_message

KAGGLE_DATASET = "andradaolteanu/gtzan-dataset-music-genre-classification"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "archives",
        nargs="*",
        type=Path,
        metavar="ARCHIVE",
        help="zip, tar.gz or folder",
    )
    parser.add_argument("--output_dir", type=Path, default=Path("data/gtzan"), help="%(default)s")
    parser.add_argument(
        "--split",
        choices=METHODS,
        default="filtered",
        help="; ".join(f"{name}: {text}" for name, text in DESCRIPTIONS.items())
        + " (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the artist and random splits")
    parser.add_argument(
        "--on_bad_clip",
        choices=("drop", "fail"),
        default="drop",
        help="drop a clip that cannot be used and list it in manifest.csv, or stop (default: drop)",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch the Kaggle set first (1.2 GB; needs `pip install kagglehub` and network)",
    )
    parser.add_argument(
        "--push_to_hub", metavar="USER/NAME", help="upload the dataset, private unless --public"
    )
    parser.add_argument("--public", action="store_true", help="make the uploaded dataset public")
    arguments = parser.parse_args()
    if bool(arguments.archives) == arguments.download:
        parser.error("give an ARCHIVE (zip, tar.gz or folder), or --download to fetch the set.")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with exit_with_message("Stopped: nothing was written.", OSError):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    from data_prep.prepare import prepare

    archives = [download()] if arguments.download else arguments.archives
    preparation = prepare(
        archives, arguments.output_dir, arguments.split, arguments.seed, arguments.on_bad_clip
    )
    print_summary(preparation, arguments.output_dir)
    if arguments.push_to_hub:
        push(arguments.output_dir, arguments.push_to_hub, private=not arguments.public)


def download() -> Path:
    """Fetch the Kaggle set into kagglehub's cache (its own code extracts it there)."""
    try:
        import kagglehub
    except ImportError as error:
        raise InputError(
            "--download needs kagglehub: `pip install kagglehub`, or download the zip from "
            f"kaggle.com/datasets/{KAGGLE_DATASET} yourself and give its path."
        ) from error
    try:
        return Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception as error:  # kagglehub raises many kinds, for network, login and quota
        raise InputError(
            f"Kaggle could not be reached ({type(error).__name__}): download the zip from "
            f"kaggle.com/datasets/{KAGGLE_DATASET} yourself and give its path."
        ) from error


def print_summary(preparation: dict, output_dir: Path) -> None:
    from data_prep.splits import describe_leakage

    counts = {name: sum(of_genre.values()) for name, of_genre in preparation["counts"].items()}
    print(
        f"{output_dir}: {preparation['n_members']} audio files in, {preparation['n_kept']} kept "
        f"({preparation['seconds'] / 60:.0f} minutes), {preparation['n_dropped']} left out "
        f"(manifest.csv says why).\n"
        f"Split {DESCRIPTIONS[preparation['split']]}: "
        + ", ".join(f"{name} {n}" for name, n in counts.items())
        + f".\nLeakage: {describe_leakage(preparation['leakage'])}."
    )
    for tracks in preparation["identical_samples"]:
        print(f"Sample for sample the same: {', '.join(tracks)}.")
    for name in (name for name, n in counts.items() if not n):
        print(f"warning: the {name} split is empty; another --split would fill it.")


def push(output_dir: Path, repo_id: str, private: bool) -> None:
    """Upload as Parquet with the audio embedded, then put our card over the one that makes."""
    from datasets import load_from_disk
    from huggingface_hub import DatasetCard
    from huggingface_hub.errors import HfHubHTTPError

    try:
        load_from_disk(output_dir).push_to_hub(repo_id, private=private)
        ours = DatasetCard.load(output_dir / "README.md")
        theirs = DatasetCard.load(repo_id)  # its metadata tell the Hub where the Parquet files lie
        for key, value in theirs.data.to_dict().items():
            setattr(ours.data, key, value)
        ours.push_to_hub(repo_id)
    except HfHubHTTPError as error:
        raise InputError(
            f"The Hub refused {repo_id} ({error.response.status_code}): run `hf auth login` with a "
            f"token that may write there. The dataset is complete in {output_dir}."
        ) from error
    print(f"Pushed to {repo_id} ({'private' if private else 'public'}).")


if __name__ == "__main__":
    main()
