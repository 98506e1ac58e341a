"""A library's scan beside a plain loop of `pipeline(...)`, on the same files in the same run.

    python benchmarks/library.py --n_files 200
    python benchmarks/library.py --n_files 2000 --longest 15 --also ARCHIVE
    python benchmarks/library.py --n_files 200 --runs 3 --before ../older-checkout
    python benchmarks/library.py --rows 1000000

Source of the table "Scan" in docs/speed.md. Makes a library of synthesised music of mixed formats
and lengths, then alternates between the variants, each in a process of its own, timed without
imports and loading. The loop decodes a file with the project's decoder, hands the whole of it to
the pipeline, and takes the next. By default all have a net of DistilHuBERT's architecture with
random weights; the scan classifies windows of 5 s. Memory and user time are without decoder
processes, which import this file: what is large is imported where it is used. `--rows` makes up a
table instead, and measures what a scan of so many known files does before it ends.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from music_genre import audio

CODECS = {".mp3": "libmp3lame", ".m4a": "aac", ".opus": "libopus"}
WRITTEN = (".mp3", ".flac", ".m4a", ".ogg", ".wav", ".opus")
SHORTEST = 4.0  # seconds
RATE = 22_050  # of the synthesised music


# --- the library ----------------------------------------------------------------------------


def write_library(folder: Path, n_files: int, longest: float) -> None:
    """The n-th file is the same in every library; lengths are log-uniform up to `longest`."""
    from data_prep.gtzan import GENRES
    from data_prep.synthetic import synthesise

    pieces = folder.with_name("pieces.npy")
    np.save(pieces, [synthesise(genre, seed=0, seconds=longest) for genre in GENRES])
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_file, folder, pieces), range(n_files)))


def _write_file(folder: Path, pieces: Path, n: int) -> None:
    rng = np.random.default_rng(n)
    piece = np.load(pieces, mmap_mode="r")[n % 10]
    longest = len(piece) / RATE
    length = int(RATE * SHORTEST * (longest / SHORTEST) ** rng.uniform())
    start = rng.integers(len(piece) - length + 1)
    suffix = WRITTEN[n // 10 % len(WRITTEN)]
    path = folder / f"{n // 100:03d}" / f"{n:05d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = np.array(piece[start : start + length])
    if suffix in CODECS:
        _write_with_pyav(path, part, CODECS[suffix])
    else:
        soundfile.write(path, part, RATE)


def _write_with_pyav(path: Path, waveform: np.ndarray, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000 if codec == "libopus" else 44_100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(waveform[None, :], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, "mono", stream.rate, stream.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None  # the encoder counts: the resampler repeats the time of its last one
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            if Path(name).suffix.lower() in audio.SUFFIXES and "jazz.00054" not in name:
                with file.open(name) as source, (folder / Path(name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)


# --- the variants ---------------------------------------------------------------------------


def ours(model: str, files: Path, output: Path) -> tuple[float, int, float]:
    """When it began, the number of files, and the seconds of audio in them."""
    from music_genre import GenreClassifier
    from music_genre.library.scan import scan

    classifier = GenreClassifier(model)
    start = time.perf_counter()
    table, _ = scan(classifier, [files], output)
    return start, len(table), sum(table["duration"].to_pylist())


def pipeline(model: str, files: Path, _: Path) -> tuple[float, int, float]:
    import transformers

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


def measure(variant: str, model: str, files: Path, output: Path) -> dict[str, float]:
    user_before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    start, n_files, seconds = VARIANTS[variant](model, files, output)
    wall = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "files": n_files / wall,
        "audio": seconds / wall,
        "peak_gb": usage.ru_maxrss / 2**20,
        "cores": (usage.ru_utime - user_before) / wall,
        "n_files": n_files,
        "n_seconds": seconds,
    }


def measure_rows(n_rows: int, folder: Path) -> dict[str, float]:
    """Seconds to find the rows of known files, and to write the table; peak memory."""
    import pyarrow as pa

    from music_genre.library import table
    from music_genre.library.files import FILES

    labels = [f"genre {i}" for i in range(10)]
    schema = table.schema_of(labels)
    names = [
        f"artist {i // 96:09d}/an album {i // 12:09d}/{i % 12:02d} a song.mp3"
        for i in range(n_rows)
    ]
    sizes, whole = [4_000_000] * n_rows, pa.array([1] * n_rows)
    columns = {"path": names, "size": sizes, "mtime_ns": whole, "scanned_ns": whole}
    columns |= {"is_temporary": [False] * n_rows, "genre": ["genre 1"] * n_rows}
    columns |= {"sha256": ["0123456789abcdef" * 4] * n_rows}
    for name in schema.names:
        columns.setdefault(name, pa.nulls(n_rows) if name == "error" else [0.123456] * n_rows)
    rows = pa.table(
        [pa.array(columns[name], schema.field(name).type) for name in schema.names], schema=schema
    )
    for start in range(0, n_rows, 10_000):
        with table.replacing(folder / f"{start}.parquet") as file:
            pa.parquet.write_table(rows.slice(start, 10_000), file)
    files = pa.table([names, sizes, whole], schema=FILES)
    del rows, columns
    start = time.perf_counter()
    of_files = table.rows_of(files, table.read_rows(folder, labels))
    n_known = pa.compute.sum(table.have_valid_row(files, of_files)).as_py()
    joined = time.perf_counter()
    table.write_table(folder / "table.out.parquet", of_files, {"model": "m", "revision": "r"})
    return {
        "known": n_known,
        "join": joined - start,
        "write": time.perf_counter() - joined,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
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
    parser.add_argument("--before", type=Path, help="another checkout, measured as well")
    parser.add_argument("--rows", type=int, help="measure a table of so many made-up rows instead")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        variant, model, files, output = arguments.one
        print(json.dumps(measure(variant, model, Path(files), Path(output))))
    elif arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure_rows(arguments.rows, Path(folder))))
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    from benchmarks.inputs import save_distilhubert
    from benchmarks.measuring import medians, print_head, print_row, run_apart, spread

    results: dict[str, list[dict]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        files = work / "music"
        model = arguments.model or save_distilhubert(work / "model")
        if arguments.n_files:
            write_library(files, arguments.n_files, arguments.longest)
        if arguments.also:
            unpack(arguments.also, files / "also")
        for i in range(arguments.runs):
            for variant in results:
                if variant == "before" and not arguments.before:
                    continue
                root = arguments.before if variant == "before" else Path(__file__).parents[1]
                script = root.resolve() / "benchmarks" / "library.py"
                name = "ours" if variant == "before" else variant
                output = work / f"{i} {variant}.parquet"
                results[variant].append(run_apart(script, "--one", name, model, files, output))
    size = results["ours"][0]
    print(
        f"{size['n_files']:,} files, {size['n_seconds'] / 3600:.2f} h of audio, "
        f"{os.cpu_count()} cores, medians of {arguments.runs} runs (extremes)"
    )
    print_head("", "files/s", "audio s/s", "peak memory, GB", "user time / wall time")
    for variant, runs in results.items():
        if runs:
            median = medians(runs)
            print_row(
                NAMES[variant],
                spread([run["files"] for run in runs], ".2f"),
                f"{median['audio']:.0f}",
                f"{median['peak_gb']:.2f}",
                f"{median['cores']:.2f}",
            )


if __name__ == "__main__":
    main()
