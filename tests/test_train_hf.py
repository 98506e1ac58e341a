"""Training end to end on synthesised music and a tiny net."""

import itertools
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

import train_hf
from data_prep.gtzan import GENRES
from data_prep.prepare import prepare
from data_prep.prepared import load_prepared
from music_genre.errors import InputError
from music_genre.report import headline_split
from music_genre.training import seeds
from music_genre.training.seen import hash_tracks, read_seen, write_seen
from tests.data_prep.archives import cut_archive
from tests.training_runs import (
    RUN_FILES,
    check_pipeline,
    check_predictions,
    flags,
    read_report,
    train,
)


@pytest.fixture(scope="module")
def run_dir(prepared, tiny_config, tmp_path_factory) -> Path:
    """A finished run of two epochs."""
    output_dir = tmp_path_factory.mktemp("runs") / "tiny"
    train(*flags(prepared, tiny_config, output_dir), with_pictures=True)
    return output_dir


def test_a_run_writes_all_promised_files_and_figures(run_dir, prepared):
    assert {path.name for path in run_dir.iterdir()} >= RUN_FILES
    assert not (run_dir / "training_args.bin").exists(), "a pickle"
    report = read_report(run_dir)
    assert report["split"] == "random"
    assert report["is_synthetic"]
    assert report["window_seconds"] == 1
    assert (report["model"], report["base_model"]) == ("tiny-hubert", None), "no path"
    for name in ("validation", "test"):
        low, high = report[name]["accuracy_ci95"]
        assert low <= report[name]["accuracy"] <= high
        assert report[name]["n"] == 10
        assert set(report[name]["per_genre"]) == set(GENRES)
        assert report[name]["ece"] < 0.5
        short = {"seconds": 2.0} | {k: report[name][k] for k in ("accuracy", "nll", "ece")}
        assert {k: report[name]["short"][k] for k in short} == short, "the clips last 2 s"
    assert report["temperature"] > 0
    assert report["train"]["epochs"] == 2
    assert report["train"]["steps"] == 2 * 10  # 40 clips x 2 crops, 8 a batch
    assert report["train"]["stages"].keys() == {"preparation", "fine-tuning", "scoring"}
    assert report["train"]["precision"] == "fp32"
    assert report["leakage"] is None, "synthesised music has no artists"
    assert json.loads((run_dir / "config.json").read_text())["trained_on_synthetic_music"]
    assert report["sampling_rate"] == 16_000
    check_predictions(run_dir, prepared)
    check_pipeline(run_dir)


