"""Data preparation beside the Hugging Face audio course's way, on the same clips in the same run.

    python benchmarks/data_prep.py                                  # synthesised clips of 30 s
    python benchmarks/data_prep.py "data/GTZAN Genre Collection.zip" --runs 3
    python benchmarks/data_prep.py --times 10                       # every clip ten times over

Both go from the archive to a dataset that can be trained on. The course (unit 4) unpacks it, then
`datasets.map` decodes, resamples, runs the feature extractor and caches arrays of floats; with one
process, as the course has it, and with two. Its rate without the unpacking stands beside. Each runs
in a process of its own, alternating. Needs torchcodec and FFmpeg (requirements-dev.txt).
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WAYS = ("ours", "course, 1 process", "course, 2 processes")


def ours(archive: Path, folder: Path) -> int:
    from data_prep.prepare import prepare

    return prepare([archive], folder / "dataset", split="random")["n_kept"]


def course(archive: Path, folder: Path, num_proc: int) -> tuple[int, float]:
    """Unit 4 of the course, "Fine-tuning a model for music classification", up to the encoding.

    Returns the number of clips and the seconds that unpacking took.
    """
    from datasets import Audio, Dataset
    from transformers import Wav2Vec2FeatureExtractor

    start = time.perf_counter()
    unpacked = folder.with_name(f"{folder.name}-unpacked")
    with zipfile.ZipFile(archive) as file:
        file.extractall(unpacked)
    unpacking = time.perf_counter() - start
    feature_extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    files = sorted(map(str, unpacked.rglob("*.wav")))
    clips = Dataset.from_dict({"audio": files, "file": files})
    clips = clips.cast_column("audio", Audio(sampling_rate=feature_extractor.sampling_rate))

    def preprocess(examples: dict) -> dict:
        return feature_extractor(
            [clip["array"] for clip in examples["audio"]],
            sampling_rate=feature_extractor.sampling_rate,
            max_length=int(feature_extractor.sampling_rate * 30.0),
            truncation=True,
            return_attention_mask=True,
        )

    encoded = clips.map(
        preprocess,
        remove_columns=["audio", "file"],
        batched=True,
        batch_size=100,
        num_proc=num_proc,
        cache_file_name=str(folder / "encoded.arrow"),
    )
    return len(encoded), unpacking


def run_here(way: str, archive: Path, folder: Path) -> dict:
    """Time one way in this process, without imports; memory is that of all its processes."""
    import resource

    import datasets
    import torchaudio  # noqa: F401
    import transformers  # noqa: F401

    datasets.disable_progress_bars()
    start = time.perf_counter()
    if way == "ours":
        n_clips, unpacking = ours(archive, folder), 0.0
    else:
        n_clips, unpacking = course(archive, folder, int(way[8]))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way.endswith("processes"):
        peak += 2 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {
        "clips_per_second": n_clips / seconds,
        "without_unpacking": n_clips / (seconds - unpacking),
        "peak_gb": peak / 2**20,
        "mb_per_clip": size / n_clips / 1e6,
    }


def multiply(archive: Path, times: int, target: Path) -> Path:
    """The same clips again under other track ids."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as file:
        for name in (n for n in source.namelist() if n.endswith(".wav")):
            data = source.read(name)
            for i in range(times):
                copy = re.sub(r"\.(\d{5})\.", lambda m, i=i: f".{int(m[1]) + 1000 * i:05d}.", name)
                file.writestr(copy, data, zipfile.ZIP_DEFLATED)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", nargs="?", type=Path, help="default: synthesised clips")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--times", type=int, default=1, help="take every clip so many times")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "OUT"), help="internal")
    arguments = parser.parse_args()
    if arguments.one:
        way, folder = arguments.one
        print(json.dumps(run_here(way, arguments.archive, Path(folder))))
        return

    from data_prep.synthetic import write_archive

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        archive = arguments.archive
        if archive is None:
            archive = work / "synthetic.zip"
            write_archive(archive, clips_per_genre=10, seconds=30.0)
        if arguments.times > 1:
            archive = multiply(archive, arguments.times, work / "multiplied.zip")
        results: dict[str, list[dict]] = {way: [] for way in arguments.ways}
        for i in range(arguments.runs):
            for way in arguments.ways:
                out = work / f"out-{i}-{way.replace(' ', '')}"
                out.mkdir()
                results[way].append(run_apart(way, archive, out))
    print_table(results)


def run_apart(way: str, archive: Path, out: Path) -> dict:
    import shutil

    command = [sys.executable, __file__, str(archive), "--one", way, str(out)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    for leftover in out.parent.glob(f"{out.name}*"):
        shutil.rmtree(leftover)
    if result.returncode:
        sys.exit(f"{way} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def print_table(results: dict[str, list[dict]]) -> None:
    print(f"{os.cpu_count()} cores, medians of {len(next(iter(results.values())))} runs (extremes)")
    print("| way | clips/s | files already unpacked | peak memory, GB | MB a clip on disk |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for way, runs in results.items():
        rates = sorted(run["clips_per_second"] for run in runs)
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"| {way} | {median['clips_per_second']:.0f} ({rates[0]:.0f} to {rates[-1]:.0f}) "
            f"| {'' if way == 'ours' else round(median['without_unpacking'])} "
            f"| {median['peak_gb']:.2f} | {median['mb_per_clip']:.2f} |"
        )


if __name__ == "__main__":
    main()
