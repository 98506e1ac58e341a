"""A library's scan beside a plain loop of `pipeline(...)`, on the same files in the same run.

    python benchmarks/library.py --n_files 200
    python benchmarks/library.py --n_files 2000 --longest 15 --also ARCHIVE
    python benchmarks/library.py --n_files 200 --model runs/mine --runs 3

Source of the table "Scan" in docs/speed.md. Makes a library of synthesised music of mixed formats
and lengths, then alternates between the variants, each in a process of its own, timed without
imports and loading. The loop decodes a file with the project's decoder, hands the whole of it to
the pipeline, and takes the next. By default all have a net of DistilHuBERT's architecture with
random weights; the scan classifies windows of 5 s. One more variant is the scan with decoders in
its own process. Memory and user time are without decoder processes.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile
import torchaudio  # noqa: F401  the seconds are without its import
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.inputs import save_distilhubert
from benchmarks.measuring import (
    medians,
    peak_gigabytes,
    print_head,
    print_row,
    run_apart,
    spread,
)
from data_prep.gtzan import GENRES
from data_prep.synthetic import SAMPLING_RATE, synthesise
from music_genre import GenreClassifier
from music_genre.audio import SUFFIXES, decode
from music_genre.library.scan import scan

CODECS = {".mp3": "libmp3lame", ".m4a": "aac", ".opus": "libopus"}
WRITTEN = (".mp3", ".flac", ".m4a", ".ogg", ".wav", ".opus")
SHORTEST = 4.0  # seconds


# --- the library ----------------------------------------------------------------------------


def write_library(folder: Path, n_files: int, longest: float) -> None:
    """The n-th file is the same in every library; lengths are log-uniform up to `longest`."""
    pieces = folder.with_name("pieces.npy")
    np.save(pieces, [synthesise(genre, seed=0, seconds=longest) for genre in GENRES])
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_file, folder, pieces), range(n_files)))


def _write_file(folder: Path, pieces: Path, n: int) -> None:
    rng = np.random.default_rng(n)
    piece = np.load(pieces, mmap_mode="r")[n % 10]
    longest = len(piece) / SAMPLING_RATE
    length = int(SAMPLING_RATE * SHORTEST * (longest / SHORTEST) ** rng.uniform())
    start = rng.integers(len(piece) - length + 1)
    suffix = WRITTEN[n // 10 % len(WRITTEN)]
    path = folder / f"{n // 100:03d}" / f"{n:05d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = np.array(piece[start : start + length])
    if suffix in CODECS:
        _write_with_pyav(path, part, CODECS[suffix])
    else:
        soundfile.write(path, part, SAMPLING_RATE)


def _write_with_pyav(path: Path, waveform: np.ndarray, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000 if codec == "libopus" else 44_100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(waveform[None, :], format="fltp", layout="mono")
        frame.sample_rate = SAMPLING_RATE
        resampler = av.AudioResampler(stream.format, "mono", stream.rate, stream.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None  # the encoder counts: the resampler repeats the time of its last one
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            if Path(name).suffix.lower() in SUFFIXES and "jazz.00054" not in name:
                with file.open(name) as source, (folder / Path(name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)


# --- the variants ---------------------------------------------------------------------------


def ours(model: str, files: Path, output: Path) -> tuple[float, int, float]:
    """When it began, the number of files, and the seconds of audio in them."""
    classifier = GenreClassifier(model)
    start = time.perf_counter()
    rows = list(scan(classifier, [files], output))
    return start, len(rows), sum(row["duration"] for row in rows)


def pipeline(model: str, files: Path, _: Path) -> tuple[float, int, float]:
    classify = transformers.pipeline("audio-classification", model=model)
    sampling_rate = classify.feature_extractor.sampling_rate
    start = time.perf_counter()
    paths, n_samples = sorted(path for path in files.rglob("*") if path.is_file()), 0
    for path in paths:
        waveform = decode(path, sampling_rate).waveform
        classify(waveform, top_k=None)
        n_samples += len(waveform)
    return start, len(paths), n_samples / sampling_rate


VARIANTS = {
    "a loop of pipeline(...)": pipeline,
    "ours": ours,
}


def measure(variant: str, model: str, files: Path, output: Path) -> dict[str, float]:
    user_before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    start, n_files, seconds = VARIANTS[variant](model, files, output)
    wall = time.perf_counter() - start
    user = resource.getrusage(resource.RUSAGE_SELF).ru_utime - user_before
    return {
        "files": n_files / wall,
        "audio": seconds / wall,
        "peak_gb": peak_gigabytes(),
        "cores": user / wall,
        "n_files": n_files,
        "n_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n_files", type=int, default=200)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds (%(default)s)")
    parser.add_argument("--also", type=Path, help="a zip of audio files, to be classified as well")
    parser.add_argument("--model", help="a folder or an id; default: DistilHuBERT's architecture")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        variant, model, files, output = arguments.one
        print(json.dumps(measure(variant, model, Path(files), Path(output))))
        return
    results: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        files = work / "music"
        model = arguments.model or save_distilhubert(work / "model")
        write_library(files, arguments.n_files, arguments.longest)
        if arguments.also:
            unpack(arguments.also, files / "also")
        for i in range(arguments.runs):
            for j, variant in enumerate(VARIANTS):
                output = work / f"{i} {j}.parquet"
                one = run_apart(__file__, "--one", variant, model, files, output)
                results[variant].append(one)
    size = results["ours"][0]
    print(
        f"{size['n_files']:,} files, {size['n_seconds'] / 3600:.2f} h of audio, "
        f"{os.cpu_count()} cores, medians of {arguments.runs} runs (extremes)"
    )
    print_head("", "files/s", "audio s/s", "peak memory, GB", "user time / wall time")
    for variant, runs in results.items():
        median = medians(runs)
        print_row(
            variant,
            spread([run["files"] for run in runs], ".2f"),
            f"{median['audio']:.0f}",
            f"{median['peak_gb']:.2f}",
            f"{median['cores']:.2f}",
        )


if __name__ == "__main__":
    main()
