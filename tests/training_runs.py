"""Shared by the tests of training: options of a tiny run, ways to run it, checks of its result."""

import csv
import json
import os
import signal
import subprocess
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from datasets import Audio, load_from_disk
from safetensors.torch import load_file
from transformers import pipeline

import train_hf
from data_prep.gtzan import GENRES
from music_genre import GenreClassifier
from music_genre.training.arguments import parse_arguments
from music_genre.training.trainer import GenreTrainer
from tests import python

RUN_FILES = {  # every finished run writes these
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "report.json",
    "train_tracks.json",
    "predictions.csv",
    "predictions_validation.csv",
    "confusion_matrix.png",
    "reliability.png",
    "learning_curves.png",
}


def flags(prepared: Path, tiny_config: Path, output_dir: Path, **more: object) -> list[str]:
    options = {
        "dataset": prepared,
        "model_name_or_path": tiny_config,
        "from_scratch": True,
        "freeze_feature_encoder": False,
        "window_seconds": 1,
        "num_train_epochs": 2,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 8,
        "bf16": False,
        "disable_tqdm": True,
        "output_dir": output_dir,
    } | more
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def train(*argv: object, with_pictures: bool = False) -> None:
    """Run train_hf.py in this process; pictures would take half the time of a tiny run."""
    plots = "music_genre.training.results.plots"
    with nullcontext() if with_pictures else mock.patch(plots):
        train_hf.run(*parse_arguments([str(a) for a in argv]))


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def every_three_steps(prepared: Path, model: Path, output_dir: Path, **more: object) -> list[str]:
    """Options of a run that is validated and saved every three steps, with five steps an epoch."""
    return flags(
        prepared, model, output_dir, save_strategy="steps", save_steps=3, eval_steps=3,
        eval_strategy="steps", per_device_train_batch_size=16, **more,
    )  # fmt: skip


def killed_in_step_8(options: list[str]) -> subprocess.CompletedProcess:
    """Run a process that is killed inside the second epoch."""
    code = f"""
import signal, sys, train_hf
from music_genre.training.trainer import GenreTrainer
from tests.training_runs import step_interrupted_after
GenreTrainer.training_step = step_interrupted_after(7, signal.SIGKILL)
sys.argv = ["train_hf.py", *{options!r}]
train_hf.main()
"""
    return python.run(["-c", code])


def check_predictions(run_dir: Path, prepared: Path) -> None:
    """Check that the saved model, in one process, answers every test clip as in predictions.csv."""
    classifier = GenreClassifier(run_dir, precision="fp32")
    assert classifier.window_seconds == read_report(run_dir)["window_seconds"]
    clips = load_from_disk(prepared)["test"].cast_column("audio", Audio(decode=False))
    with (run_dir / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["track_id"] for row in rows] == list(clips["track_id"])
    for clip, row in zip(clips, rows, strict=True):
        answer = classifier(clip["audio"]["bytes"])
        assert row["genre"] == GENRES[clip["genre"]]
        assert row["prediction"] == answer.genre
        for genre in GENRES:
            assert float(row[genre]) == pytest.approx(answer.probabilities[genre], abs=1e-4)


def check_pipeline(run_dir: Path) -> None:
    """Check that a plain `pipeline` loads the saved model."""
    answers = pipeline("audio-classification", model=str(run_dir), top_k=None)(
        np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    )
    assert {answer["label"] for answer in answers} == set(GENRES)


def evaluation_favouring(step: int):
    """A stand-in for GenreTrainer.evaluate that makes this step's checkpoint the best one."""
    evaluate = GenreTrainer.evaluate

    def favour(self, *args, **kwargs):
        metrics = evaluate(self, *args, **kwargs)
        return metrics | {"eval_calibrated_loss": float(abs(self.state.global_step - step))}

    return favour


def step_interrupted_after(step: int, number: int = signal.SIGTERM):
    """A stand-in for GenreTrainer.training_step that sends a signal inside the next step."""
    training_step = GenreTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == step:
            os.kill(os.getpid(), number)
        return training_step(self, *args, **kwargs)

    return interrupted


def check_saved_is_best(run_dir: Path, best: int, last: int) -> None:
    """Check that the saved model is the best checkpoint, tensor by tensor, and not the last one.

    The last layer of the saved model is divided by the temperature.
    """
    folders = run_dir, run_dir / f"checkpoint-{best}", run_dir / f"checkpoint-{last}"
    saved, expected, other = (load_file(folder / "model.safetensors") for folder in folders)
    assert saved.keys() == expected.keys()
    temperature = read_report(run_dir)["temperature"]
    for name, tensor in expected.items():
        if not torch.equal(saved[name], tensor):
            torch.testing.assert_close(saved[name] * temperature, tensor, rtol=1e-5, atol=1e-7)
    assert sum(not torch.equal(expected[name], other[name]) for name in other) > len(other) / 2
