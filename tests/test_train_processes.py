"""Training in several processes; `accelerate launch` starts them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import TrainingArguments

from data_prep.prepared import load_prepared
from music_genre.errors import InputError
from music_genre.loading import find_model
from music_genre.report import PREDICTIONS_FILES
from music_genre.training.checkpoints import find_checkpoint, open_folder
from music_genre.training.clips import CropDataset
from music_genre.training.linear_probe import extract_features
from music_genre.training.model import load_for_training
from tests import python
from tests.processes import wait_until
from tests.training_runs import (
    check_predictions,
    flags,
    read_report,
    train,
)

# One process and two score the same untrained net, so that only the scoring can differ. Validation
# and test have 10 clips, which two processes cannot share in batches of 4.
PLAIN = {"window_seconds": 0.75, "max_steps": 1, "learning_rate": 1e-30, "use_cpu": True}
PLAIN["per_device_eval_batch_size"] = 4
LAST = ("--resume_from_checkpoint", "last")


def from_probe(uneven: Path, pretrained: Path, output_dir: Path) -> list[str]:
    """Four steps from a linear probe; the second one is saved."""
    steps = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    recipe = {"from_scratch": False, "max_steps": 4, "warmup_steps": 0, "use_cpu": True}
    return flags(uneven, pretrained, output_dir, **steps, **recipe)


@pytest.fixture(scope="module")
def two(root, prepared, uneven, tiny_config, pretrained, tmp_path_factory) -> tuple[Path, str]:
    """A folder with runs of two processes, which are started once, and what they printed.

    --multi_gpu selects torchrun: with `--cpu --num_processes 2`, accelerate 1.15 starts only one.
    """
    folder = tmp_path_factory.mktemp("two")
    runs = {
        "plain": flags(prepared, tiny_config, folder / "plain", **PLAIN),
        "linear_probe": from_probe(uneven, pretrained, folder / "linear_probe"),
        "resumed": [*from_probe(uneven, pretrained, folder / "resumed"), *LAST],
    }
    (folder / "runs.json").write_text(json.dumps(runs))
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", 2]
    script = [root / "tests" / "two_processes.py", folder / "runs.json"]
    result = python.run([*launcher, *script], os.environ | {"PYTHONPATH": str(root)}, timeout=280)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


def test_two_processes_score_every_clip_once(two, prepared):
    folder, printed = two
    report = read_report(folder / "plain")
    assert report["train"]["processes"] == 2
    assert report["train"]["recipe"]["clips a step"] == 2 * 8
    assert report["test"]["n"] == report["validation"]["n"] == 10
    check_predictions(folder / "plain", prepared)
    assert printed.count(f"Written to {folder / 'plain'}.") == 1


def test_two_processes_report_what_one_reports(two, prepared, tiny_config, tmp_path):
    train(*flags(prepared, tiny_config, tmp_path / "one", **PLAIN))
    one, both = tmp_path / "one", two[0] / "plain"
    for name, file in PREDICTIONS_FILES.items():
        assert read_report(one)[name]["one_pass"] == read_report(both)[name]["one_pass"]
        assert (one / file).read_text() == (both / file).read_text()


def test_the_first_process_chooses_the_linear_probe_for_all(two):
    """The second process cannot choose or fit; both save the model that they start from."""
    folder, printed = two
    models = [torch.load(folder / f"rank-{rank}") for rank in (0, 1)]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert printed.count("Linear probe on layer") == 1


def test_two_processes_probe_every_track_once(two, uneven, pretrained):
    """Eleven tracks are split into six and five: no track is repeated to make both shares equal."""
    folder, _ = two
    clips = load_prepared(uneven)[0]["train"]
    base = find_model(str(pretrained))
    labels = clips.features["genre"].names
    model, feature_extractor = load_for_training(base, labels, 1.0, from_scratch=False)
    crops = CropDataset(clips, 16_000, 0, speed_perturbation=True)
    trainer = SimpleNamespace(
        args=TrainingArguments(use_cpu=True, disable_tqdm=True),
        accelerator=Accelerator(cpu=True),
        model=model.eval(),
        processing_class=feature_extractor,
    )
    features = extract_features(trainer, crops)
    assert len(set(features.tracks)) % 2
    for rank in (0, 1):
        found = torch.load(folder / f"probe-{rank}", weights_only=False)
        expected = [features.tracks, features.labels, *features.layers]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_fine_tuning_from_a_linear_probe_averages_the_gradients_of_all(two):
    """The probe is scored before training, after which each process once trained its own model."""
    folder, _ = two
    start, *trained = (torch.load(folder / name) for name in ("rank-0", "trained-0", "trained-1"))
    assert not torch.equal(start["classifier.weight"], trained[0]["classifier.weight"])
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in start)


def test_two_processes_resume(two):
    """They end like processes that were not stopped."""
    found, whole = two[0] / "resumed", two[0] / "linear_probe"
    assert read_report(found)["train"]["resumed_at_step"] == 2
    for name, file in PREDICTIONS_FILES.items():
        assert read_report(found)[name] == read_report(whole)[name]
        assert (found / file).read_text() == (whole / file).read_text()


# --- stopped --------------------------------------------------------------------------------


def is_free(folder: Path) -> bool:
    try:
        with open_folder(SimpleNamespace(output_dir=folder, should_save=True)):
            return True
    except InputError:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to wait for")
def test_training_saves_and_stops_when_its_launcher_is_stopped(
    root, prepared, tiny_config, tmp_path
):
    """SIGTERM from a cluster or `timeout` reaches only `accelerate launch`."""
    output_dir = tmp_path / "run"
    options = flags(
        prepared, tiny_config, output_dir, max_steps=100_000, save_strategy="steps",
        eval_strategy="steps", save_steps=5, eval_steps=5, use_cpu=True,
    )  # fmt: skip
    log = tmp_path / "log.txt"
    command = [sys.executable, "-m", "accelerate.commands.launch", str(root / "train_hf.py")]
    with log.open("w") as file:
        launcher = subprocess.Popen(
            [*command, *options], cwd=root, stdout=file, stderr=file, start_new_session=True
        )
    try:
        checkpoints = "checkpoint-*/trainer_state.json"
        wait_until(lambda: any(output_dir.glob(checkpoints)), seconds=240)
        with pytest.raises(InputError, match="Another run is still working"):
            train(*options, *LAST)
        launcher.terminate()
        launcher.wait()
        wait_until(lambda: is_free(output_dir), seconds=240)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
    said = re.search(r"Stopped after step (\d+); it is saved", log.read_text())
    assert said, log.read_text()[-2000:]
    assert find_checkpoint(output_dir, "last") == str(output_dir / f"checkpoint-{said[1]}")
