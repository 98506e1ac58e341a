"""Turn music with genres into a `datasets` Audio dataset: your own, or GTZAN.

    python -m data_prep "My music by genre" --output_dir data/mine
    python -m data_prep tracks.csv --columns genre=style --output_dir data/mine
    python -m data_prep ~/Music --genre_from tags --genres "Techno,House,Ambient"
    python -m data_prep "GTZAN Genre Collection.zip" --output_dir data/gtzan

A source is a folder with a folder per genre, a table of paths and genres (.csv, .jsonl, .parquet),
a library with genre tags, GTZAN in any form, or a zip or tar of any of these. The result is a
folder for `datasets.load_from_disk`, with manifest.csv and a dataset card.
"""

import argparse
from pathlib import Path

from data_prep.options import COLUMNS, GENRE_FROM, SourceOptions, parse_columns
from music_genre.errors import InputError, exit_with_message

KAGGLE_DATASET = "andradaolteanu/gtzan-dataset-music-genre-classification"
SPLITS = "filtered", "artist", "album", "random", "given"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "archives", nargs="*", type=Path, metavar="SOURCE",
        help="folder, table, zip or tar; of GTZAN several are merged",
    )  # fmt: skip
    parser.add_argument("--output_dir", type=Path, help="default: data/gtzan or data/SOURCE-SPLIT")
    parser.add_argument(
        "--split", choices=SPLITS,
        help="GTZAN: filtered (its default, used in papers), artist or random (used in courses); "
        "others: artist, album, random, or given by the source (default: the strictest that is "
        "known)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="for splits that are drawn (0)")
    parser.add_argument(
        "--on_bad_clip", choices=("drop", "fail"), default="drop",
        help="drop a file that cannot be used and list it in manifest.csv, or stop (drop)",
    )  # fmt: skip
    _add_own_genres(parser)
    parser.add_argument(
        "--download", action="store_true",
        help="download GTZAN from Kaggle (1.2 GB; needs `pip install kagglehub` and network)",
    )  # fmt: skip
    parser.add_argument(
        "--push_to_hub", metavar="USER/NAME", help="upload the dataset, private unless --public"
    )
    parser.add_argument(
        "--public", action="count", default=0,
        help="upload to a public repository; for GTZAN, and for music without --license, refused "
        "unless given twice (--public --public) by someone who has the rights",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.public and not arguments.push_to_hub:
        parser.error("--public needs --push_to_hub USER/NAME.")
    if bool(arguments.archives) == arguments.download:
        parser.error("give a SOURCE (folder, table, zip or tar), or --download to fetch GTZAN.")
    return arguments


def _add_own_genres(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("genres of your own")
    group.add_argument(
        "--genre_from", choices=GENRE_FROM, help="where genres are (recognised, except tags)"
    )
    group.add_argument(
        "--columns", nargs="+", metavar="NAME=COLUMN",
        help=f"what the table calls {', '.join(COLUMNS)}, such as genre=style",
    )  # fmt: skip
    group.add_argument(
        "--genres", help='take these only, "Techno,House", or so many of the most frequent, 8'
    )
    group.add_argument(
        "--synonyms", metavar="FILE", help="other spellings of genres, as data_prep/synonyms.txt"
    )
    group.add_argument("--min_tracks", type=int, help="leave out genres of fewer tracks (10)")
    group.add_argument(
        "--clips_per_track", type=int, help="excerpts of a file of more than a minute (3)"
    )
    group.add_argument("--clip_seconds", type=float, help="length of an excerpt (30)")
    group.add_argument("--name", help="of the dataset, in cards (that of the source)")
    group.add_argument("--license", help="of the audio, as the Hub calls it, such as cc-by-4.0")
    group.add_argument("--description", help="a sentence for the dataset card")


def main() -> None:
    arguments = parse_arguments()
    with exit_with_message("Stopped: nothing was written.", OSError):
        from data_prep.prepare import prepare
        from data_prep.prepared import default_output_dir
        from data_prep.sources.recognise import is_gtzan

        archives = [download()] if arguments.download else arguments.archives
        folder = arguments.output_dir or (
            Path("data/gtzan")
            if arguments.download or is_gtzan(archives[0])
            else default_output_dir(archives, arguments.split)
        )
        options = SourceOptions(
            columns=parse_columns(arguments.columns),
            **{
                name: getattr(arguments, name)
                for name in SourceOptions.__dataclass_fields__
                if name != "columns"
            },
        )
        preparation = prepare(
            archives, folder, arguments.split, arguments.seed, arguments.on_bad_clip, options
        )
        print_summary(preparation, folder)
    if arguments.push_to_hub:
        with exit_with_message(f"Stopped: the upload is incomplete, {folder} is complete."):
            from data_prep.upload import needs_rights, upload

            repo_id = upload(
                folder, arguments.push_to_hub, needs_rights(preparation), arguments.public
            )
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
    from data_prep.leakage import describe_leakage

    counts = {name: sum(of_genre.values()) for name, of_genre in preparation["counts"].items()}
    n_kept, n_clips = preparation["n_kept"], preparation["n_clips"]
    as_clips = f" as {n_clips} clips" if n_clips != n_kept else ""
    print(
        f"{output_dir}: {preparation['n_members']} audio files in, {n_kept} kept{as_clips} "
        f"({preparation['seconds'] / 60:.0f} minutes), {preparation['n_dropped']} left out "
        f"(manifest.csv says why).\n"
        f"Split {preparation['split_description']}: "
        + ", ".join(f"{name} {n}" for name, n in counts.items())
        + f".\nLeakage: {describe_leakage(preparation['leakage'])}."
    )
    for tracks in preparation["identical_samples"]:
        print(f"Identical samples: {', '.join(tracks)}.")
    for warning in preparation["warnings"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    main()
