"""Scan a music library into one table: one row per file, resumed after any interruption.

Finds the files of this process's share, leaves out those that have a row, and classifies the
others; `table.py` keeps the rows, `shards.py` shares, and `journal.py` knows what ended a scan.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from music_genre import old_audio as audio
from music_genre.classifier import GenreClassifier
from music_genre.errors import InputError
from music_genre.library.batches import FilePrediction, classify_files
from music_genre.library.journal import GIVEN_UP, Journal
from music_genre.library.shards import Shard
from music_genre.library.table import (
    File,
    LineWriter,
    ResultTable,
    Row,
    check_settings,
    columns_of,
    flat,
    is_final,
    read_rows,
    read_settings,
    write_table,
)

ALL = Shard()


def scan(
    classifier: GenreClassifier,
    roots: Sequence[Path],
    output: Path,
    seconds: float | None = None,
    shard: Shard = ALL,
) -> ResultTable:
    """Classify the audio files under `roots` that have no row yet, and write the table.

    Args:
        roots: folders and files.
        output: the table, in the format of its suffix, one of FORMATS; of a shard it is
            `shard.table(output)`.
        seconds: how much of each file is processed, from its middle; None for all.
        shard: the files to process, and to have rows for.

    Returns:
        The rows, by path.

    Raises:
        InputError: there are no files, or the rows that are there come from another model.
    """
    parts = Path(f"{output}.parts")
    files = find_files(roots, shard)
    check_settings(parts, settings_of(classifier, seconds))
    rows = read_rows(parts, files, str(shard))
    todo = [file for file, row in rows.items() if not is_final(row)]
    which = f" in shard {shard.index}/{shard.count}" if shard.count > 1 else ""
    print(f"{len(files):,} audio files{which}, {len(files) - len(todo):,} of them known.")
    if todo:
        with Journal(parts, str(shard)) as journal, LineWriter(parts, str(shard)) as writer:
            by_path = {file.path: file for file in todo}
            for prediction in _with_bar(_classify(classifier, todo, seconds, journal), len(todo)):
                file = by_path[prediction.path]
                rows[file] = writer.append(to_row(file, prediction, classifier.labels))
                journal.end(file.path)
    table, settings = ResultTable(rows.values()), read_settings(parts)
    flat_rows = (flat(row, settings) for row in table)
    write_table(shard.table(output), columns_of(settings["labels"]), flat_rows)
    return table


def _classify(
    classifier: GenreClassifier, files: Sequence[File], seconds: float | None, journal: Journal
) -> Iterator[FilePrediction]:
    others = (file for file in files if file.path not in journal.interrupted)
    yield from classify_files(classifier, journal.starting(others), seconds)
    last = [file for file in files if file.path in journal.interrupted]
    if last:
        print(f"{len(last):,} files were being processed when a scan ended: now one at a time.")
    for file in last:
        if journal.interrupted[file.path]:
            yield FilePrediction(file.path, error=GIVEN_UP)
        else:
            yield from classify_files(classifier, journal.starting([file], True), seconds)


def _with_bar(predictions: Iterator[FilePrediction], n_files: int) -> Iterator[FilePrediction]:
    processed, started = 0.0, time.monotonic()
    # Of the processes that a launcher starts on a machine, the first one shows its progress.
    is_hidden = os.environ.get("LOCAL_RANK", "0") != "0"
    with tqdm(total=n_files, unit=" files", disable=is_hidden, smoothing=0.05) as bar:
        for prediction in predictions:
            yield prediction
            processed += prediction.seconds_processed
            rate = processed / (time.monotonic() - started)
            bar.set_postfix_str(f"{rate:.0f} s of audio per second", refresh=False)
            bar.update()


def find_files(roots: Sequence[Path], shard: Shard = ALL) -> list[File]:
    """A shard of all audio files under folders, by their suffix, and of files given by name.

    They are sorted by path. Links to folders are not followed. Hidden files are left out; so are,
    with a warning, folders that cannot be read.

    Raises:
        InputError: a root does not exist, or there are no files, in this shard or any other.
    """
    paths, n_found = set(), 0
    roots_there = [os.path.abspath(root) for root in roots]
    for root in roots_there:
        if not os.path.exists(root):
            raise InputError(f"There is no file or folder {root}.")
        # Below the outermost root that holds it, a file has one name whatever root it is found by.
        above = [os.path.join(other, "") for other in roots_there if os.path.isdir(other)]
        base = min((o for o in above if os.path.join(root, "").startswith(o)), key=len, default="")
        for path in [root] if os.path.isfile(root) else _walk(root):
            n_found += 1
            name = path[len(base) :] if base else os.path.basename(path)
            if shard.has(name):
                paths.add(path)
    if not n_found:
        raise InputError(f"There are no audio files in {', '.join(map(str, roots))}.")
    return [_file(path) for path in sorted(paths)]


def _walk(root: str) -> Iterator[str]:
    for folder, subfolders, names in os.walk(root, onerror=_warn):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if os.path.splitext(name)[1].lower() in audio.SUFFIXES and not name.startswith("."):
                yield os.path.join(folder, name)


def _file(path: str) -> File:
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing, or just deleted; decoding reports it
        return File(path, 0, 0)
    return File(path, status.st_size, status.st_mtime_ns)


def _warn(error: OSError) -> None:
    print(f"warning: left out {error.filename}: {error.strerror}", file=sys.stderr)


def settings_of(classifier: GenreClassifier, seconds: float | None) -> dict[str, Any]:
    """What all rows of a table have in common. A local model's revision is a hash of its files."""
    return {
        "model": classifier.model_id,
        "revision": classifier.commit or _hash_of_model(Path(classifier.model_id)),
        "window_seconds": classifier.window_seconds,
        "seconds": seconds,
        "labels": classifier.labels,
    }


def _hash_of_model(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def to_row(file: File, prediction: FilePrediction, labels: Sequence[str]) -> Row:
    """A row; probabilities are rounded to six places.

    `uncertainty` is the entropy of the probabilities over that of a uniform guess: 0 is certain,
    1 is no idea.
    """
    row: Row = asdict(file) | {
        "duration": prediction.duration and round(prediction.duration, 3),
        "seconds_processed": round(prediction.seconds_processed, 3),
        "genre": None,
        "uncertainty": None,
        "probabilities": None,
        "error": prediction.error,
        "is_temporary": prediction.is_temporary,
    }
    if prediction.probabilities is not None:
        p = prediction.probabilities
        entropy = -(p * np.log(np.maximum(p, 1e-30))).sum()
        row["genre"] = labels[int(p.argmax())]
        row["uncertainty"] = round(float(entropy / np.log(len(p))), 6) if len(p) > 1 else 0.0
        row["probabilities"] = [round(value, 6) for value in p.tolist()]
    return row
