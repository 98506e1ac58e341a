"""Scan a whole music library into one table: a row a file, whatever stops it on the way.

Every process appends its rows to a file of its own in OUTPUT.parts as soon as it has them, so that
a kill costs the files being heard at that moment and no more. A row counts for as long as its file
has the size and the time of change it had then. When all files have one, the table is written anew
from the rows, in one step. `python -m music_genre --help` says how to run it.
"""

import csv
import datetime
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from data_prep import InputError, audio

if TYPE_CHECKING:
    from music_genre.classifier import GenreClassifier
    from music_genre.hearing import Answer

KINDS = (
    "aac ac3 aif aifc aiff amr au caf flac m4a m4b mka mp3 mp4 oga ogg opus snd w64 wav webm wma"
)
SUFFIXES = {f".{kind}" for kind in KINDS.split()}
FORMATS = (".parquet", ".csv", ".jsonl")  # of the table
SYNC_SECONDS = 5.0  # rows reach the disk at least so often; a kill alone loses none of them
ROW_GROUP = 10_000  # rows of the table in memory at a time
TYPICAL_BYTES_PER_SECOND = 24_000  # for splitting, of files that do not say how long they are


@dataclass(frozen=True, order=True)
class File:
    path: str  # absolute
    size: int  # bytes
    mtime_ns: int


Row = dict[str, Any]
Lines = dict[File, bytes]  # rows as JSON, which takes a fraction of the memory


class Table:
    """The rows of some files, in their order; each is parsed when its turn comes."""

    def __init__(self, files: Sequence[File], lines: Lines) -> None:
        self._files, self._lines = files, lines

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Row]:
        return (json.loads(self._lines[file]) for file in self._files)


def scan(
    classifier: "GenreClassifier", roots: Sequence[Path], output: Path, seconds: float | None = None
) -> Table:
    """Hear all audio files under `roots` that `output` does not know yet, and write it.

    Called by every process of a launch alike; each hears its share, and the first one writes.

    Args:
        roots: folders and files.
        output: the table, in the format of its suffix, one of FORMATS.
        seconds: how much of each file is heard, from its middle; None for all.

    Returns:
        All rows, by path; none in other processes than the first.

    Raises:
        InputError: no files, or the rows that are there come from another model.
    """
    launch = Launch()
    parts, files, shares = Path(f"{output}.parts"), [], None
    if launch.is_first:
        files = find_files(roots)
        check_settings(parts, describe(classifier, seconds))
        known = read_parts(parts)
        todo = [file for file in files if not _is_settled(known.get(file))]
        print(f"{len(files):,} audio files, {len(files) - len(todo):,} of them known.")
        shares = share(todo, launch.size, seconds)
    todo = launch.hand_out(shares)
    _hear_all(classifier, todo, parts, seconds, launch)
    launch.wait()
    if not launch.is_first:
        return Table([], {})
    lines = read_parts(parts)
    missing = [file.path for file in files if file not in lines]
    if missing:
        raise InputError(
            f"{len(missing):,} files have no row in {parts} (such as {printable(missing[0])}): is "
            "that folder one and the same for all processes? The same command hears them."
        )
    table = Table(files, lines)
    write_table(output, read_settings(parts), table)
    return table


def find_files(roots: Sequence[Path]) -> list[File]:
    """All audio files under folders, told by their suffix, and files named; sorted by path.

    Links to folders are not followed, and what is hidden is left out; so is, with a warning, a
    folder that cannot be read.

    Raises:
        InputError: a root is not there, or there are no files.
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
                if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
            }
    files = []
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except OSError:  # a link to nothing, or deleted meanwhile; decoding says so
            files.append(File(path, 0, 0))
        else:
            files.append(File(path, status.st_size, status.st_mtime_ns))
    if not files:
        raise InputError(f"There are no audio files in {', '.join(map(str, roots))}.")
    return files


def _warn(error: OSError) -> None:
    print(f"warning: left out {error.filename}: {error.strerror}", file=sys.stderr)


# --- rows on disk ---------------------------------------------------------------------------


def describe(classifier: "GenreClassifier", seconds: float | None) -> dict[str, Any]:
    """What all rows of a table have in common. A local model's revision is a hash of its files."""
    return {
        "model": classifier.model_id,
        "revision": classifier.commit or _hash_of_model(Path(classifier.model_id)),
        "window_seconds": classifier.window_seconds,
        "seconds": seconds,
        "labels": classifier.labels,
    }


