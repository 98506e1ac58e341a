"""A library's scan beside a plain loop of `pipeline(...)`, on the same files in the same run.

    python benchmarks/library.py --n_files 200
    python benchmarks/library.py --n_files 2000 --also "data/GTZAN Genre Collection.zip"
    python benchmarks/library.py --n_files 200 --model runs/mine --runs 3

Makes a library of synthesised music in mixed formats and lengths, then alternates between the
ways, each in a process of its own, timed without imports and loading. The loop decodes a file with
the project's decoder, hands the whole of it to the pipeline, and takes the next. By default both
have a net of DistilHuBERT's architecture with random weights; the scan classifies windows of 5 s.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WAYS = ("scan", "pipeline")
CODECS = {".mp3": "libmp3lame", ".m4a": "aac", ".opus": "libopus"}
SUFFIXES = (".mp3", ".flac", ".m4a", ".ogg", ".wav", ".opus")
SHORTEST = 4.0  # seconds


# --- the library ----------------------------------------------------------------------------


def write_library(folder: Path, n_files: int, longest: float) -> None:
    """The n-th file is the same in every library; lengths are log-uniform up to `longest`."""
    from data_prep.gtzan import GENRES
    from data_prep.synthetic import SAMPLING_RATE, synthesise

    pieces = folder.with_name("pieces.npy")
    np.save(pieces, [synthesise(genre, seed=0, seconds=longest) for genre in GENRES])
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_file, folder, pieces, SAMPLING_RATE), range(n_files)))


def _write_file(folder: Path, pieces: Path, rate: int, n: int) -> None:
    import soundfile

    rng = np.random.default_rng(n)
    music = np.load(pieces, mmap_mode="r")[n % 10]
    longest = len(music) / rate
    length = int(rate * SHORTEST * (longest / SHORTEST) ** rng.uniform())
    start = rng.integers(len(music) - length + 1)
    suffix = SUFFIXES[n // 10 % len(SUFFIXES)]
    path = folder / f"{n // 100:03d}" / f"{n:05d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = np.array(music[start : start + length])
    if suffix in CODECS:
        _write_with_pyav(path, part, rate, CODECS[suffix])
    else:
        soundfile.write(path, part, rate)


def _write_with_pyav(path: Path, waveform: np.ndarray, rate: int, codec: str) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000 if codec == "libopus" else 44_100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(waveform[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", stream.rate, stream.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None  # the encoder counts; the resampler's last one may stand still
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


# --- the ways -------------------------------------------------------------------------------


def scan(model: str, music: Path, output: Path) -> tuple[float, int, float]:
    from music_genre import GenreClassifier
    from music_genre.library.scan import scan

    classifier = GenreClassifier(model)
    start = time.perf_counter()
    rows = list(scan(classifier, [music], output))
    return start, len(rows), sum(row["seconds_processed"] for row in rows)


def pipeline(model: str, music: Path, _: Path) -> tuple[float, int, float]:
    from transformers import pipeline

    from music_genre import audio

    classify = pipeline("audio-classification", model=model)
    start = time.perf_counter()
    paths, n_samples = sorted(path for path in music.rglob("*") if path.is_file()), 0
    for path in paths:
        waveform = audio.resample(*audio.decode(path, max_seconds=24 * 3600))
        classify(waveform, top_k=None)
        n_samples += len(waveform)
    return start, len(paths), n_samples / audio.SAMPLING_RATE


def run_here(way: str, model: str, music: Path, output: Path) -> dict:
    import resource

    import torchaudio  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF)
    start, n_files, seconds = {"scan": scan, "pipeline": pipeline}[way](model, music, output)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "files": n_files / wall,
        "audio": seconds / wall,
        "peak": after.ru_maxrss / 2**10,
        "cores": (after.ru_utime - before.ru_utime) / wall,
        "n_files": n_files,
        "n_seconds": seconds,
    }


def run_apart(way: str, model: str, music: Path, output: Path) -> dict:
    command = [sys.executable, __file__, "--one", way, model, str(music), str(output)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if result.returncode:
        sys.exit(f"{way} failed.")
    return json.loads(result.stdout.splitlines()[-1])


def print_table(results: dict[str, list[dict]]) -> None:
    first = next(iter(results.values()))
    print(
        f"{first[0]['n_files']:,} files, {first[0]['n_seconds'] / 3600:.1f} h of audio, "
        f"{os.cpu_count()} cores, medians of {len(first)} runs (extremes of files/s)"
    )
    print("| way | files/s | audio s/s | peak memory, MB | user time / wall time |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for way, runs in results.items():
        rates = sorted(run["files"] for run in runs)
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"| {way} | {median['files']:.2f} ({rates[0]:.2f} to {rates[-1]:.2f}) "
            f"| {median['audio']:.0f} | {median['peak']:.0f} | {median['cores']:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n_files", type=int, default=200)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds (%(default)s)")
    parser.add_argument("--also", type=Path, help="a zip of audio files, to be processed as well")
    parser.add_argument("--model", help="default: DistilHuBERT's architecture, random weights")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, model, music, output = arguments.one
        print(json.dumps(run_here(way, model, Path(music), Path(output))))
        return
    from benchmarks.models import save_distilhubert

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model, music = arguments.model, work / "music"
        if model is None:
            model = save_distilhubert(work / "model")
        write_library(music, arguments.n_files, arguments.longest)
        if arguments.also:
            unpack(arguments.also, music / "also")
        results: dict[str, list[dict]] = {way: [] for way in arguments.ways}
        for i in range(arguments.runs):
            for way in arguments.ways:
                results[way].append(run_apart(way, model, music, work / f"{i}.parquet"))
    print_table(results)


def unpack(archive: Path, folder: Path) -> None:
    from music_genre.library.scan import SUFFIXES as KNOWN

    folder.mkdir()
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            if Path(name).suffix.lower() in KNOWN and "jazz.00054" not in name:
                with file.open(name) as source, (folder / Path(name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)


if __name__ == "__main__":
    main()
