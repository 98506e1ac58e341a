"""Classify a whole music library into a table, and on request write genres into the files' tags.

    python -m music_genre.library ~/Music --model you/distilhubert-gtzan --output genres.parquet
    python -m music_genre.library ~/Music --model ... --output genres.csv --seconds 30
    python -m music_genre.library ~/Music --model ... --output genres.csv --write_tags --dry_run
    python -m music_genre.library ~/Music --model ... --output genres.csv --write_tags --yes
    python -m music_genre.library --output genres.csv --undo
    python -m music_genre.library ~/Music --model ... --output genres.parquet --shard 3/16
    accelerate launch --multi_gpu --num_processes 2 -m music_genre.library ~/Music --model ... ...
    python -m music_genre.library --output genres.parquet --merge

The same command resumes an interrupted scan, and later processes only files that are new or
changed. Its results are kept in OUTPUT.parts.
"""

import argparse
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from music_genre.errors import InputError, exit_with_message
from music_genre.library.table import FORMATS, first_errors, summarize
from music_genre.report import is_demonstration

if TYPE_CHECKING:
    from music_genre import GenreClassifier

MIN_CONFIDENCE = 0.6
OF_TAGS = {"yes", "dry_run", "min_confidence", "precision", "replace", "tag_field"}


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
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="process this share of the files only, 0/N to N-1/N (default: of a launcher's "
        "processes each takes one), and write it to a table of its own",
    )
    parser.add_argument(
        "--merge", action="store_true", help="make OUTPUT of the tables of all shards"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    _add_tag_options(parser)
    arguments = parser.parse_args()
    if message := _wrong(arguments):
        parser.error(message)
    return arguments


def _add_tag_options(parser: argparse.ArgumentParser) -> None:
    tags = parser.add_argument_group("tags")
    tags.add_argument(
        "--write_tags",
        action="store_true",
        help="write genres into files that have none; without --yes only count the files",
    )
    tags.add_argument("--yes", action="store_true", help="let --write_tags change the files")
    tags.add_argument("--dry_run", action="store_true", help="list what --write_tags would change")
    tags.add_argument(
        "--min_confidence",
        type=float,
        help=f"write only genres of at least this probability ({MIN_CONFIDENCE})",
    )
    tags.add_argument(
        "--precision",
        type=float,
        help="instead: a probability for each genre, so that on the validation clips of the "
        "training this share is right, such as 0.9",
    )
    tags.add_argument("--replace", action="store_true", help="overwrite genres that are there")
    tags.add_argument(
        "--tag_field", metavar="NAME", help="write into this field, and leave the genre as it is"
    )
    tags.add_argument(
        "--undo", action="store_true", help="undo all tags that were written for this OUTPUT"
    )


def _wrong(arguments: argparse.Namespace) -> str | None:
    """What to change about the arguments; None if they fit together."""
    if arguments.output.suffix not in FORMATS:
        return f"--output must end in one of {', '.join(FORMATS)}, not {arguments.output.name!r}."
    values = vars(arguments).items()
    given = {name for name, value in values if value is not None and value is not False}
    given -= set() if arguments.roots else {"roots"}
    for alone in ("undo", "merge"):
        if alone in given:
            is_alone = given == {alone, "output"}
            return None if is_alone else f"--{alone} takes --output and no other option."
    if not {"roots", "model"} <= given:
        return "give the files to process (PATH) and a --model."
    if not arguments.write_tags and (needing := given & OF_TAGS):
        options = [f"--{name}" for name in sorted(needing)]
        return f"{' and '.join(options)} need{'s' * (len(options) == 1)} --write_tags."
    if arguments.seconds is not None and not arguments.seconds >= 1:
        return "--seconds must be 1 or more."
    return _wrong_tagging(arguments)


def _wrong_tagging(arguments: argparse.Namespace) -> str | None:
    if arguments.min_confidence is not None and not 0 <= arguments.min_confidence <= 1:
        return "--min_confidence must be between 0 and 1."
    if arguments.precision is not None and not 0 < arguments.precision <= 1:
        return "--precision must be above 0 and at most 1."
    if arguments.precision is not None and arguments.min_confidence is not None:
        return "--precision and --min_confidence exclude each other."
    if arguments.yes and arguments.dry_run:
        return "--yes and --dry_run exclude each other."
    if arguments.tag_field is not None:
        from music_genre.library.fields import check_field

        return check_field(arguments.tag_field)
    return None


def main() -> None:
    arguments = parse_arguments()
    output = arguments.output
    stopped = "Stopped. All results are kept: run the same command again to continue."
    with exit_with_message(stopped), _explained(output):
        if arguments.undo:
            from music_genre.library.tags import undo_tags

            for log in _logs(output):
                print(undo_tags(log))
        elif arguments.merge:
            from music_genre.library.shards import merge

            print(f"{output}: made of the tables of {merge(output):,} shards.")
        else:
            run(arguments)


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    """A disk that is full, gone or read-only: those of the music give rows, so it is another."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename or output}: {error.strerror or error}. All results so far are kept: "
            "run the same command again when this is mended."
        ) from error


def _log(table: Path) -> Path:
    return Path(f"{table}.tags.jsonl")


def _logs(table: Path) -> list[Path]:
    """Those of the table, and of the tables of its shards, that are there; or else the first."""
    of_shards = table.with_stem(f"{glob.escape(table.stem)}-?????-of-?????").name
    found = [_log(table), *sorted(table.parent.glob(_log(Path(of_shards)).name))]
    return [log for log in found if log.is_file()] or found[:1]


def run(arguments: argparse.Namespace) -> None:
    from music_genre.library.shards import shard_of

    shard = shard_of(arguments.shard)  # before seconds are spent on imports
    if missing := [root for root in arguments.roots if not root.exists()]:
        raise InputError(f"There is no file or folder {missing[0]}.")
    if arguments.write_tags and is_demonstration(Path(arguments.model)):
        raise InputError(
            f"{arguments.model} was trained on synthesised music: what it says about real music "
            "means nothing, so no tags are written."
        )

    from music_genre import GenreClassifier
    from music_genre.library.scan import scan
    from music_genre.library.tags import Tagging, write_tags

    device = _device(arguments.device)
    classifier = GenreClassifier(arguments.model, arguments.revision, device=device)
    thresholds = _thresholds(arguments, classifier) if arguments.write_tags else {}
    rows = scan(classifier, arguments.roots, arguments.output, arguments.seconds, shard)
    table = shard.table(arguments.output)
    print(f"{table}: {summarize(rows)}.")
    for line in first_errors(rows):
        print(line)
    if arguments.write_tags:
        tagging = Tagging(thresholds, arguments.tag_field or "genre", arguments.replace)
        parts, show = Path(f"{arguments.output}.parts"), print if arguments.dry_run else None
        print(write_tags(rows, tagging, _log(table), parts, arguments.yes, show))


def _thresholds(arguments: argparse.Namespace, classifier: "GenreClassifier") -> dict[str, float]:
    """The least probability of each genre that is written."""
    from music_genre.library.thresholds import describe, fit_thresholds, read_predictions

    if arguments.precision is None:
        given = arguments.min_confidence
        return dict.fromkeys(classifier.labels, MIN_CONFIDENCE if given is None else given)
    predictions = read_predictions(classifier.model_id, classifier.commit)
    thresholds = fit_thresholds(predictions, arguments.precision)
    if os.environ.get("RANK", "0") == "0":
        print(describe(thresholds, classifier.labels, arguments.precision))
    return {genre: one.probability for genre, one in thresholds.items()}


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
