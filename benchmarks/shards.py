"""What a scan of very many files needs before it begins: memory and time, of all files or a share.

    python benchmarks/shards.py --n_files 1000000

Source of "Millions of files" in docs/library.md. The paths are made up, so the time is without that
of the file system; every file has a row already, which is the most that a scan can find. Each case
is measured in a process of its own.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import peak_gigabytes, print_head, print_row, run_apart
from data_prep.gtzan import GENRES
from music_genre.library import scan, shards, table

PER_FOLDER = 12


def walk(root: str, **_: object) -> Iterator[tuple[str, list[str], list[str]]]:
    """In the place of os.walk: an album a folder, of paths of 90 characters."""
    for album in range(int(os.environ["N_FILES"]) // PER_FOLDER + 1):
        folder = f"{root}/artist number {album // 8:09d}/an album of theirs {album:09d}"
        yield folder, [], [f"{i:02d} the name of a song.mp3" for i in range(PER_FOLDER)]


def file(path: str) -> table.File:
    return table.File(path, 4_000_000, 1_700_000_000_000_000_000)


def write_rows(parts: Path, shard: shards.Shard) -> None:
    """A row for every file of the share."""
    row = {"duration": 240.0, "seconds_processed": 240.0, "genre": "jazz", "uncertainty": 0.512345}
    row |= {"probabilities": [0.123456] * len(GENRES), "error": None, "is_temporary": False}
    with table.LineWriter(parts, str(shard)) as writer:
        for found in scan.find_files([Path("/")], shard):
            stored = {"path": found.path, "size": found.size, "mtime_ns": found.mtime_ns}
            writer.append(stored | row)


def measure(parts: Path, shard: shards.Shard) -> dict[str, float]:
    before, start = peak_gigabytes(), time.perf_counter()
    files = scan.find_files([Path("/")], shard)
    listed = time.perf_counter()
    rows = table.read_rows(parts, files, str(shard))
    n_left = sum(not table.is_final(row) for row in rows.values())
    read = time.perf_counter()
    kilobytes = (peak_gigabytes() - before) * 2**20 / len(files)
    return {
        "files": len(files), "list": listed - start, "read": read - listed,
        "gb": peak_gigabytes() - before, "kb": kilobytes, "left": n_left,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n_files", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.one:
        os.environ["N_FILES"] = str(arguments.n_files)
        print_head("share", "files", "listing, s", "reading their rows, s", "GB", "kB a file")
        for share in ("0/1", "3/16"):
            with tempfile.TemporaryDirectory() as parts:
                run_apart(__file__, "--one", "write", share, parts)
                one = run_apart(__file__, "--one", "measure", share, parts)
            cells = (f"{one['list']:.1f}", f"{one['read']:.1f}", f"{one['gb']:.2f}")
            print_row(share, f"{one['files']:,.0f}", *cells, f"{one['kb']:.2f}")
        return
    what, share, parts = arguments.one
    with mock.patch.object(os, "walk", walk), mock.patch.object(scan, "_file", file):
        if what == "write":
            write_rows(Path(parts), shards.shard_of(share))
            print("{}")
        else:
            print(json.dumps(measure(Path(parts), shards.shard_of(share))))


if __name__ == "__main__":
    main()
