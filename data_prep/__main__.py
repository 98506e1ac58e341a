"""Turn GTZAN archives into a `datasets` Audio dataset.

    python -m data_prep "GTZAN Genre Collection.zip" --output_dir data/gtzan

The archive may be the Kaggle zip under any name, the original genres.tar.gz, or an unpacked folder.
The result is a folder for `datasets.load_from_disk`, with manifest.csv and a dataset card.
"""

import argparse
from pathlib import Path

from data_prep.gtzan import DESCRIPTIONS
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
        help="zip, tar.gz or folder; several are merged",
    )
    parser.add_argument(
        "--output_dir", type=Path, default=Path("data/gtzan"), help="default: %(default)s"
    )
    parser.add_argument(
        "--split",
        choices=tuple(DESCRIPTIONS),
        default="filtered",
        help="; ".join(f"{name}: {text}" for name, text in DESCRIPTIONS.items())
        + " (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="for the artist and random splits (default: 0)"
    )
    parser.add_argument(
        "--on_bad_clip",
        choices=("drop", "fail"),
        default="drop",
        help="drop a clip that cannot be used and list it in manifest.csv, or stop (default: drop)",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="download the Kaggle set first (1.2 GB; needs `pip install kagglehub` and network)",
    )
    parser.add_argument(
        "--push_to_hub", metavar="USER/NAME", help="upload the dataset, private unless --public"
    )
    parser.add_argument(
        "--public",
        action="count",
        default=0,
        help="upload to a public repository; GTZAN's audio has no licence, so for it this is "
        "refused unless given twice (--public --public) by someone who has the rights",
    )
    arguments = parser.parse_args()
    if arguments.public and not arguments.push_to_hub:
        parser.error("--public needs --push_to_hub USER/NAME.")
    if bool(arguments.archives) == arguments.download:
        parser.error("give an ARCHIVE (zip, tar.gz or folder), or --download to fetch the set.")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    folder = arguments.output_dir
    with exit_with_message("Stopped: nothing was written.", OSError):
        from data_prep.prepare import prepare

        archives = [download()] if arguments.download else arguments.archives
        preparation = prepare(
            archives, folder, arguments.split, arguments.seed, arguments.on_bad_clip
        )
        print_summary(preparation, folder)
    if arguments.push_to_hub:
        with exit_with_message(f"Stopped: the upload is incomplete, {folder} is complete."):
            from data_prep.upload import upload

            repo_id = arguments.push_to_hub
            repo_id = upload(folder, repo_id, preparation["is_synthetic"], arguments.public)
            print(f"Uploaded to {repo_id} ({'public' if arguments.public else 'private'}).")


def download() -> Path:
    """Download the Kaggle set into kagglehub's cache, which extracts it there."""
    try:
        import kagglehub
    except ImportError as error:
        raise InputError(
            "--download needs kagglehub: `pip install kagglehub`, or download the zip from "
            f"kaggle.com/datasets/{KAGGLE_DATASET} yourself and give its path."
        ) from error
    try:
        return Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception as error:  # of many types: network, login, quota
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
        print(f"Identical samples: {', '.join(tracks)}.")
    for warning in preparation["warnings"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    main()
