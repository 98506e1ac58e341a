"""Turn music with genres into a `datasets` Audio dataset: your own, or GTZAN.

    python -m data_prep "My music by genre" --output_dir data/mine
    python -m data_prep tracks.csv --columns genre=style --output_dir data/mine
    python -m data_prep ~/Music --genre_from tags --genres "Techno,House,Ambient"
    python -m data_prep "GTZAN Genre Collection.zip" --output_dir data/gtzan

A source is a folder with a folder per genre, a table of paths and genres (.csv, .tsv, .txt, .xlsx,
.json, .jsonl, .parquet), a library with genre tags, GTZAN in any form, a zip or tar of any of
these, a dataset on the Hub or on the disk, or `synthetic`. The result is a folder for
`datasets.load_from_disk`, with manifest.csv and a dataset card.
"""

# Decoder processes import this file, so slow imports are inside the functions.
import argparse
from dataclasses import fields
from pathlib import Path

from data_prep.options import COLUMNS, GENRE_FROM, Options
from data_prep.prepared import DATA_DIR, SYNTHETIC, default_output_dir
from music_genre.errors import InputError, exit_with_message, first_line

KAGGLE_DATASET = "andradaolteanu/gtzan-dataset-music-genre-classification"
SPLITS = "filtered", "artist", "album", "random", "given"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("archives", nargs="*", metavar="SOURCE", help="one source, or several of GTZAN to merge")
    add("--output_dir", type=Path, help="default: data/SOURCE-prepared or data/SOURCE-SPLIT")
    add("--overwrite", action="store_true", help="prepare again, replacing the old preparation")
    add(
        "--split", choices=SPLITS,
        help="GTZAN: filtered (its default, used in papers), artist or random (used in courses); "
        "others: artist, album, random, or given by the source (default: the strictest known)",
    )  # fmt: skip
    add("--seed", type=int, help="for splits that are drawn at random (0)")
    add(
        "--sampling_rate", type=int,
        help="of the dataset, in hertz; use the model's, such as 32000 for EfficientAT (16000)",
    )  # fmt: skip
    add(
        "--on_bad_clip", choices=("drop", "fail"),
        help="drop a file that cannot be used and list it in manifest.csv, or stop (drop)",
    )  # fmt: skip
    add("--download", action="store_true", help="GTZAN from Kaggle (`pip install kagglehub`)")
    add("--push_to_hub", metavar="USER/NAME", help="upload the dataset, private unless --public")
    add(
        "--public", action="count", default=0,
        help="upload to a public repository; for GTZAN, and for music without --license, refused "
        "unless given twice (--public --public) by someone who has the rights",
    )  # fmt: skip
    add = parser.add_argument_group("custom genres").add_argument
    add("--genre_from", choices=GENRE_FROM, help="where genres come from (recognised, except tags)")
    add(
        "--columns", nargs="+", metavar="NAME=COLUMN",
        help="for columns with other names, such as genre=style; NAME of a table: "
        f"{', '.join(COLUMNS)}; of a dataset: genre and artist",
    )  # fmt: skip
    add("--genres", help='keep only these, "Techno,House"; or a number: 8 keeps the most frequent')
    add("--synonyms", metavar="FILE", help="spellings of genres; see data_prep/synonyms.txt")
    add("--min_tracks", type=int, help="leave out genres with fewer tracks (10)")
    add("--clips_per_track", type=int, help="excerpts from a file longer than a minute (3)")
    add("--clip_seconds", type=float, help="length of an excerpt (30)")
    add("--name", help="name of the dataset in cards (the source's name)")
    add("--license", help="licence of the audio, by its name on the Hub, such as cc-by-4.0")
    add("--description", help="a sentence for the dataset card")
    parser.set_defaults(**{field.name: field.default for field in fields(Options)})
    arguments = parser.parse_args()
    if arguments.columns:
        arguments.columns = dict(text.partition("=")[::2] for text in arguments.columns)
    if arguments.public and not arguments.push_to_hub:
        parser.error("--public needs --push_to_hub USER/NAME.")
    if bool(arguments.archives) == arguments.download:
        parser.error("give a SOURCE, such as a folder, or --download to fetch GTZAN.")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with exit_with_message("Stopped: nothing was written.", OSError):
        from data_prep.prepare import prepare

        archives = arguments.archives
        folder = arguments.output_dir or default_output_dir(
            archives or ["gtzan"], arguments.split, arguments.sampling_rate
        )
        if arguments.download:
            archives = [download()]
        elif archives == [SYNTHETIC]:
            archives = [synthesise()]
        options = {field.name: getattr(arguments, field.name) for field in fields(Options)}
        preparation = prepare(archives, folder, arguments.overwrite, **options)
        print_summary(preparation, folder)
    if arguments.push_to_hub:
        with exit_with_message(f"Stopped: the upload is incomplete, {folder} is complete."):
            from data_prep.upload import needs_rights, upload

            repo_id = upload(
                folder, arguments.push_to_hub, needs_rights(preparation), arguments.public
            )
            print(f"Uploaded to {repo_id} ({'public' if arguments.public else 'private'}).")


def synthesise() -> Path:
    """The path of the archive of synthesised music, which is written if it does not exist."""
    from data_prep.synthetic import write_archive

    archive = DATA_DIR / f"{SYNTHETIC}.zip"
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        write_archive(archive)
    return archive


def download() -> Path:
    """Download the Kaggle set into kagglehub's cache, which extracts it there."""
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception as error:  # of many types: not installed, network, login, quota
        raise InputError(
            f"--download needs `pip install kagglehub` and Kaggle ({first_line(error)}); or "
            f"download the zip from kaggle.com/datasets/{KAGGLE_DATASET} and give its path."
        ) from error


def print_summary(preparation: dict, output_dir: Path) -> None:
    from data_prep.leakage import describe_leakage

    counts = {split: sum(genres.values()) for split, genres in preparation["counts"].items()}
    n_kept, n_clips = preparation["n_kept"], preparation["n_clips"]
    as_clips = f" as {n_clips} clips" if n_clips != n_kept else ""
    print(
        f"{output_dir}: {preparation['n_members']} audio files in, {n_kept} kept{as_clips} "
        f"({preparation['seconds'] / 60:.0f} minutes), {preparation['n_dropped']} left out "
        f"(manifest.csv says why).\n"
        f"Split {preparation['split_description']}: "
        + ", ".join(f"{name} {n}" for name, n in counts.items())
        + f" tracks.\nLeakage: {describe_leakage(preparation['leakage'])}."
    )
    for warning in preparation["warnings"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    main()
