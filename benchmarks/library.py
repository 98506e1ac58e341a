"""Compare a library scan with a plain loop of `pipeline(...)`, on the same files, in one run.

    python benchmarks/library.py                                     # minutes on two cores
    python benchmarks/library.py --n_files 2000 --also ARCHIVE
    python benchmarks/library.py --before ../older-checkout

Source of the table "Scan" in docs/speed.md. Makes a library of synthesised music of mixed formats
and lengths, then alternates between the variants, each in its own process and timed without imports
and loading. The loop decodes a file with the project's decoder, passes all of it to the pipeline,
and goes on to the next file. All use a net of DistilHuBERT's architecture with random weights; the
scan classifies windows of 5 s. Memory excludes decoder processes.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import (
    alternate,
    median,
    parser_of,
    peak_gigabytes,
    print_head,
    print_row,
    save_distilhubert,
    spread,
)

FORMATS = ("mp3", "flac", "ogg", "wav", "opus", "aiff")
SECONDS = 4.0, 15.0  # the shortest and the longest file
RATE = 24_000  # hertz; Opus supports this rate, but not 22,050


def write_library(folder: Path, n_files: int) -> None:
    """Write files: the n-th is the same in every library, and lengths are log-uniform."""
    import numpy as np
    import soundfile

    from data_prep.gtzan import GENRES
    from data_prep.synthetic import synthesise

    shortest, longest = SECONDS
    pieces = [synthesise(genre, 0, longest, RATE) for genre in GENRES]
    for n in range(n_files):
        rng, piece = np.random.default_rng(n), pieces[n % len(pieces)]
        length = int(RATE * shortest * (longest / shortest) ** rng.uniform())
        start = rng.integers(len(piece) - length + 1)
        kind = FORMATS[n // len(pieces) % len(FORMATS)]
        path = folder / f"{n // 100:03d}" / f"{n:05d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        container = {"format": "OGG", "subtype": "OPUS"} if kind == "opus" else {}
        soundfile.write(path, piece[start : start + length], RATE, **container)


def unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            if name.endswith(".wav") and "jazz.00054" not in name:
                with file.open(name) as source, (folder / Path(name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)


def ours(model: str, files: Path, output: Path) -> tuple[float, int, float]:
    """Return the time of its start, the number of files, and the seconds of audio in them."""
    from music_genre import GenreClassifier
    from music_genre.library.scan import scan

    classifier = GenreClassifier(model)
    start = time.perf_counter()
    table, _ = scan(classifier, [files], output)
    return start, len(table), sum(table["duration"].to_pylist())


def pipeline(model: str, files: Path, _: Path) -> tuple[float, int, float]:
    import transformers

    from music_genre import audio

    classify = transformers.pipeline("audio-classification", model=model)
    rate = classify.feature_extractor.sampling_rate
    start = time.perf_counter()
    paths, n_samples = sorted(path for path in files.rglob("*") if path.is_file()), 0
    for path in paths:
        waveform = audio.decode(path, rate).waveform
        classify(waveform, top_k=None)
        n_samples += len(waveform)
    return start, len(paths), n_samples / rate


VARIANTS = {"pipeline": pipeline, "ours": ours}
NAMES = {"pipeline": "a loop of `pipeline(...)`", "before": "the scan before", "ours": "the scan"}


def measure(variant: str, model: str, files: str, output: str) -> dict[str, float]:
    start, n_files, seconds = VARIANTS[variant](model, Path(files), Path(output))
    wall = time.perf_counter() - start
    return {"files": n_files / wall, "audio": seconds / wall, "peak_gb": peak_gigabytes()}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--n_files", type=int, default=30)
    parser.add_argument("--also", type=Path, help="a zip of WAV files to classify in addition")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--before", type=Path, help="another checkout to measure in addition")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    here = Path(__file__).resolve().parents[1]
    variants = {"pipeline": ("pipeline", here), "ours": ("ours", here)}
    if arguments.before:
        variants["before"] = ("ours", arguments.before.resolve())
    figures: dict[str, list[dict]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        files, model = work / "music", save_distilhubert(work / "model")
        write_library(files, arguments.n_files)
        if arguments.also:
            unpack(arguments.also, files / "also")
        n_files = sum(path.is_file() for path in files.rglob("*"))
        for i in range(arguments.runs):
            for name, (variant, root) in variants.items():
                script, table = root / "benchmarks" / "library.py", work / f"{i} {name}.parquet"
                command = [script, "--one", variant, model, files, table]
                figures[name] += alternate({name: command}, runs=1)[name]
    print(f"{n_files:,} files, {os.cpu_count()} cores, medians of {arguments.runs} runs (extremes)")
    print_head("", "files/s", "audio s/s", "peak memory, GB")
    for name, runs in figures.items():
        print_row(
            NAMES[name],
            spread([run["files"] for run in runs], ".2f"),
            f"{median(runs, 'audio'):.0f}",
            f"{median(runs, 'peak_gb'):.2f}",
        )


if __name__ == "__main__":
    main()
