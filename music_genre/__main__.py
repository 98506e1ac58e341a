"""The command `music-genre` of the installed package; `python -m music_genre` in a checkout.

    music-genre classify song.mp3 other.flac --model you/distilhubert-gtzan
    music-genre scan ~/Music --model you/distilhubert-gtzan --output genres.parquet
    music-genre publish runs/mine you/distilhubert-gtzan

`scan` is `python -m music_genre.library`, `publish` is `python -m music_genre.publishing`.
"""

import argparse
import sys
from pathlib import Path

from music_genre.errors import InputError, exit_with_message


def main() -> None:
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb in ("scan", "publish"):
        if verb == "scan":
            from music_genre.library.__main__ import main as run
        else:
            from music_genre.publishing.__main__ import main as run
        sys.argv = [f"music-genre {verb}", *sys.argv[2:]]
        run()
        return
    parser = argparse.ArgumentParser(
        "music-genre", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["classify", "scan", "publish"], help="what to do")
    parser.add_argument("files", nargs="+", help="audio files")
    parser.add_argument("--model", required=True, help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    arguments = parser.parse_args()
    with exit_with_message("Stopped."):
        classify(arguments.files, arguments.model, arguments.revision)


def classify(files: list[str], model: str, revision: str | None) -> None:
    """Print one line per file: its name and the three likeliest genres.

    Raises:
        InputError: the model cannot be loaded, or a file cannot be classified; the others are.
    """
    if not any(Path(file).exists() for file in files):  # before the model is loaded
        raise InputError(f"There is no file {files[0]}.")

    from music_genre.classifier import GenreClassifier

    classifier = GenreClassifier(model, revision)
    failed = []
    for file in files:
        try:
            probabilities = classifier(file).probabilities
        except (InputError, OSError) as error:
            failed.append(f"{file}: {getattr(error, 'strerror', None) or error}")
            continue
        best = sorted(probabilities.items(), key=lambda item: item[1], reverse=True)[:3]
        print(f"{file}: " + ", ".join(f"{genre} {p:.0%}" for genre, p in best), flush=True)
    if failed:
        raise InputError("\n".join(failed))


if __name__ == "__main__":
    main()
