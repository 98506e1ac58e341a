"""Scan a music library into one table: one row per file, resumed after any interruption.

    scan(GenreClassifier("runs/mine"), [Path("music")], Path("genres.parquet"))

files.py finds the files, table.py knows which of them have a row, decoding.py decodes the others,
and `classify` makes rows of them.
"""

import hashlib
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from music_genre import windows
from music_genre.classifier import BATCH_SIZE, GenreClassifier
from music_genre.errors import InputError
from music_genre.library.decoding import DecodedFile, File, decode_files
from music_genre.library.files import Found, describe_kinds, describe_others, find_files
from music_genre.library.table import (
    PartWriter,
    Row,
    check_settings,
    have_valid_row,
    read_rows,
    rows_in,
    rows_in_unreadable,
    rows_of,
    schema_of,
    write_table,
)
from music_genre.report import is_demonstration

N_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Shard:
    """Share `index`, counted from 0, of `count`: by a hash of the path below the root."""

    index: int = 0
    count: int = 1

    def has(self, path: str) -> bool:
        return zlib.crc32(path.encode()) % self.count == self.index


Decoded = Iterable[tuple[File, DecodedFile | InputError]]


def scan(
    classifier: GenreClassifier,
    roots: Sequence[Path],
    output: Path,
    seconds: float | None = None,
    exclude: Sequence[str] = (),
    shard: Shard = Shard(),
) -> tuple[pa.Table, bool]:
    """Classify the audio files under `roots` that have no valid row yet, and write the table.

    Args:
        roots: folders and files; see `find_files`.
        output: the table, in the format of its suffix, one of FORMATS.
        seconds: how much of each file is processed, from its middle; None for all.
        exclude: see `find_files`.
        shard: the files to process now. The table has the rows of all.

    Returns:
        The table, and whether all folders could be read.

    Raises:
        InputError: there are no files, or the rows that are there come from another model.
    """
    parts, settings = Path(f"{output}.parts"), settings_of(classifier, seconds)
    found = find_files(roots, exclude)
    check_settings(parts, settings)
    labels = settings["labels"]
    todo, n_todo = files_without_row(found, read_rows(parts, labels), shard)
    n_files = len(found.files)
    which = f"{n_files - n_todo:,} of them known"
    if shard.count > 1:
        which = f"{n_todo:,} to do in shard {shard.index}/{shard.count}"
    kinds = describe_kinds(found.kinds)
    print(f"{n_files:,} audio files ({kinds}), {which}.{describe_others(found)}")
    n_same = 0
    with (
        closing(decode_files(todo, classifier.sampling_rate, seconds)) as decoded,
        PartWriter(parts, schema_of(labels)) as writer,
    ):
        rows = classify(classifier, decoded)
        for row in tqdm(rows, total=n_todo, unit=" files", smoothing=0.05):
            n_same += row.pop("is_same", False)
            writer.append(row)
    if n_same:
        print(f"{n_same:,} files had another time or other tags, but the same audio: no change.")
    table = _write(output, found, read_rows(parts, labels), settings)
    return table, not found.unreadable


def files_without_row(found: Found, rows: pa.Table, shard: Shard) -> tuple[Iterator[File], int]:
    """The files to process, and how many they are."""
    of_files = rows_of(found.files, rows)
    is_todo = pa.compute.invert(have_valid_row(found.files, of_files))
    if shard.count > 1:
        is_mine = pa.array([shard.has(path) for path in found.files["path"].to_pylist()])
        is_todo = pa.compute.and_(is_todo, is_mine)
    files, known = found.files.filter(is_todo), of_files.filter(is_todo)

    def todo() -> Iterator[File]:
        for file, row in zip(rows_in(files), rows_in(known), strict=True):
            is_known = row["packets_sha256"] is not None and not row["is_temporary"]
            location = found.location(file["path"])
            yield File(**file, location=location, known=row if is_known else None)

    return todo(), len(files)


