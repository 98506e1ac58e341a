"""The commands `music-genre scan` and `music-genre tag`: their options, and what they print.

Decoder processes import this, so that what is large is imported where it is used.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from music_genre.errors import InputError

FORMATS = (".parquet", ".csv", ".jsonl")  # of the table
MIN_CONFIDENCE = 0.6
SCAN_STOPPED = "Stopped. All results are kept: run the same command again to continue."
TAG_STOPPED = (
    "Stopped. Each file has its old tags or its new ones; --undo writes the old ones back."
)


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument("--model", required=True, help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--output", type=table_path, required=True, help=f"the table: {', '.join(FORMATS)}"
    )
    parser.add_argument(
        "--seconds",
        type=partial(between, 1, math.inf),
        help="process this much of each file, from its middle (all)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="",
        help="process the files on this Ray cluster, or on that of this machine",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")


def add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("roots", nargs="+", type=Path, metavar="PATH", help="folders and files")
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave out files and folders of this name, or this path below PATH; * is any text; "
        "may be repeated",
    )


def table_path(text: str) -> Path:
    if not text.endswith(FORMATS):
        raise argparse.ArgumentTypeError(f"{text} ends in none of {', '.join(FORMATS)}")
    return Path(text)


def between(least: float, most: float, text: str) -> float:
    if not least <= float(text) <= most:  # nan is not
        raise argparse.ArgumentTypeError(f"it must be between {least:g} and {most:g}")
    return float(text)


def add_tag_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument(
        "--table", type=table_path, required=True, help="what `scan` was given as --output"
    )
    agreed = parser.add_mutually_exclusive_group()
    agreed.add_argument("--yes", action="store_true", help="change the files")
    agreed.add_argument(
        "--dry_run", action="store_true", help="list the changes; without --yes that is all"
    )
    agreed.add_argument(
        "--undo", action="store_true", help="write the old values back, of all that was written"
    )
    sure = parser.add_mutually_exclusive_group()
    sure.add_argument(
        "--min_confidence",
        type=partial(between, 0, 1),
        default=MIN_CONFIDENCE,
        help="write only genres of at least this probability (%(default)s)",
    )
    sure.add_argument(
        "--target_precision",
        type=partial(between, 0, 1),
        help="instead: a probability for each genre, so that on clips the model was not trained on "
        "this share is right, such as 0.9",
    )
    parser.add_argument(
        "--top_k",
        type=int,
        choices=range(1, 6),
        default=1,
        help="write up to so many genres, all of that probability (%(default)s)",
    )
    parser.add_argument("--replace", action="store_true", help="overwrite genres that are there")
    parser.add_argument(
        "--tag_field", metavar="NAME", help="write into this field, and leave the genre as it is"
    )


@contextmanager
def explained(output: Path) -> Iterator[None]:
    """A disk that is full, gone or read-only: those of the music give rows, so it is another."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename or output}: {error.strerror or error}. All results so far are kept: "
            "run the same command again when this is mended."
        ) from error


def scan(arguments: argparse.Namespace) -> None:
    """Raises SystemExit with 1 where a folder could not be read."""
    check_roots(arguments.roots)  # before seconds are spent on imports
    from music_genre.classifier import GenreClassifier
    from music_genre.library.scan import scan
    from music_genre.library.table import first_errors, summarize

    make_rows, device = None, arguments.device
    if arguments.ray is not None:
        from music_genre.library import on_ray

        on_ray.connect(arguments.ray or None)
        device = "cpu"  # only its actors compute
    classifier = GenreClassifier(arguments.model, arguments.revision, device=device)
    if arguments.ray is not None:
        make_rows = on_ray.rows_on_ray(classifier, arguments.seconds, arguments.device)
    with explained(arguments.output):
        table, is_complete = scan(
            classifier,
            arguments.roots,
            arguments.output,
            arguments.seconds,
            arguments.exclude,
            make_rows,
        )
    print(f"{arguments.output}: {summarize(table)}.")
    for line in first_errors(table):
        print(line)
    if not is_complete:
        sys.exit(1)


def check_roots(roots: list[Path]) -> None:
    if missing := [root for root in roots if not root.exists()]:
        raise InputError(f"There is no file or folder {missing[0]}.")


def tag(arguments: argparse.Namespace) -> None:
    from music_genre.library.fields import GENRE, check_field

    check_roots(arguments.roots)
    if arguments.tag_field:
        check_field(arguments.tag_field)
    from music_genre.library.files import find_files
    from music_genre.library.table import read_rows, read_settings
    from music_genre.library.tags import Tagging, undo_tags, write_tags

    log, parts = Path(f"{arguments.table}.tags.jsonl"), Path(f"{arguments.table}.parts")
    found = find_files(arguments.roots, arguments.exclude)
    with explained(arguments.table):
        if arguments.undo:
            print(undo_tags(found, log))
            return
        settings = read_settings(parts)
        if not settings:
            raise InputError(f"There are no rows in {parts}: scan first, and keep that folder.")
        if settings["is_demonstration"]:
            raise InputError(
                f"{settings['model']} was trained on synthesised music: what it says about real "
                "music means nothing, so no tags are written."
            )
        field = arguments.tag_field or GENRE
        tagging = Tagging(
            arguments.min_confidence,
            arguments.top_k,
            field,
            arguments.replace,
            thresholds_of(settings, arguments.target_precision),
        )
        rows = read_rows(parts, settings["labels"])
        print(write_tags(found, rows, tagging, log, parts, arguments.yes))


def thresholds_of(settings: dict[str, Any], precision: float | None) -> dict[str, float] | None:
    """With --target_precision, the least probability of each genre that is written."""
    if precision is None:
        return None
    from music_genre.library.thresholds import describe, find_thresholds

    labels = settings["labels"]
    commit = None if settings["revision"].startswith("sha256:") else settings["revision"]
    thresholds = find_thresholds(settings["model"], commit, labels, precision)
    print(describe(thresholds, labels, precision))
    return {genre: one.probability for genre, one in thresholds.items()}
