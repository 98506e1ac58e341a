"""Scan a whole music library into one table: a row a file, whatever stops it on the way.

Finds the files, leaves out those that have a row, shares the others among the processes of a
launch and lets each hear its own; `results.py` keeps what they heard.
"""

import datetime
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from music_genre import audio
from music_genre.errors import InputError
from music_genre.library.results import (
    File,
    Part,
    Table,
    check_settings,
    is_settled,
    printable,
    read_parts,
    read_settings,
    settings_of,
    to_row,
    write_table,
)

if TYPE_CHECKING:
    from music_genre.classifier import GenreClassifier

KINDS = (
    "aac ac3 aif aifc aiff amr au caf flac m4a m4b mka mp3 mp4 oga ogg opus snd w64 wav webm wma"
)
SUFFIXES = {f".{kind}" for kind in KINDS.split()}
TYPICAL_BYTES_PER_SECOND = 24_000  # for splitting, of files that do not say how long they are


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
        check_settings(parts, settings_of(classifier, seconds))
        known = read_parts(parts)
        todo = [file for file in files if not is_settled(known.get(file))]
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

    from music_genre.library.batches import hear

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
        with audio.open_audio(file.path) as opened:
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
