"""Several runs of training in each of two processes. test_train_processes.py starts this script.

    accelerate launch --multi_gpu --num_processes 2 tests/two_processes.py RUNS.json

RUNS.json holds the command lines: `plain`, `linear_probe`, and `resumed`, which continues from the
middle of `linear_probe`.
"""

import json
import os
import shutil
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import torch
from accelerate import PartialState

import train_hf
from music_genre.training import linear_probe
from music_genre.training.trainer import GenreTrainer

RANK = os.environ["RANK"]


def run(argv: list[str]) -> None:
    sys.argv = ["train_hf.py", *argv]
    with mock.patch("music_genre.training.results.plots"):  # they take half the time of a run
        train_hf.main()


def fit_in_the_first_process_only(folder: Path) -> None:
    """Each process saves its features and the model that it starts from; only the first can fit."""
    if RANK != "0":
        linear_probe.choose = linear_probe._regression = None
    fit, extract = linear_probe.fit_linear_probe, linear_probe.extract_features

    def extract_and_save(*arguments):
        features = extract(*arguments)
        torch.save([features.tracks, features.labels, *features.layers], folder / f"probe-{RANK}")
        return features

    def fit_and_save(trainer, crops):
        choice = fit(trainer, crops)
        torch.save(trainer.model.state_dict(), folder / f"rank-{RANK}")
        return choice

    linear_probe.extract_features = extract_and_save
    train_hf.fit_linear_probe = fit_and_save


def save_what_is_trained(folder: Path) -> AbstractContextManager:
    """Each process saves the model that it has trained."""
    train = GenreTrainer.train

    def train_and_save(trainer, **kwargs):
        train(trainer, **kwargs)
        torch.save(trainer.model.state_dict(), folder / f"trained-{RANK}")

    return mock.patch.object(GenreTrainer, "train", train_and_save)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    runs = json.loads(file.read_text())
    run(runs["plain"])
    fit_in_the_first_process_only(file.parent)
    with save_what_is_trained(file.parent):
        run(runs["linear_probe"])
    if RANK == "0":
        later = shutil.ignore_patterns("checkpoint-4", "report.json", ".lock")
        shutil.copytree(file.parent / "linear_probe", file.parent / "resumed", ignore=later)
    PartialState().wait_for_everyone()
    run(runs["resumed"])
