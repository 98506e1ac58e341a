"""The commands `music-genre scan` and `music-genre tag`: their options, and what they print.

Decoder processes import this module, so large packages are imported where they are used.
"""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from music_genre.audio import MAX_SECONDS
from music_genre.errors import InputError
from music_genre.library.object_store import is_url

FORMATS = (".parquet", ".csv", ".jsonl")  # of the table
TAG_DEFAULTS = {  # of the options that choose what is written
    "exclude": [], "min_confidence": 0.6, "top_k": 1, "replace": False, "tag_field": None,
}  # fmt: skip


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser, path_or_url, "folders and files, or the URL of a folder in an object store")
    parser.add_argument("--model", required=True, help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--output", type=table_path, required=True, help=f"the table: {', '.join(FORMATS)}"
    )
    parser.add_argument(
        "--seconds",
        type=partial(between, 1, MAX_SECONDS),
        help="process only this many seconds from the middle of each file (all)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="",
        help="process the files on this Ray cluster; without ADDRESS, on this machine's",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")


def add_paths(parser: argparse.ArgumentParser, kind: Callable, what: str) -> None:
    parser.add_argument("roots", nargs="+", type=kind, metavar="PATH", help=what)
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave out files and folders with this name or this path below PATH; * matches any "
        "text; may be repeated",
    )


def existing_path(text: str) -> Path:
    if not Path(text).exists():
        raise argparse.ArgumentTypeError(f"there is no file or folder {text}")
    return Path(text)


def path_or_url(text: str) -> str | Path:
    return text if is_url(text) else existing_path(text)


def table_path(text: str) -> Path:
    if not text.endswith(FORMATS):
        raise argparse.ArgumentTypeError(f"{text} ends in none of {', '.join(FORMATS)}")
    if is_url(text):
        raise argparse.ArgumentTypeError("the table is written to this machine, not to a URL")
    return Path(text)


def between(least: float, most: float, text: str) -> float:
    if not least <= float(text) <= most:  # also catches nan
        raise argparse.ArgumentTypeError(f"it must be between {least:g} and {most:g}")
    return float(text)


def add_tag_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser, existing_path, "folders and files of this machine")
    parser.add_argument("--table", type=table_path, required=True, help="the --output of `scan`")
    agreed = parser.add_mutually_exclusive_group()
    agreed.add_argument(
        "--yes", action="store_true", help="change the files; without it, list the changes"
    )
    agreed.add_argument(
        "--undo", action="store_true", help="restore the old values of everything that was written"
    )
    parser.add_argument(
        "--min_confidence",
        type=partial(between, 0, 1),
        help="write only genres of at least this probability (%(default)s)",
    )
    parser.add_argument(
        "--top_k",
        type=int,
        choices=range(1, 6),
        help="write up to this many genres, each of at least that probability (%(default)s)",
    )
    parser.add_argument("--replace", action="store_true", help="overwrite existing genres")
    parser.add_argument(
        "--tag_field", metavar="NAME", help="write into this field, and leave the genre as it is"
    )
    parser.set_defaults(**TAG_DEFAULTS)


def scan(arguments: argparse.Namespace) -> None:
    """Classify a music library into a table.

    Raises SystemExit with 1 if a folder could not be read.
    """
    # Set before importing torch: threads that spin while they wait take cores from the decoders.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from music_genre import GenreClassifier
    from music_genre.library.scan import scan
    from music_genre.library.table import summarize

    make_rows, device, is_ray = None, arguments.device, arguments.ray is not None
    if is_ray:
        from music_genre.library import on_ray

        on_ray.connect(arguments.ray or None)
        device = "cpu"  # only the cluster's actors compute
    classifier = GenreClassifier(arguments.model, arguments.revision, device=device)
    if is_ray:
        make_rows = on_ray.rows_on_ray(classifier, arguments.seconds, arguments.device)
    roots, output = arguments.roots, arguments.output
    table, is_complete = scan(
        classifier, roots, output, arguments.seconds, arguments.exclude, make_rows
    )
    print(f"{output}: {summarize(table)}")
    if not is_complete:
        sys.exit(1)


def tag(arguments: argparse.Namespace) -> None:
    """Write genres into the tags of files that have none."""
    from music_genre.library.fields import GENRE, check_field, check_genres
    from music_genre.library.files import find_files
    from music_genre.library.table import read_rows, read_settings
    from music_genre.library.tags import Tagging, undo_tags, write_tags

    given = [name for name, v in TAG_DEFAULTS.items() if getattr(arguments, name) != v]
    if arguments.undo and given:
        raise InputError(f"--undo restores everything that was written: leave out --{given[0]}.")
    if arguments.tag_field:
        check_field(arguments.tag_field)
    log, parts = Path(f"{arguments.table}.tags.jsonl"), Path(f"{arguments.table}.parts")
    found = find_files(arguments.roots, arguments.exclude)
    settings = read_settings(parts)
    if arguments.undo:
        print(undo_tags(found, log, parts, settings.get("labels", [])))
        return
    if not settings:
        raise InputError(f"There are no rows in {parts}: scan first, and keep that folder.")
    if settings["is_demonstration"]:
        raise InputError(
            f"{settings['model']} was trained on synthesised music: its answers for real "
            "music mean nothing, so no tags are written."
        )
    field = arguments.tag_field or GENRE
    if field == GENRE:
        check_genres(settings["labels"])
    tagging = Tagging(arguments.min_confidence, arguments.top_k, field, arguments.replace)
    rows = read_rows(parts, settings["labels"])
    print(write_tags(found, rows, tagging, log, parts, arguments.yes))
