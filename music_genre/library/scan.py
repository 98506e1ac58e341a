"""Scan a music library into one table: one row per file, resumed after any interruption.

    scan(GenreClassifier("runs/mine"), [Path("music")], Path("genres.parquet"))

files.py finds the files, and table.py knows which of them have a row. decoding.py decodes the
others, `prepare` cuts them into windows, and `classify` makes their rows. on_ray.py does the same
on many machines.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from music_genre import windows
from music_genre.classifier import BATCH_SIZE, GenreClassifier
from music_genre.isolation import DecoderPool, run_in_pool
from music_genre.library.decoding import TIMEOUT, File, decode_file, sha256_of
from music_genre.library.files import Found, describe_kinds, describe_others, find_files
from music_genre.library.object_store import is_url
from music_genre.library.table import (
    PartWriter,
    Row,
    check_same_root,
    check_settings,
    have_valid_row,
    read_rows,
    rows_in,
    rows_of,
    schema_of,
    write_table,
)

N_NAMES_SHOWN = 5

Rows = Callable[[Iterator[File]], Iterator[Row]]


def scan(
    classifier: GenreClassifier,
    roots: Sequence[str | Path],
    output: Path,
    seconds: float | None = None,
    exclude: Sequence[str] = (),
    make_rows: Rows | None = None,
) -> tuple[pa.Table, bool]:
    """Classify the audio files under `roots` that have no valid row yet, and write the table.

    Args:
        output: the table, in the format of its suffix, one of FORMATS.
        seconds: how much of each file is processed, from its middle; None for all.
        exclude: see `find_files`.
        make_rows: makes the rows of files somewhere else; None to make them here.

    Returns:
        The table, and whether all folders could be read.

    Raises:
        InputError: there are no files, or the existing rows come from another model or root.
    """

    def rows_here(files: Iterator[File]) -> Iterator[Row]:
        rate = classifier.sampling_rate
        window = int(classifier.window_seconds * rate)
        calls = ((file, (file, rate, seconds)) for file in files)
        with DecoderPool(joblib.cpu_count()) as pool:
            outcomes = run_in_pool(pool, decode_file, calls, TIMEOUT)
            prepared = (prepare(file, outcome, window) for file, outcome in outcomes)
            yield from classify(prepared, classifier.labels, classifier.window_probabilities)

    parts, settings = Path(f"{output}.parts"), settings_of(classifier, seconds)
    found = find_files(roots, exclude)
    check_settings(parts, settings)
    labels = settings["labels"]
    todo, n_todo = files_without_row(found, read_rows(parts, labels))
    known = f"{len(found.files) - n_todo:,} of them known"
    kinds = describe_kinds(found.kinds)
    print(f"{len(found.files):,} audio files ({kinds}), {known}.{describe_others(found)}")
    n_same = 0
    with (
        closing((make_rows or rows_here)(todo)) as rows,
        PartWriter(parts, schema_of(labels)) as writer,
    ):
        for row in tqdm(rows, total=n_todo, unit=" files", smoothing=0.05):
            n_same += row.pop("is_same", False)
            writer.append(row)
    if n_same:
        print(f"{n_same:,} files had another time, but the same content: no change.")
    table = _table(found, read_rows(parts, labels))
    return write_table(output, table, settings), not found.unreadable


def files_without_row(found: Found, rows: pa.Table) -> tuple[Iterator[File], int]:
    """Return the files to process, and their number.

    Raises:
        InputError: see `check_same_root`.
    """
    check_same_root(found, rows)
    file_rows = rows_of(found.files, rows)
    is_todo = pa.compute.invert(have_valid_row(found.files, file_rows))
    files, known = found.files.filter(is_todo), file_rows.filter(is_todo)
    store = found.base if is_url(found.base) else None

    def todo() -> Iterator[File]:
        for file, row in zip(rows_in(files), rows_in(known), strict=True):
            is_known = row["sha256"] is not None and row["size"] == file["size"]
            location = found.location(file["path"])
            yield File(**file, location=location, known=row if is_known else None, store=store)

    return todo(), len(files)


def _table(found: Found, rows: pa.Table) -> pa.Table:
    """Return the rows of the files that exist; all rows if some files could not be read."""
    if found.unreadable:
        items = list(found.unreadable.items())[:N_NAMES_SHOWN]
        names = ", ".join(f"{name} ({reason})" for name, reason in items)
        print(
            f"{len(found.unreadable):,} folders or files could not be read: {names}. "
            "All rows of earlier scans are kept this time."
        )
        return rows
    there = rows.filter(pa.compute.is_in(rows["path"], value_set=found.files["path"]))
    if n_gone := len(rows) - len(there):
        print(f"{n_gone:,} files of earlier scans are not there now: they are not in the table.")
    return there


def settings_of(classifier: GenreClassifier, seconds: float | None) -> dict[str, Any]:
    """Settings that all rows of a table share. A local model's revision is a hash of its files."""
    folder = Path(classifier.model_id)
    files = sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")])
    digests = b"".join(bytes.fromhex(sha256_of(file)) for file in files)
    return {
        "model": classifier.model_id,
        "revision": classifier.commit or f"sha256:{hashlib.sha256(digests).hexdigest()}",
        "window_seconds": classifier.window_seconds,
        "seconds": seconds or "all of each file",
        "labels": classifier.labels,
        "is_demonstration": classifier.is_demonstration,
    }