def _hash_of_model(folder: Path) -> str:
    import hashlib

    total = hashlib.sha256()
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def check_settings(parts: Path, settings: dict[str, Any]) -> None:
    """Raises InputError where the rows that are there were made with others; else keeps these."""
    before = read_settings(parts) or settings
    changed = [key for key in settings if key != "model" and before.get(key) != settings[key]]
    if changed:
        was = ", ".join(f"{key} {before.get(key)}" for key in ("model", *changed))
        now = ", ".join(f"{key} {settings[key]}" for key in ("model", *changed))
        raise InputError(
            f"The rows in {parts} were made with {was}; this would be {now}. One table holds one "
            f"kind of answer: name another --output, or delete {parts} to hear all files anew."
        )
    with replacing(parts / "settings.json") as file:
        file.write(json.dumps(settings).encode())


def read_settings(parts: Path) -> dict[str, Any]:
    try:
        return json.loads((parts / "settings.json").read_bytes())
    except FileNotFoundError:
        return {}


def read_parts(parts: Path) -> Lines:
    """The rows of all parts. A line torn by a crash is no row."""
    lines: Lines = {}
    for path in sorted(parts.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    lines[File(row["path"], row["size"], row["mtime_ns"])] = line
                except (ValueError, KeyError, TypeError):
                    continue
    return lines


def _is_settled(line: bytes | None) -> bool:
    return line is not None and not json.loads(line)["is_passing"]


class Part:
    """A file that one process appends rows to; no two ever write to the same."""

    def __init__(self, parts: Path, rank: int = 0) -> None:
        parts.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.path = parts / f"{now}-{rank}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._file = self.path.open("xb", buffering=0)  # what is written survives a kill
        self._synced = time.monotonic()

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def append(self, row: Row) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()


def to_row(file: File, answer: "Answer", labels: Sequence[str]) -> Row:
    """Probabilities are rounded to six places.

    `uncertainty` is the entropy of the probabilities over that of a uniform guess: 0 is certain,
    1 is no idea.
    """
    row: Row = vars(file) | {
        "duration": answer.duration and round(answer.duration, 3),
        "seconds_heard": round(answer.seconds_heard, 3),
        "genre": None,
        "uncertainty": None,
        "probabilities": None,
        "error": answer.error,
        "is_passing": answer.is_passing,
    }
    if answer.probabilities is not None:
        p = answer.probabilities
        entropy = -(p * np.log(np.maximum(p, 1e-30))).sum()
        row["genre"] = labels[int(p.argmax())]
        row["uncertainty"] = round(float(entropy / np.log(len(p))), 6) if len(p) > 1 else 0.0
        row["probabilities"] = [round(value, 6) for value in p.tolist()]
    return row


# --- hearing, in one process or several -----------------------------------------------------


def _hear_all(
    classifier: "GenreClassifier",
    files: Sequence[File],
    parts: Path,
    seconds: float | None,
    launch: "Launch",
) -> None:
    if not files:
        return
    from tqdm import tqdm

    from music_genre.hearing import hear

    by_path = {file.path: file for file in files}
    bar = tqdm(
        total=len(files),
        unit=" files",
        desc=f"process 0 of {launch.size}" if launch.size > 1 else None,
        disable=not launch.is_first,
        smoothing=0.05,  # files differ much in length
    )
    heard, began = 0.0, time.monotonic()
    with bar, Part(parts, launch.rank) as part:
        for answer in hear(classifier, by_path, seconds):
            part.append(to_row(by_path[answer.path], answer, classifier.labels))
            heard += answer.seconds_heard
            rate = heard / (time.monotonic() - began)
            bar.set_postfix_str(f"{rate:.0f} s of audio a second", refresh=False)
            bar.update()


def share(files: Sequence[File], n: int, seconds: float | None) -> list[list[File]]:
    """Split into n lists that take about as long to hear: the longest first, each to the least."""
    if n == 1:
        return [list(files)]
    from tqdm import tqdm

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
    """How much is to be heard, as far as the header tells."""
    try:
        with audio.opened(file.path) as opened:
            duration = opened.duration
    except Exception:  # whatever is wrong with it is said when it is heard
        return 0.0
    if duration is None:
        duration = file.size / TYPICAL_BYTES_PER_SECOND
    return min(duration, at_most or duration)


class Launch:
    """The processes that `accelerate launch` started for one scan, on any number of machines."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        if self.size > 1:
            import torch.distributed

            # gloo: nothing but paths is passed around. The slowest may take days longer.
            with self._together():
                torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(days=30))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def hand_out(self, shares: list | None) -> Any:
        """Give each process its share; the first one has them all."""
        if self.size == 1:
            return shares[0]
        import torch.distributed

        received = [None]
        with self._together():
            torch.distributed.scatter_object_list(received, shares)
        return received[0]

    def wait(self) -> None:
        """For all others."""
        if self.size > 1:
            import torch.distributed

            with self._together():
                torch.distributed.barrier()
                torch.distributed.destroy_process_group()

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise InputError(
                f"Process {self.rank} has lost the others: one has died, and its own message "
                "says why. All rows are kept: the same command goes on."
            ) from error


# --- the table ------------------------------------------------------------------------------


def write_table(output: Path, settings: dict[str, Any], rows: Iterable[Row]) -> None:
    """Write the table in one step: whoever looks finds the old one or the new one, whole."""
    labels = settings["labels"]
    table = (_flat(row, labels, settings) for row in rows)
    with replacing(output) as file:
        if output.suffix == ".parquet":
            _write_parquet(file, table, labels)
        elif output.suffix == ".csv":
            _write_csv(file, table)
        else:
            for row in table:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _flat(row: Row, labels: Sequence[str], settings: dict[str, Any]) -> Row:
    probabilities = row["probabilities"] or [None] * len(labels)
    return {
        "path": printable(row["path"]),
        "duration": row["duration"],
        "genre": row["genre"],
        **{f"p_{label}": p for label, p in zip(labels, probabilities, strict=True)},
        "uncertainty": row["uncertainty"],
        "seconds_heard": row["seconds_heard"],
        "model": settings["model"],
        "revision": settings["revision"],
        "error": row["error"],
    }


def printable(path: str) -> str:
    """Names that are no UTF-8 can neither be printed nor stand in a table as they are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _write_parquet(file: BinaryIO, table: Iterator[Row], labels: Sequence[str]) -> None:
    from itertools import islice

    import pyarrow
    from pyarrow import parquet

    text, number = pyarrow.string(), pyarrow.float64()
    types = {"path": text, "duration": number, "genre": text}
    types |= {f"p_{label}": number for label in labels}
    types |= {"uncertainty": number, "seconds_heard": number}
    types |= {"model": text, "revision": text, "error": text}
    schema = pyarrow.schema(types.items())
    with parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(table, ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _write_csv(file: BinaryIO, table: Iterable[Row]) -> None:
    import io

    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = None
    for row in table:
        if writer is None:
            writer = csv.DictWriter(text, row)
            writer.writeheader()
        writer.writerow(row)
    text.detach()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def summarise(rows: Iterable[Row]) -> str:
    genres, n_errors = Counter(), 0
    for row in rows:
        n_errors += row["error"] is not None
        genres.update([row["genre"]] if row["genre"] else [])
    counts = ", ".join(f"{genre} {n:,}" for genre, n in genres.most_common())
    return f"{counts or 'no genres'}; {n_errors:,} with an error"
