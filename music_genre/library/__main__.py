"""Classify a whole music library into a table, and on request write genres into the files' tags.

    python -m music_genre.library ~/Music --model you/distilhubert-gtzan --output genres.parquet
    python -m music_genre.library ~/Music --model ... --output genres.csv --seconds 30
    python -m music_genre.library ~/Music --model ... --output genres.csv --write-tags --yes
    python -m music_genre.library --output genres.csv --undo
    accelerate launch --multi_gpu --num_processes 2 -m music_genre.library ~/Music --model ... ...

The same command resumes an interrupted scan, and later processes only files that are new or
changed. Its results are kept in OUTPUT.parts.
"""

import argparse
import os
from pathlib import Path

from music_genre.errors import InputError, exit_with_message
from music_genre.library.results import FORMATS, summarize

MIN_CONFIDENCE = 0.6


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m music_genre.library",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("roots", nargs="*", type=Path, metavar="PATH", help="folders and files")
    parser.add_argument("--model", help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--output", type=Path, required=True, help=f"the table: {', '.join(FORMATS)}"
    )
    parser.add_argument(
        "--seconds", type=float, help="process this much of each file, from its middle (all)"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--write-tags",
        action="store_true",
        help="write genres into the files' tags; without --yes only count the files",
    )
    parser.add_argument(
        "--min_confidence",
        type=float,
        help=f"tag only files whose genre has at least this probability ({MIN_CONFIDENCE})",
    )
    parser.add_argument("--yes", action="store_true", help="let --write-tags change the files")
    parser.add_argument(
        "--undo", action="store_true", help="undo all tags that were written for this OUTPUT"
    )
    arguments = parser.parse_args()
    if message := _wrong(arguments):
        parser.error(message)
    return arguments


def _wrong(arguments: argparse.Namespace) -> str | None:
    """What to change about the arguments; None if they fit together."""
    if arguments.output.suffix not in FORMATS:
        return f"--output must end in one of {', '.join(FORMATS)}, not {arguments.output.name!r}."
    values = vars(arguments).items()
    given = {name for name, value in values if value is not None and value is not False}
    given -= set() if arguments.roots else {"roots"}
    if arguments.undo:
        if given != {"undo", "output"}:
            return "--undo takes --output and no other option."
        return None
    if not {"roots", "model"} <= given:
        return "give the files to process (PATH) and a --model."
    if not arguments.write_tags and given & {"yes", "min_confidence"}:
        return "--yes and --min_confidence need --write-tags."
    if arguments.seconds is not None and not arguments.seconds >= 1:
        return "--seconds must be 1 or more."
    if arguments.min_confidence is not None and not 0 <= arguments.min_confidence <= 1:
        return "--min_confidence must be between 0 and 1."
    return None


def main() -> None:
    arguments = parse_arguments()
    log = Path(f"{arguments.output}.tags.jsonl")
    stopped = "Stopped. All results are kept: run the same command again to continue."
    with exit_with_message(stopped, OSError):
        if arguments.undo:
            from music_genre.library.tags import undo_tags

            print(undo_tags(log))
        else:
            run(arguments, log)


def run(arguments: argparse.Namespace, log: Path) -> None:
    from music_genre import GenreClassifier
    from music_genre.library.scan import scan
    from music_genre.library.tags import write_tags

    device = _device(arguments.device)
    classifier = GenreClassifier(arguments.model, arguments.revision, device=device)
    rows = scan(classifier, arguments.roots, arguments.output, arguments.seconds)
    if not len(rows):
        return  # the first process writes the table and the tags
    print(f"{arguments.output}: {summarize(rows)}.")
    if arguments.write_tags:
        confidence = arguments.min_confidence
        confidence = MIN_CONFIDENCE if confidence is None else confidence
        parts = Path(f"{arguments.output}.parts")
        print(write_tags(rows, confidence, arguments.yes, log, parts))


def _device(name: str | None) -> str | None:
    """The device of this process; each process of a launch gets a GPU, as far as they suffice.

    Raises:
        InputError: there is no such device.
    """
    import torch

    if name is None and torch.cuda.is_available():
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name} cannot be used here: {reason}") from error
    return name


if __name__ == "__main__":
    main()