# --- the two stages -------------------------------------------------------------------------


def prepare(
    file: File, outcome: tuple[Row, np.ndarray | None] | Exception, window: int
) -> tuple[Row, Sequence[np.ndarray]]:
    """Begin a row, and cut the waveform into windows of `window` samples; none if it failed.

    Args:
        outcome: what `decode_file` returned or raised.
    """
    row = {"path": file.path, "size": file.size, "version": file.version, "is_temporary": False}
    if isinstance(outcome, OSError):
        error = f"it cannot be read: {outcome.strerror or outcome}"
        return row | {"error": error, "is_temporary": True}, ()
    if isinstance(outcome, Exception):
        is_temporary = getattr(outcome, "is_temporary", False)
        return row | {"error": str(outcome), "is_temporary": is_temporary}, ()
    columns, waveform = outcome
    return columns | row, () if waveform is None else windows.cut(waveform, window)


def classify(
    prepared: Iterable[tuple[Row, Sequence[np.ndarray]]],
    labels: Sequence[str],
    probabilities: Callable[[list[np.ndarray]], np.ndarray],
) -> Iterator[Row]:
    """Complete the rows in the order in which the files are finished; files share batches.

    The probabilities are those of `GenreClassifier`, up to rounding. All batches have the same
    size, so that a window's result does not depend on its neighbours: an interrupted scan gives the
    same figures as an uninterrupted one.

    Args:
        prepared: rows with their windows, or with their features; a row without any is complete.
        probabilities: computes those of BATCH_SIZE windows: shape (windows, labels).
    """
    batch: list[tuple[Row | None, np.ndarray]] = []  # the row is stored with its last window
    file_probabilities: list[np.ndarray] = []

    def classified() -> Iterator[Row]:
        inputs = [window for _, window in batch]
        inputs += inputs[-1:] * (BATCH_SIZE - len(inputs))
        for (row, _), window_probabilities in zip(batch, probabilities(inputs), strict=False):
            file_probabilities.append(window_probabilities)
            if row is not None:
                yield row | genre_columns(labels, np.mean(file_probabilities, axis=0))
                file_probabilities.clear()
        batch.clear()

    for row, cuts in prepared:
        if not len(cuts):
            yield row
        for i, window in enumerate(cuts):
            batch.append((row if i == len(cuts) - 1 else None, window))
            if len(batch) == BATCH_SIZE:
                yield from classified()
    if batch:
        yield from classified()


def genre_columns(labels: Sequence[str], p: np.ndarray) -> Row:
    """Return the columns for `p`, the mean over windows, rounded to six places.

    `uncertainty` is the entropy of the probabilities divided by that of a uniform guess: 0 is
    certain, 1 is no idea.
    """
    entropy = -(p * np.log(np.maximum(p, 1e-30))).sum()
    return {
        "genre": labels[int(p.argmax())],
        **{f"p_{label}": round(value, 6) for label, value in zip(labels, p.tolist(), strict=True)},
        "uncertainty": round(float(entropy / np.log(len(p))), 6),
    }
