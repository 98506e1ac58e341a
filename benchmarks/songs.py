"""Preparing whole songs beside clips of 30 s: clips a second, and memory that does not grow.

    python benchmarks/songs.py --songs 40

Source of the figures of songs in docs/your-own-genres.md. Synthesised stereo at 44.1 kHz as FLAC,
in five genres: clips of 30 s, songs of 3 to 5 minutes, and twice as many songs of twice the length,
each prepared in a process of its own.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import peak_gigabytes, print_head, print_row, run_apart
from data_prep.options import SourceOptions
from data_prep.prepare import prepare
from data_prep.synthetic import GENRES, synthesise

N_GENRES, RATE = 5, 44_100
Lengths = tuple[float, float]  # seconds, of the shortest and the longest


def write_songs(folder: Path, n: int, lengths: Lengths) -> None:
    """A folder per genre. A song repeats half a minute at another level each time.

    In a process of its own: a new process begins with the peak memory of the one that starts it.
    """
    rng = np.random.default_rng(0)
    for i in tqdm(range(n), desc="Synthesising", unit=" songs"):
        genre = GENRES[i % N_GENRES]
        part = synthesise(genre, i, 30.0, RATE)
        n_samples = int(rng.uniform(*lengths) * RATE)
        levels = np.linspace(0.3, 1.0, -(-n_samples // len(part)))
        mono = np.concatenate([level * part for level in levels])[:n_samples]
        path = folder / genre / f"{i:04d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.stack([mono, 0.8 * mono], axis=1), RATE)
    print("{}")


def prepare_apart(source: Path) -> None:
    """In a process of its own: prints its figures as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        options = SourceOptions(min_tracks=1)
        done = prepare([source], Path(folder) / "out", "random", source_options=options)
        seconds = time.perf_counter() - started
    n = done["n_clips"]
    print(json.dumps({"clips": n, "rate": n / seconds, "gigabytes": peak_gigabytes()}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--songs", type=int, default=40)
    parser.add_argument("--lengths", type=float, nargs=2, default=(180.0, 300.0), help="seconds")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_songs(arguments.write, arguments.songs, arguments.lengths)
        return
    if arguments.prepare:
        prepare_apart(arguments.prepare)
        return
    n, (shortest, longest) = arguments.songs, arguments.lengths
    variants: dict[str, tuple[int, Lengths]] = {
        "clips of 30 s": (3 * n, (30.0, 30.0)),
        f"songs of {shortest:g} to {longest:g} s": (n, (shortest, longest)),
        "twice as many, twice as long": (2 * n, (2 * shortest, 2 * longest)),
    }
    print_head("source", "files", "clips", "clips a second", "peak memory")
    for name, (n_files, lengths) in variants.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "music"
            run_apart(__file__, "--write", source, "--songs", n_files, "--lengths", *lengths)
            figures = run_apart(__file__, "--prepare", source)
        print_row(
            name,
            f"{n_files}",
            f"{figures['clips']:.0f}",
            f"{figures['rate']:.0f}",
            f"{figures['gigabytes']:.2f} GB",
        )


if __name__ == "__main__":
    main()