def _write(output: Path, found: Found, rows: pa.Table, settings: dict[str, Any]) -> pa.Table:
    of_files = rows_of(found.files, rows)
    of_files = of_files.filter(pa.compute.is_valid(of_files["path"]))
    kept = rows_in_unreadable(found, rows)
    if found.unreadable:
        items = list(found.unreadable.items())[:N_NAMES_SHOWN]
        names = ", ".join(f"{name} ({reason})" for name, reason in items)
        print(
            f"{len(found.unreadable):,} folders or files could not be read: {names}. "
            f"Their rows from earlier scans are kept."
        )
    n_gone = len(rows) - len(of_files) - len(kept)
    if n_gone:
        print(f"{n_gone:,} files of earlier scans are not there now: they are not in the table.")
    return write_table(output, pa.concat_tables([of_files, kept]), settings)


def settings_of(classifier: GenreClassifier, seconds: float | None) -> dict[str, Any]:
    """What all rows of a table have in common. A local model's revision is a hash of its files."""
    folder, config = Path(classifier.model_id), classifier.model.config
    is_synthetic = bool(getattr(config, "trained_on_synthetic_music", False))
    return {
        "model": classifier.model_id,
        "revision": classifier.commit or _hash_of_model(folder),
        "window_seconds": classifier.window_seconds,
        "seconds": seconds,
        "labels": classifier.labels,
        "is_demonstration": is_synthetic or is_demonstration(folder),
    }


def _hash_of_model(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


# --- rows -----------------------------------------------------------------------------------


@dataclass(eq=False)
class _InWork:
    file: File
    decoded: DecodedFile
    n_left: int  # windows that the model has not seen
    probabilities: list[np.ndarray]


def classify(classifier: GenreClassifier, decoded: Decoded) -> Iterator[Row]:
    """Yield a row for every file, in the order they are finished; files share batches.

    The probabilities are those of `GenreClassifier`, up to rounding. All batches have the same
    size, so that a window's result does not depend on its neighbours: an interrupted scan gives the
    same figures as an uninterrupted one.
    """
    window = int(classifier.window_seconds * classifier.sampling_rate)
    batch: list[tuple[_InWork, np.ndarray]] = []
    for file, outcome in decoded:
        if isinstance(outcome, InputError):
            yield error_row(file, outcome)
            continue
        if outcome.waveform is None:
            yield file.known | _key(file) | {"is_same": True}
            continue
        cuts = windows.cut(outcome.waveform, window)
        in_work = _InWork(file, outcome, len(cuts), [])
        for cut in cuts:
            batch.append((in_work, cut))
            if len(batch) == BATCH_SIZE:
                yield from _classify_batch(classifier, batch)
                batch = []
    if batch:
        yield from _classify_batch(classifier, batch)


def _classify_batch(
    classifier: GenreClassifier, batch: list[tuple[_InWork, np.ndarray]]
) -> Iterator[Row]:
    cuts = [cut for _, cut in batch]
    cuts += [cuts[-1]] * (BATCH_SIZE - len(cuts))
    for (in_work, _), row in zip(batch, classifier.window_probabilities(cuts), strict=False):
        in_work.probabilities.append(row)
        in_work.n_left -= 1
        if not in_work.n_left:
            yield genre_row(classifier, in_work)


def _key(file: File) -> Row:
    return {
        "path": file.path,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "scanned_ns": time.time_ns(),
    }


def error_row(file: File, error: InputError) -> Row:
    is_temporary = getattr(error, "is_temporary", False)
    return _key(file) | {"error": str(error), "is_temporary": is_temporary}


def genre_row(classifier: GenreClassifier, in_work: _InWork) -> Row:
    """A row; probabilities, the mean over windows, are rounded to six places.

    `uncertainty` is the entropy of the probabilities over that of a uniform guess: 0 is certain,
    1 is no idea.
    """
    decoded, labels = in_work.decoded, classifier.labels
    p = np.mean(in_work.probabilities, axis=0)
    entropy = -(p * np.log(np.maximum(p, 1e-30))).sum()
    return _key(in_work.file) | {
        "packets_sha256": decoded.packets_sha256,
        "duration": decoded.duration and round(decoded.duration, 3),
        "genre": labels[int(p.argmax())],
        **{f"p_{label}": round(value, 6) for label, value in zip(labels, p.tolist(), strict=True)},
        "uncertainty": round(float(entropy / np.log(len(p))), 6) if len(p) > 1 else 0.0,
        "seconds_processed": round(len(decoded.waveform) / classifier.sampling_rate, 3),
        "lost_seconds": round(decoded.lost_seconds, 3),
        "is_temporary": False,
    }
