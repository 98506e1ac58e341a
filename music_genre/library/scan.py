"""Scan a music library into one table: one row per file, resumed after any interruption.

Finds the files, leaves out those that have a row, shares the others among the processes of a
launch, and lets each classify its share; `table.py` keeps the rows.
"""

import datetime
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from music_genre import audio
from music_genre.classifier import GenreClassifier
from music_genre.errors import InputError
from music_genre.library.batches import FilePrediction, classify_files
from music_genre.library.table import (
    File,
    ResultTable,
    Row,
    RowWriter,
    check_settings,
    is_final,
    printable,
    read_rows,
    read_settings,
    write_table,
)

TYPICAL_BYTES_PER_SECOND = 24_000  # to share out files that do not say how long they are
LONGEST_WAIT = datetime.timedelta(days=30)  # for the slowest process


def scan(
    classifier: GenreClassifier, roots: Sequence[Path], output: Path, seconds: float | None = None
) -> ResultTable:
    """Classify all audio files under `roots` that have no row yet, and write the table.

    Every process of a launch calls this alike; the first one writes the table.

    Args:
        roots: folders and files.
        output: the table, in the format of its suffix, one of FORMATS.
        seconds: how much of each file is processed, from its middle; None for all.

    Returns:
        All rows, by path; none in other processes than the first.

    Raises:
        InputError: there are no files, the rows that are there come from another model, or another
            process has died.
    """
    with _other_processes_alive():
        # cpu=True: gloo, because only paths are exchanged, and processes may share a GPU.
        state = PartialState(cpu=True, timeout=LONGEST_WAIT)
    parts, files, shares = Path(f"{output}.parts"), [], None
    if state.is_main_process:
        files = find_files(roots)
        check_settings(parts, settings_of(classifier, seconds))
        known = read_rows(parts)
        todo = [file for file in files if not is_final(known.get(file))]
        print(f"{len(files):,} audio files, {len(files) - len(todo):,} of them known.")
        shares = split_by_duration(todo, state.num_processes, seconds)
    with _other_processes_alive():
        (shares,) = broadcast_object_list([shares])
    _classify(classifier, shares[state.process_index], parts, seconds, state)
    with _other_processes_alive():
        state.wait_for_everyone()
        state.destroy_process_group()
    if not state.is_main_process:
        return ResultTable([], {})
    rows = read_rows(parts)
    missing = [file.path for file in files if file not in rows]
    if missing:
        raise InputError(
            f"{len(missing):,} files have no row in {parts} (such as {printable(missing[0])}). All "
            "processes must share that folder; the same command then processes these files."
        )
    table = ResultTable(files, rows)
    write_table(output, read_settings(parts), table)
    return table


@contextmanager
def _other_processes_alive() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            "Another process of this launch has stopped; its own message says why. All rows are "
            "kept: run the same command again to continue."
        ) from error


def find_files(roots: Sequence[Path]) -> list[File]:
    """All audio files under folders, by their suffix, and files given by name; sorted by path.

    Links to folders are not followed. Hidden files are left out; so are, with a warning, folders
    that cannot be read.

    Raises:
        InputError: a root does not exist, or there are no files.
    """
    paths = set()
    for root in map(os.path.abspath, roots):
        if os.path.isfile(root):
            paths.add(root)
        elif not os.path.isdir(root):
            raise InputError(f"There is no file or folder {root}.")
        for folder, subfolders, names in os.walk(root, onerror=_warn):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            paths |= {
                os.path.join(folder, name)
                for name in names
                if os.path.splitext(name)[1].lower() in audio.SUFFIXES and not name.startswith(".")
            }
    files = []
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except OSError:  # a link to nothing, or just deleted; decoding reports it
            files.append(File(path, 0, 0))
        else:
            files.append(File(path, status.st_size, status.st_mtime_ns))
    if not files:
        raise InputError(f"There are no audio files in {', '.join(map(str, roots))}.")
    return files


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


def split_by_duration(files: Sequence[File], n: int, seconds: float | None) -> list[list[File]]:
    """Split into n lists that take about as long: the longest file first, to the shortest list.

    PartialState.split_between_processes would give each process as many files as the others.
    """
    if n == 1:
        return [list(files)]
    with ThreadPoolExecutor(16) as pool:  # opening files waits for the disk or the network
        durations = list(
            tqdm(
                pool.map(lambda file: _seconds(file, seconds), files),
                total=len(files),
                unit=" files",
                desc="durations",
            )
        )
    shares: list[list[File]] = [[] for _ in range(n)]
    loads = [0.0] * n
    for duration, file in sorted(zip(durations, files, strict=True), reverse=True):
        least = loads.index(min(loads))
        shares[least].append(file)
        loads[least] += duration
    return [sorted(files) for files in shares]


def _seconds(file: File, at_most: float | None) -> float:
    """How much of a file is to be processed, as far as its header tells."""
    try:
        with audio.open_audio(file.path) as opened:
            duration = opened.duration
    except Exception:  # whatever is wrong with it is reported when it is processed
        return 0.0
    if duration is None:
        duration = file.size / TYPICAL_BYTES_PER_SECOND
    return min(duration, at_most or duration)


def _classify(
    classifier: GenreClassifier,
    files: Sequence[File],
    parts: Path,
    seconds: float | None,
    state: PartialState,
) -> None:
    if not files:
        return
    by_path = {file.path: file for file in files}
    bar = tqdm(
        total=len(files),
        unit=" files",
        desc=f"process 0 of {state.num_processes}" if state.num_processes > 1 else None,
        disable=not state.is_main_process,
        smoothing=0.05,  # files differ much in length
    )
    processed, started = 0.0, time.monotonic()
    with bar, RowWriter(parts, state.process_index) as writer:
        for prediction in classify_files(classifier, by_path, seconds):
            writer.append(to_row(by_path[prediction.path], prediction, classifier.labels))
            processed += prediction.seconds_processed
            rate = processed / (time.monotonic() - started)
            bar.set_postfix_str(f"{rate:.0f} s of audio per second", refresh=False)
            bar.update()


def to_row(file: File, prediction: FilePrediction, labels: Sequence[str]) -> Row:
    """A row; probabilities are rounded to six places.

    `uncertainty` is the entropy of the probabilities over that of a uniform guess: 0 is certain,
    1 is no idea.
    """
    row: Row = vars(file) | {
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
