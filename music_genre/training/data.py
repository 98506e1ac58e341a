"""The prepared dataset of a run: a folder from data_prep, or what data_prep makes from a source."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from datasets import DatasetDict

from data_prep.prepared import (
    ARCHIVE,
    DATA_DIR,
    SYNTHETIC,
    Preparation,
    default_output_dir,
    is_prepared,
    load_prepared,
    read_preparation,
)
from data_prep.sources.recognise import is_gtzan
from music_genre.errors import InputError
from music_genre.training.arguments import CHECKOUT, DataArguments
from music_genre.training.processes import print_once


def find_archives() -> list[Path]:
    """The GTZAN archives in data/, newest first. Raises InputError if one cannot be read."""
    found = [
        path
        for path in DATA_DIR.glob("*")
        if ARCHIVE.search(path.name) and path.stem != SYNTHETIC and is_gtzan(path)
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def find_dataset(name: str | None) -> str:
    """The value of --dataset; by default the newest GTZAN archive in data/.

    Raises:
        InputError: there is no archive, or one cannot be read.
    """
    if name is not None:
        return name
    archives = find_archives()
    if not archives:
        raise InputError(
            f"There is no GTZAN archive in {DATA_DIR}/: put the zip there, or give its path as "
            f"--dataset. To try without data: accelerate launch train_hf.py configs/quickstart.json"
        )
    print_once(f"Training on {archives[0]}, the newest GTZAN archive in {DATA_DIR}/.")
    return str(archives[0])


def prepare(arguments: DataArguments, sampling_rate: int, is_resumed: bool = False) -> Path:
    """Return the prepared folder of a dataset: the dataset itself, or the output of data_prep.

    One process per machine prepares it, in a separate program whose decoder processes do not import
    torch. A resumed run uses the folder as it was prepared, even if the source has changed.

    Raises:
        SystemExit: data_prep failed; it has printed why.
    """
    name = find_dataset(arguments.dataset)
    if is_prepared(folder := Path(name).expanduser()):
        for warning in read_preparation(folder).get("warnings", []):
            print_once(f"warning: {warning}")
        return folder
    folder = default_output_dir([name], arguments.split, sampling_rate)
    with PartialState().local_main_process_first():
        is_first = PartialState().is_local_main_process
        if is_first and not (is_resumed and is_prepared(folder)):
            _run_data_prep(name, folder, arguments, sampling_rate)
    return folder


def _run_data_prep(name: str, folder: Path, arguments: DataArguments, sampling_rate: int) -> None:
    options = {
        "output_dir": folder,
        "split": arguments.split,
        "seed": arguments.split_seed,
        "genre_from": arguments.genre_from,
        "sampling_rate": sampling_rate,
    }
    flags = [text for k, v in options.items() if v is not None for text in (f"--{k}", str(v))]
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "data_prep", name, *flags],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode:
        sys.exit(done.returncode)


def load_data(
    folder: Path, arguments: DataArguments, sampling_rate: int
) -> tuple[DatasetDict, Preparation]:
    """Load a prepared folder and check it against the arguments of the run.

    Raises:
        InputError: it has another split, seed, source of genres or sampling rate, or a split is
            empty.
    """
    dataset, preparation = load_prepared(folder)
    for option, asked, *has in (
        ("split", arguments.split, preparation.split, preparation.asked.get("split")),
        ("split_seed", arguments.split_seed, preparation.seed),
        ("genre_from", arguments.genre_from, preparation.kind),
    ):
        if asked not in (None, *has):
            raise InputError(
                f"{folder} was prepared with {option} {has[0]}: leave out --{option} {asked}, or "
                "prepare the source again with it."
            )
    if preparation.sampling_rate != sampling_rate:
        raise InputError(
            f"{folder} was prepared at {preparation.sampling_rate:,} Hz, and the model takes "
            f"{sampling_rate:,} Hz: prepare it again with python -m data_prep SOURCE "
            f"--sampling_rate {sampling_rate} --output_dir {folder}-{sampling_rate}."
        )
    for name in ("train", "validation"):
        if not len(dataset[name]):
            raise InputError(f"The {name} split of {folder} is empty: choose another --split.")
    split = "its own" if preparation.split == "given" else preparation.split
    name = "synthesised music" if preparation.is_synthetic else preparation.dataset_name
    return dataset, replace(preparation, split=split, dataset_name=name)
