"""Compare data preparation with the Hugging Face audio course's, on the same clips, in one run.

    python benchmarks/data_prep.py "data/GTZAN Genre Collection.zip" --runs 3
    python benchmarks/data_prep.py ARCHIVE --times 10                # every clip ten times over

Source of the table "Preparation" in docs/speed.md. Both turn the archive into a dataset that can be
trained on. The course (unit 4) unpacks it, then `datasets.map` decodes, resamples, runs the feature
extractor and caches arrays of floats, with one process, as in the course, and with two. Needs
torchcodec and FFmpeg (requirements-dev.txt).
"""

import argparse
import json
import os
import re
import resource
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
    spread,
)

VARIANTS = {"ours": 0, "course, 1 process": 1, "course, 2 processes": 2}  # processes of `map`


def ours(archive: Path, folder: Path) -> int:
    from data_prep.prepare import prepare

    return prepare([archive], folder / "dataset", split="random")["n_kept"]


def course(archive: Path, folder: Path, n_processes: int) -> int:
    """Unit 4 of the course, "Fine-tuning a model for music classification", up to the encoding."""
    import datasets
    from transformers import Wav2Vec2FeatureExtractor

    unpacked = folder.with_name("unpacked")
    with zipfile.ZipFile(archive) as file:
        file.extractall(unpacked)
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
    return len(encoded)


def measure(variant: str, archive: Path) -> dict[str, float]:
    """Time one variant in this process, without imports; memory is that of all its processes."""
    import datasets
    import transformers  # noqa: F401  the seconds are without imports

    import data_prep.prepare  # noqa: F401

    datasets.disable_progress_bars()
    n_processes = VARIANTS[variant]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "out")
        folder.mkdir()
        os.sync()  # write what the previous variant left, so that it is not timed here
        start = time.perf_counter()
        n_clips = course(archive, folder, n_processes) if n_processes else ours(archive, folder)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    peak = peak_gigabytes()
    if n_processes > 1:
        peak += n_processes * peak_gigabytes(resource.RUSAGE_CHILDREN)
    return {
        "clips_per_second": n_clips / seconds,
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
    parser = parser_of(__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--times", type=int, default=1, help="how often to use each clip")
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    archive = arguments.archive.resolve()
    if arguments.one:
        print(json.dumps(measure(arguments.one, archive)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.times > 1:
            archive = multiply(archive, arguments.times, Path(temporary, "multiplied.zip"))
        commands = {variant: [__file__, archive, "--one", variant] for variant in VARIANTS}
        figures = alternate(commands, arguments.runs)
    print(f"{os.cpu_count()} cores, medians of {arguments.runs} runs (extremes)")
    print_head("", "clips a second", "peak memory, GB", "MB a clip on disk")
    for variant, runs in figures.items():
        print_row(
            variant,
            spread([run["clips_per_second"] for run in runs], ".0f"),
            f"{median(runs, 'peak_gb'):.2f}",
            f"{median(runs, 'mb_per_clip'):.2f}",
        )


if __name__ == "__main__":
    main()