def test_seeds_are_summarized_and_a_finished_one_is_not_run_again(
    prepared, tiny_config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("music_genre.training.results.plots", mock.Mock())  # as `train` does
    options = flags(prepared, tiny_config, tmp_path / "two", num_train_epochs=1)
    monkeypatch.setattr(sys, "argv", ["train_hf.py", *options, "--seeds", "0", "1"])
    train_hf.main()
    summary = json.loads((tmp_path / "two" / "seeds.json").read_text())
    reports = [read_report(tmp_path / "two" / f"seed-{seed}") for seed in range(2)]
    assert [report["seed"] for report in reports] == [0, 1]
    accuracies = [report["test"]["accuracy"] for report in reports]
    assert summary["test"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert summary["test"]["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert summary["validation"]["n"] == 10
    assert "| 2 seeds | tracks |" in capsys.readouterr().out

    reports[1]["train"]["steps"] = 0  # as if it had been killed after its linear probe
    (tmp_path / "two" / "seed-1" / "report.json").write_text(json.dumps(reports[1]))
    finished = (tmp_path / "two" / "seed-0" / "model.safetensors").stat().st_mtime_ns
    sys.argv += ["--resume_from_checkpoint", "last"]
    train_hf.main()
    assert (tmp_path / "two" / "seed-0" / "model.safetensors").stat().st_mtime_ns == finished
    assert read_report(tmp_path / "two" / "seed-1")["train"]["resumed_at_step"] == 10
    sys.argv += ["--num_train_epochs", "2", "--seeds", "2", "0"]
    with pytest.raises(SystemExit):
        train_hf.main()
    assert "seed-0 was started with num_train_epochs 1.0" in capsys.readouterr().err
    assert not (tmp_path / "two" / "seed-2").exists(), "they would differ in more than the seed"


def test_seeds_share_one_budget_and_resume_where_they_were_stopped(
    prepared, tiny_config, tmp_path, monkeypatch
):
    minutes, resumed = [], []

    def note(data, model, recipe):
        minutes.append(recipe.time_budget_minutes)
        resumed.append(recipe.resume_from_checkpoint)

    monkeypatch.setattr(train_hf, "run", note)
    monkeypatch.setattr(seeds, "summarize_seeds", lambda folders: None)
    monkeypatch.setattr(seeds, "describe_seeds", lambda summary: "")
    options = flags(prepared, tiny_config, tmp_path / "three", time_budget_minutes=30)
    monkeypatch.setattr(sys, "argv", ["train_hf.py", *options, "--seeds", "0", "1", "2"])
    train_hf.main()
    assert minutes == [pytest.approx(share, abs=0.1) for share in (10, 15, 30)]
    sys.argv += ["--push_to_hub", "True"]
    with pytest.raises(SystemExit):
        train_hf.main()
    assert len(minutes) == 3, "several models are not published"
    del sys.argv[-2:]
    # Only the first process writes the reports, so the others do not read them.
    monkeypatch.setattr(seeds, "summarize_seeds", None)
    waited = []
    other = SimpleNamespace(is_main_process=False, wait_for_everyone=lambda: waited.append(True))
    monkeypatch.setattr(seeds, "PartialState", lambda: other)
    train_hf.main()
    assert waited
    minutes.clear()
    for seed, steps, stopped in ((0, 10, False), (1, 0, False), (2, 10, True)):
        folder = tmp_path / "three" / f"seed-{seed}"
        folder.mkdir(parents=True)
        train = {"steps": steps, "stopped_by_budget": stopped}
        (folder / "report.json").write_text(json.dumps({"train": train}))
    (folder / "checkpoint-10").mkdir()
    sys.argv += ["--resume_from_checkpoint", "last"]
    train_hf.main()
    assert len(minutes) == 2, "the first is finished"
    assert resumed[-2:] == [None, "last"], "the second has no checkpoint"


@pytest.mark.parametrize(
    ("options", "is_quickstart"),
    [
        ([], True),
        (["--output_dir", "runs/again"], True),
        (["--resume_from_checkpoint=last"], True),
        (["configs/gtzan.json"], False),
        (["--help"], False),
        (["--learning_rate", "1e-4", "--dataset=music"], False),
        (["--model-name-or-path", "you/model"], False),
        (["--push_to_hub", "True", "--hub_model_id", "you/model"], False),
        (["--seeds", "0", "1", "--output_dir", "runs/again"], False),
    ],
)
def test_without_data_the_quickstart_can_be_resumed_and_run_again(options, is_quickstart):
    assert train_hf.names_a_run(options) is not is_quickstart


def test_training_in_bf16_with_accumulated_gradients_after_a_linear_probe(
    prepared, pretrained, tmp_path
):
    """Training is in bf16 even after a linear probe, whose features are computed first."""
    saved = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"}
    options = {"from_scratch": False, "max_steps": 2, "logging_steps": 1, "bf16": True}
    options |= {"gradient_accumulation_steps": 2, "activation_checkpointing": True}
    options |= {"weight_decay": 0.2, "mixup": 0.3, "label_smoothing_factor": 0.1}
    options |= {"speed_perturbation": True, "spec_augment": False}
    dtypes = set()

    def watch(module, inputs, output):
        if isinstance(module, torch.nn.Linear) and module.training:
            dtypes.add(output.dtype)

    hook = register_module_forward_hook(watch)
    try:
        train(*flags(prepared, pretrained, tmp_path / "run", **options | saved))
    finally:
        hook.remove()
    assert dtypes == {torch.bfloat16}
    state = json.loads((tmp_path / "run/checkpoint-2/trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    report = read_report(tmp_path / "run")
    assert report["train"]["linear_probe"]
    recipe = [0.01, 2 * 8, "cosine", 0.2, 0.3, 0.1, True, False]
    assert list(report["train"]["recipe"].values()) == recipe
    assert report["test"]["n"] == 10


def test_a_full_disk_gives_one_sentence(prepared, tiny_config, tmp_path, monkeypatch, capsys):
    def write(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.Trainer._save_optimizer_and_scheduler", write)
    options = flags(prepared, tiny_config, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["train_hf.py", *options])
    with pytest.raises(SystemExit) as stop:
        train_hf.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: The disk is full: ")


# --- errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name_or_path": "ntu-spml/distilhubert"}, "ntu-spml/distilhubert"),
        ({"push_to_hub": True, "hub_model_id": "me/it"}, "is not pushed"),
        # Before the preparation, which may take hours.
        ({"num_train_epochs": 0, "dataset": "no dataset"}, "no epochs makes the linear probe only"),
        ({"push_to_hub": True, "dataset": "no dataset"}, "needs --hub_model_id"),
        ({"learning_rate": 1e30, "max_grad_norm": 0}, "not a number by step"),
    ],
)
def test_a_run_that_cannot_work_fails_with_one_sentence(
    changes, message, prepared, tiny_config, tmp_path
):
    output_dir = tmp_path / "run"
    with pytest.raises(InputError, match=message) as error:
        train(*flags(prepared, tiny_config, output_dir, **changes))
    assert len(str(error.value).splitlines()) == 1
    assert not (output_dir / "report.json").exists()


def test_a_base_trained_on_test_tracks_gets_no_headline(
    prepared, pretrained, tmp_path, monkeypatch, capsys
):
    """Continued on another split, a model was published with "0 of 20 test tracks in train"."""
    shutil.copytree(prepared, tmp_path / "music")
    preparation = json.loads((prepared / "preparation.json").read_text()) | {"is_synthetic": False}
    (tmp_path / "music" / "preparation.json").write_text(json.dumps(preparation))
    dataset, known = load_prepared(tmp_path / "music")
    shutil.copytree(pretrained, tmp_path / "base")
    test_hashes = hash_tracks(known.dataset_name, dataset["test"])
    write_seen(set().union(*test_hashes.values()), tmp_path / "base")
    published = []
    monkeypatch.setattr(train_hf.setup, "check_access", lambda name, is_private: name)
    monkeypatch.setattr(train_hf, "publish", lambda *given: published.append(given))
    recipe = {"from_scratch": False, "num_train_epochs": 0, "hub_private_repo": False}
    recipe |= {"push_to_hub": True, "hub_model_id": "me/it"}
    train(*flags(tmp_path / "music", tmp_path / "base", tmp_path / "run", **recipe))
    assert published == [(tmp_path / "run", "me/it", False)]
    report = read_report(tmp_path / "run")
    assert report["test_tracks_seen_by_base"] == 10
    assert "was trained on 10 of these 10 test tracks" in report["contamination"]
    assert "Warning: the base model was trained on 10" in capsys.readouterr().out
    assert headline_split(report) is None
    seen = read_seen(tmp_path / "run")
    for name, is_seen in {"test": True, "train": True, "validation": False}.items():
        tracks = hash_tracks(known.dataset_name, dataset[name]).values()
        assert all((hashes <= seen) == is_seen for hashes in tracks), "a later run is warned, too"


@pytest.mark.skipif(bool(find_spec("wandb")), reason="wandb is installed")
def test_a_tracker_that_is_not_installed_is_named(prepared, tiny_config, tmp_path):
    with pytest.raises(InputError, match="pip install wandb"):
        train(*flags(prepared, tiny_config, tmp_path / "run", report_to="wandb"))


def test_a_damaged_archive_in_data_ends_the_run_with_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.zip").write_bytes(b"PK damaged")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_hf.py"])
    with pytest.raises(SystemExit) as stop:
        train_hf.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: data/b.zip is not a source of music")


# --- real music, pretrained weights ---------------------------------------------------------


def test_a_pretrained_encoder_learns_real_genres(real_archive, real_encoder, tmp_path):
    """50 tracks, linear probe: above chance, and the shortened Whisper loads in a pipeline."""

    def five_of_each(available: set[str]) -> list[str]:
        by_genre = itertools.groupby(sorted(available), lambda track: track.split(".")[0])
        return [track for _, tracks in by_genre for track in list(tracks)[:5]]

    cut_archive(real_archive, tmp_path / "gtzan.zip", 5, five_of_each)
    prepare([tmp_path / "gtzan.zip"], tmp_path / "gtzan", split="random")
    train(
        "--dataset", tmp_path / "gtzan", "--model_name_or_path", real_encoder,
        "--num_train_epochs", 0, "--disable_tqdm", True, "--output_dir", tmp_path / "run",
    )  # fmt: skip
    report = read_report(tmp_path / "run")
    n_correct = sum(round(report[name]["accuracy"] * 10) for name in ("validation", "test"))
    assert n_correct >= 6, "of 20 clips; chance gets 2, and 6 once in a hundred times"
    check_predictions(tmp_path / "run", tmp_path / "gtzan")
    check_pipeline(tmp_path / "run")
