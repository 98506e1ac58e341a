"""The `music-genre` command of the installed package; in a checkout, `python -m music_genre`.

music-genre classify song.mp3 other.flac --model you/distilhubert-gtzan
music-genre scan ~/Music --model you/distilhubert-gtzan --output genres.parquet
music-genre tag ~/Music --table genres.parquet
music-genre publish runs/mine you/distilhubert-gtzan
"""

import argparse
import gc
from pathlib import Path

from music_genre.errors import InputError, exit_with_message
from music_genre.library import command as library
from music_genre.publishing import command as publishing

STOPPED = "Stopped. Finished work is kept: run the same command again to do the rest."


def add_classify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", help="audio files")
    parser.add_argument("--model", required=True, help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")


def classify(arguments: argparse.Namespace) -> None:
    """Print the three likeliest genres of each file.

    A file's line also says how much of it could not be decoded.

    Raises:
        InputError: the model cannot be loaded, or files cannot be classified; the others still are.
    """
    files = arguments.files
    if folders := [file for file in files if Path(file).is_dir()]:
        raise InputError(f"{folders[0]} is a folder: use `scan` to classify all files in it.")
    if not any(Path(file).exists() for file in files):  # before the model is loaded
        raise InputError(f"There is no file {files[0]}.")

    from music_genre import GenreClassifier

    classifier = GenreClassifier(arguments.model, arguments.revision)
    failed = []
    for file in files:
        try:
            prediction = classifier(file)
        except (InputError, OSError) as error:
            failed.append(f"{file}: {getattr(error, 'strerror', None) or error}")
            continue
        best = sorted(prediction.probabilities.items(), key=lambda one: one[1], reverse=True)[:3]
        loss = f" ({prediction.loss})" if prediction.loss else ""
        print(f"{file}: " + ", ".join(f"{genre} {p:.0%}" for genre, p in best) + loss, flush=True)
    if failed:
        raise InputError("\n".join(failed))


# Each command's function, whose docstring's first line is its help text, and its options.
COMMANDS = {
    classify: add_classify_arguments,
    library.scan: library.add_scan_arguments,
    library.tag: library.add_tag_arguments,
    publishing.publish: publishing.add_publish_arguments,
    publishing.space: publishing.add_space_arguments,
}


def main() -> None:
    # Imports leave many lasting objects, and scanning them for garbage slows down short commands.
    gc.set_threshold(100_000)
    parser = argparse.ArgumentParser(
        "music-genre", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for run, add_arguments in COMMANDS.items():
        what = run.__doc__.splitlines()[0]
        one = verbs.add_parser(run.__name__, help=what, description=what, allow_abbrev=False)
        add_arguments(one)
        one.set_defaults(run=run)
    arguments = parser.parse_args()
    with exit_with_message(STOPPED, OSError):
        arguments.run(arguments)


if __name__ == "__main__":
    main()
