"""Classify a whole music library into a table, and on request write genres into the files' tags.

    python -m music_genre.library ~/Music --model you/distilhubert-gtzan --output genres.parquet
    python -m music_genre.library ~/Music --model ... --output genres.csv --seconds 30
    python -m music_genre.library ~/Music --model ... --output genres.csv --write-tags
    python -m music_genre.library --output genres.csv --undo
    accelerate launch --multi_gpu --num_processes 2 -m music_genre.library ~/Music --model ... ...

The same command continues an interrupted scan, and later processes only files that are new or
changed. What it knows is kept in OUTPUT.parts.
"""

import argparse
import os
from pathlib import Path

from music_genre.errors import exit_with_message
from music_genre.library.results import FORMATS, summarise
from music_genre.library.scan import scan
from music_genre.library.tags import undo_tags, write_tags

MIN_CONFIDENCE = 0.6


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m music_genre.library",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("roots", nargs="*", type=Path, metavar="PATH", help="folders and files")
    parser.add_argument("--model", help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--output", type=Path, required=True, help=f"the table; its suffix one of {_list(FORMATS)}"
    )
    parser.add_argument(
        "--seconds", type=float, help="hear so much of each file, from its middle (default: all)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--write-tags", action="store_true", help="write genres into the files; only with --yes"
    )
    parser.add_argument(
        "--min_confidence",
        type=float,
        default=MIN_CONFIDENCE,
        help="tag only files whose genre is at least so probable (default: %(default)s)",
    )
    parser.add_argument("--yes", action="store_true", help="yes, change the files")
    parser.add_argument(
        "--undo", action="store_true", help="take back all tags written for this OUTPUT"
    )
    arguments = parser.parse_args()
    if arguments.output.suffix not in FORMATS:
        parser.error(f"--output ends in one of {_list(FORMATS)}, not {arguments.output.name!r}.")
    if not arguments.undo and not (arguments.roots and arguments.model):
        parser.error("name what to hear (PATH) and with what (--model).")
    if arguments.undo and (arguments.roots or arguments.write_tags):
        parser.error("--undo goes with --output alone.")
    if arguments.yes and not arguments.write_tags:
        parser.error("--yes says that --write-tags may change files: give both.")
    if arguments.seconds is not None and not arguments.seconds >= 1:
        parser.error("--seconds is 1 or more.")
    if not 0 <= arguments.min_confidence <= 1:
        parser.error("--min_confidence lies between 0 and 1.")
    return arguments


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def main() -> None:
    arguments = parse_arguments()
    log = Path(f"{arguments.output}.tags.jsonl")
    with exit_with_message("Stopped. What was heard is kept; the same command goes on.", OSError):
        if arguments.undo:
            print(undo_tags(log))
        else:
            run(arguments, log)


def run(arguments: argparse.Namespace, log: Path) -> None:
    from music_genre import GenreClassifier

    device = arguments.device or _device_of_this_process()
    classifier = GenreClassifier(arguments.model, arguments.revision, device=device)
    rows = scan(classifier, arguments.roots, arguments.output, arguments.seconds)
    if not len(rows):
        return  # another process writes
    print(f"{arguments.output}: {summarise(rows)}.")
    if arguments.write_tags:
        parts = Path(f"{arguments.output}.parts")
        print(write_tags(rows, arguments.min_confidence, arguments.yes, log, parts))


def _device_of_this_process() -> str | None:
    """Each process of a launch gets a GPU of its own, as far as they go."""
    import torch

    if not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


if __name__ == "__main__":
    main()
