"""The command `music-genre` of the installed package; `python -m music_genre` in a checkout.

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


def add_classify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", help="audio files")
    parser.add_argument("--model", required=True, help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")


def classify(arguments: argparse.Namespace) -> None:
    """Print one line per file: its name, the three likeliest genres, and what could not be decoded.

    Raises:
        InputError: the model cannot be loaded, or a file cannot be classified; the others are.
    """
    files = arguments.files
    if folders := [file for file in files if Path(file).is_dir()]:
        raise InputError(f"{folders[0]} is a folder: `scan` classifies all files in one.")
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


# What each does, its options, its function, and what to say after Ctrl-C.
COMMANDS = {
    "classify": ("name the genres of files", add_classify_arguments, classify, "Stopped."),
    "scan": (
        "classify a music library into a table",
        library.add_scan_arguments,
        library.scan,
        library.SCAN_STOPPED,
    ),
    "tag": (
        "write genres into the tags of files that have none",
        library.add_tag_arguments,
        library.tag,
        library.TAG_STOPPED,
    ),
    "publish": (
        "upload a finished run as a model",
        publishing.add_publish_arguments,
        publishing.publish,
        publishing.STOPPED,
    ),
    "space": (
        "upload the page as a Space, from a checkout",
        publishing.add_space_arguments,
        publishing.space,
        publishing.STOPPED,
    ),
}


def main() -> None:
    # Imports leave much that stays, and looking for garbage in it takes a part of a short command.
    gc.set_threshold(100_000)
    parser = argparse.ArgumentParser(
        "music-genre", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, (what, add_arguments, run, when_stopped) in COMMANDS.items():
        one = verbs.add_parser(verb, help=what, description=what, allow_abbrev=False)
        add_arguments(one)
        one.set_defaults(run=run, when_stopped=when_stopped)
    arguments = parser.parse_args()
    with exit_with_message(arguments.when_stopped, OSError):
        arguments.run(arguments)


if __name__ == "__main__":
    main()
