"""Data preparation beside the Hugging Face audio course's way, on the same clips in the same run.

    python benchmarks/data_prep.py                                  # synthesised clips of 30 s
    python benchmarks/data_prep.py "data/GTZAN Genre Collection.zip" --runs 3
    python benchmarks/data_prep.py --times 10                       # every clip ten times over

Source of the table "Preparation" in docs/speed.md. Both go from the archive to a dataset that can
be trained on. The course (unit 4) unpacks it, then `datasets.map` decodes, resamples, runs the
feature extractor and caches arrays of floats; with one process, as the course has it, and with two.
Its rate without the unpacking stands beside. Each variant runs in a process of its own,
alternating. Needs torchcodec and FFmpeg (requirements-dev.txt).
"""

import argparse
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import (
    medians,
    peak_gigabytes,
    print_head,
    print_row,
    run_apart,
    spread,
)

VARIANTS = {"ours": 0, "course, 1 process": 1, "course, 2 processes": 2}  # processes of `map`


# Decoder processes import this file, so what takes long to import is imported in the functions.


def ours(archive: Path, folder: Path) -> int:
    from data_prep.prepare import prepare

    return prepare([archive], folder / "dataset", split="random")["n_kept"]


def course(archive: Path, folder: Path, n_processes: int) -> tuple[int, float]:
    """Unit 4 of the course, "Fine-tuning a model for music classification", up to the encoding.

    Returns the number of clips and the seconds that unpacking took.
    """
    import datasets
    from transformers import Wav2Vec2FeatureExtractor

    start = time.perf_counter()
    unpacked = folder.with_name(f"{folder.name}-unpacked")
    with zipfile.ZipFile(archive) as file:
        file.extractall(unpacked)
    unpacking = time.perf_counter() - start
    feature_extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    rate = feature_extractor.sampling_rate
    files = sorted(map(str, unpacked.rglob("*.wav")))
    clips = datasets.Dataset.from_dict({"audio": files, "file": files})
    clips = clips.cast_column("audio", datasets.Audio(sampling_rate=rate))

    def preprocess(examples: dict) -> dict:
        return feature_extractor(
            [clip["array"] for clip in examples["audio"]],
            sampling_rate=rate,
            max_length=int(rate * 30.0),
            truncation=True,
            return_attention_mask=True,
        )

    encoded = clips.map(
        preprocess,
        remove_columns=["audio", "file"],
        batched=True,
        batch_size=100,
        num_proc=n_processes,
        cache_file_name=str(folder / "encoded.arrow"),
    )
    return len(encoded), unpacking


def measure(variant: str, archive: Path, folder: Path) -> dict[str, float]:
    """Time one variant in this process, without imports; memory is that of all its processes."""
    import datasets
    import transformers  # noqa: F401  the seconds are without imports

    import data_prep.prepare  # noqa: F401

    datasets.disable_progress_bars()
    n_processes = VARIANTS[variant]
    start = time.perf_counter()
    if n_processes:
        n_clips, unpacking = course(archive, folder, n_processes)
    else:
        n_clips, unpacking = ours(archive, folder), 0.0
    seconds = time.perf_counter() - start
    peak = peak_gigabytes()
    if n_processes > 1:
        peak += n_processes * peak_gigabytes(resource.RUSAGE_CHILDREN)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "clips_per_second": n_clips / seconds,
        "without_unpacking": n_clips / (seconds - unpacking),
        "peak_gb": peak,
        "mb_per_clip": size / n_clips / 1e6,
    }


def multiply(archive: Path, times: int, target: Path) -> Path:
    """Write the same clips again under other track ids."""
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
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        variant, folder = arguments.one
        print(json.dumps(measure(variant, arguments.archive, Path(folder))))
        return
    results: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        archive = arguments.archive
        if archive is None:
            from data_prep.synthetic import write_archive

            archive = work / "synthetic.zip"
            write_archive(archive, clips_per_genre=10, seconds=30.0)
        if arguments.times > 1:
            archive = multiply(archive, arguments.times, work / "multiplied.zip")
        for _ in range(arguments.runs):
            for variant in VARIANTS:
                out = work / "out" / variant.replace(" ", "")
                out.mkdir(parents=True)
                os.sync()  # what the variant before left to write is no time of this one
                results[variant].append(
                    run_apart(__file__, archive.resolve(), "--one", variant, out)
                )
                shutil.rmtree(out.parent)
    print(f"{os.cpu_count()} cores, medians of {arguments.runs} runs (extremes)")
    print_head("", "clips/s", "files already unpacked", "peak memory, GB", "MB a clip on disk")
    for variant, runs in results.items():
        median = medians(runs)
        print_row(
            variant,
            spread([run["clips_per_second"] for run in runs], ".0f"),
            f"{median['without_unpacking']:.0f}" if VARIANTS[variant] else "",
            f"{median['peak_gb']:.2f}",
            f"{median['mb_per_clip']:.2f}",
        )


if __name__ == "__main__":
    main()
