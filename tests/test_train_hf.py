"""Training end to end on synthesised music and a tiny net; processes are real where it matters."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Audio, load_from_disk
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

import train_hf
from data_prep.gtzan import GENRES
from data_prep.prepare import prepare
from music_genre import GenreClassifier
from music_genre.errors import InputError
from music_genre.training.arguments import parse_arguments

LEFT_BY_A_RUN = {
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "report.json",
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
        "num_train_epochs": 4,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 8,
        "precision": "fp32",
        "disable_tqdm": True,
        "output_dir": output_dir,
    } | more
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def train(*argv: object) -> None:
    train_hf.run(*parse_arguments([str(a) for a in argv]))


def launch(root: Path, *argv: object, launcher: list[str] | None = None, cwd: Path | None = None):
    command = [sys.executable, "-m", "accelerate.commands.launch", *(launcher or [])]
    return subprocess.run(
        [*command, str(root / "train_hf.py"), *map(str, argv)],
        cwd=cwd or root,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": str(root)},
    )


@pytest.fixture(scope="module")
def run_dir(prepared, tiny_config, tmp_path_factory) -> Path:
    """A finished run of four epochs."""
    output_dir = tmp_path_factory.mktemp("runs") / "tiny"
    train(*flags(prepared, tiny_config, output_dir))
    return output_dir


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


# --- what a run leaves ----------------------------------------------------------------------


def test_a_run_leaves_what_is_promised(run_dir):
    assert {path.name for path in run_dir.iterdir()} >= LEFT_BY_A_RUN
    report = read_report(run_dir)
    assert report["split"] == "random"
    assert report["is_synthetic"]
    assert report["window_seconds"] == 1
    for name in ("validation", "test"):
        low, high = report[name]["accuracy_ci95"]
        assert low <= report[name]["accuracy"] <= high
        assert report[name]["n"] == 10
        assert set(report[name]["per_genre"]) == set(GENRES)
        assert report[name]["ece"] < 0.5
        assert report[name]["short"] == {"seconds": 2.0, "accuracy": report[name]["accuracy"]}
    assert report["temperature"] > 0
    assert report["train"]["epochs"] == 4
    assert report["train"]["steps"] == 4 * 10  # 40 clips x 2 crops, 8 a batch
    assert report["train"]["precision"] == "fp32"
    assert report["train"]["audio_seconds_per_second"] > 0
    assert report["leakage"]["test_tracks"] == 10


def test_predictions_are_those_of_the_saved_model(run_dir, prepared):
    check_predictions(run_dir, prepared)


def check_predictions(run_dir: Path, prepared: Path) -> None:
    """One process with the saved model answers every test clip as predictions.csv says."""
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


def test_a_plain_pipeline_loads_it(run_dir):
    from transformers import pipeline

    answers = pipeline("audio-classification", model=str(run_dir), top_k=None)(
        np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    )
    assert {answer["label"] for answer in answers} == set(GENRES)


def test_the_card_is_valid_and_says_what_was_measured(run_dir):
    card = ModelCard.load(run_dir / "README.md")
    report = read_report(run_dir)
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    values = {(r.dataset_split, r.metric_type): r.metric_value for r in results}
    assert values["test", "accuracy"] == round(report["test"]["accuracy"], 4)
    assert values["validation", "f1"] == round(report["validation"]["macro_f1"], 4)
    assert all("random" in r.dataset_name for r in results)
    assert "course-comparable" in card.text
    assert "no music classifier" in card.text
    assert f"| test | 10 | {report['test']['accuracy']:.3f} |" in card.text
    assert "More information needed" not in card.text


def test_seeds_are_summed_up_and_a_finished_one_is_not_run_again(
    prepared, tiny_config, tmp_path, monkeypatch, capsys
):
    options = flags(prepared, tiny_config, tmp_path / "three", num_train_epochs=1)
    monkeypatch.setattr(sys, "argv", ["train_hf.py", *options, "--seeds", "0", "1", "2"])
    train_hf.main()
    summary = json.loads((tmp_path / "three" / "seeds.json").read_text())
    reports = [read_report(tmp_path / "three" / f"seed-{seed}") for seed in range(3)]
    assert [report["seed"] for report in reports] == [0, 1, 2]
    accuracies = [report["test"]["accuracy"] for report in reports]
    assert summary["test"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert summary["test"]["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert summary["validation"]["n"] == 10
    assert "| 3 seeds | clips |" in capsys.readouterr().out

    (tmp_path / "three" / "seed-2" / "report.json").unlink()  # as if it had been killed
    finished = (tmp_path / "three" / "seed-0" / "model.safetensors").stat().st_mtime_ns
    sys.argv += ["--resume_from_checkpoint", "last"]
    train_hf.main()
    assert (tmp_path / "three" / "seed-0" / "model.safetensors").stat().st_mtime_ns == finished
    assert read_report(tmp_path / "three" / "seed-2")["train"]["resumed_at_step"] == 10


# --- going on -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(prepared, tiny_config, tmp_path_factory) -> Path:
    """What the interrupted runs below have to end as: validation and a checkpoint each 5 steps."""
    output_dir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(*every_five_steps(prepared, tiny_config, output_dir))
    return output_dir


def every_five_steps(prepared: Path, model: Path, output_dir: Path, **more: object) -> list[str]:
    return flags(
        prepared, model, output_dir, save_strategy="steps", save_steps=5, eval_steps=5,
        eval_strategy="steps", **more,
    )  # fmt: skip


def interrupted_by(name: str, options: list[str]) -> subprocess.CompletedProcess:
    """A process that is sent the signal in its 28th step, inside the third epoch."""
    code = f"""
import sys, os, signal
sys.argv = ["train_hf.py", *{options!r}]
import train_hf
from music_genre.training import trainer
step = trainer.ClipTrainer.training_step
def interrupted(self, *args, **kwargs):
    if self.state.global_step == 27:
        os.kill(os.getpid(), signal.{name})
    return step(self, *args, **kwargs)
trainer.ClipTrainer.training_step = interrupted
train_hf.main()
"""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=Path(train_hf.__file__).parent, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code", "steps_kept"), [("SIGKILL", -9, 25), ("SIGTERM", 143, 28)]
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    name, code, steps_kept, uninterrupted, prepared, tiny_config, tmp_path
):
    """Data order, crops, optimiser and random numbers are taken up in the middle of an epoch."""
    output_dir = tmp_path / "resumed"
    options = every_five_steps(prepared, tiny_config, output_dir)
    stopped = interrupted_by(name, options)
    assert stopped.returncode == code, stopped.stderr[-3000:]
    assert not (output_dir / "report.json").exists()
    if name == "SIGTERM":
        assert "Stopped by SIGTERM after step 28; it is saved." in stopped.stdout
        assert "Traceback" not in stopped.stderr
    train(*options, "--resume_from_checkpoint", "last")
    resumed, whole = read_report(output_dir), read_report(uninterrupted)
    assert resumed["train"]["resumed_at_step"] == steps_kept
    for split in ("validation", "test"):
        assert resumed[split] == whole[split]
    assert (output_dir / "predictions.csv").read_text() == (
        uninterrupted / "predictions.csv"
    ).read_text()


@pytest.fixture(scope="module")
def pretrained(tiny_config, tmp_path_factory) -> Path:
    """A tiny encoder of three layers with weights, as one from the Hub."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

    folder = tmp_path_factory.mktemp("models") / "pretrained"
    config = AutoConfig.from_pretrained(tiny_config, num_hidden_layers=3)
    AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
    AutoFeatureExtractor.from_pretrained(tiny_config).save_pretrained(folder)
    return folder


def test_a_resumed_run_keeps_the_layers_of_its_linear_probe(prepared, pretrained, tmp_path, capsys):
    def options(name: str) -> list[str]:
        augmented = {
            "from_scratch": False,
            "mixup": 0.4,
            "speed_perturbation": True,
            "spec_augment": True,
        }
        recipe = augmented | {"freeze_feature_encoder": True, "num_train_epochs": 3}
        return every_five_steps(prepared, pretrained, tmp_path / name, **recipe)

    assert interrupted_by("SIGTERM", options("stopped")).returncode == 143
    train(*options("stopped"), "--resume_from_checkpoint", "last")
    assert "Linear probe on layer" not in capsys.readouterr().out
    train(*options("whole"))
    assert "Linear probe on layer" in capsys.readouterr().out
    linear_probe = read_report(tmp_path / "whole")["train"]["linear_probe"]
    assert linear_probe["is_kept"] == (read_report(tmp_path / "whole")["train"]["best_step"] == 0)
    stopped, whole = read_report(tmp_path / "stopped"), read_report(tmp_path / "whole")
    assert stopped["train"]["resumed_at_step"] == 28
    assert stopped["validation"] == whole["validation"]
    check_predictions(tmp_path / "whole", prepared)
    test_a_plain_pipeline_loads_it(tmp_path / "whole")


@pytest.mark.parametrize(
    "path",
    [
        {"precision": "bf16", "freeze_feature_encoder": True},
        {"precision": "bf16", "gradient_accumulation_steps": 2},
        {"freeze_feature_encoder": True, "gradient_checkpointing": True},
    ],
)
def test_other_ways_through_the_recipe(path, prepared, pretrained, tmp_path):
    options = {"from_scratch": False, "num_train_epochs": 2} | path
    train(*flags(prepared, pretrained, tmp_path / "run", **options))
    losses = [
        entry["loss"]
        for checkpoint in (tmp_path / "run").glob("checkpoint-*")
        for entry in json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
        if "loss" in entry
    ]
    assert losses
    assert np.isfinite(losses).all()
    assert read_report(tmp_path / "run")["test"]["n"] == 10


def test_workers_hear_the_same_crops_in_every_epoch(prepared, pretrained, tmp_path):
    for n in (0, 2):
        augmented = {
            "mixup": 0.4,
            "speed_perturbation": True,
            "num_train_epochs": 3,
            "from_scratch": False,
        }
        workers = {"dataloader_num_workers": n}
        train(*flags(prepared, pretrained, tmp_path / str(n), **augmented, **workers))
    alone, two = read_report(tmp_path / "0"), read_report(tmp_path / "2")
    assert alone["validation"] == two["validation"]
    assert alone["test"] == two["test"]


def test_a_budget_ends_the_run_with_its_best_model_scored(prepared, tiny_config, tmp_path):
    options = flags(prepared, tiny_config, tmp_path / "run", num_train_epochs=1000)
    train(*options, "--time_budget_minutes", 0.25)
    report = read_report(tmp_path / "run")
    assert report["train"]["stopped_by_budget"]
    assert report["train"]["steps"] < 10_000
    assert report["train"]["best_step"] > 0
    assert report["train"]["run_seconds"] < 25, "of 15, with room for a busy machine"
    assert report["test"]["n"] == 10


def test_a_full_disk_is_one_sentence(prepared, tiny_config, tmp_path, monkeypatch, capsys):
    def write(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.Trainer._save_optimizer_and_scheduler", write)
    options = flags(prepared, tiny_config, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["train_hf.py", *options])
    with pytest.raises(SystemExit) as stop:
        train_hf.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: The disk is full.")


def test_another_runs_folder_is_not_overwritten(tmp_path, prepared, tiny_config):
    (tmp_path / "report.json").write_text('{"is_synthetic": false}')
    with pytest.raises(InputError, match="holds another run"):
        train(*flags(prepared, tiny_config, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_demonstration_may_be_repeated(tmp_path, prepared, tiny_config):
    """The first run's checkpoints, of later steps, must not get in the way of the second's."""
    output_dir = tmp_path / "again"
    train(*flags(prepared, tiny_config, output_dir, num_train_epochs=2))
    train(*flags(prepared, tiny_config, output_dir, num_train_epochs=1))
    assert read_report(output_dir)["train"]["steps"] == 10
    assert [path.name for path in output_dir.glob("checkpoint-*")] == ["checkpoint-10"]


def test_there_must_be_a_checkpoint_to_resume_from(tmp_path, prepared, tiny_config):
    options = flags(prepared, tiny_config, tmp_path / "none")
    with pytest.raises(InputError, match="no checkpoint"):
        train(*options, "--resume_from_checkpoint", "last")
    with pytest.raises(InputError, match="is no checkpoint to go on from"):
        train(*options, "--resume_from_checkpoint", tmp_path)


# --- processes ------------------------------------------------------------------------------


def test_two_processes_score_every_clip_once(root, prepared, tiny_config, tmp_path):
    """Validation and test have 10 clips, which two processes cannot share in batches of 4.

    --multi_gpu means torchrun: accelerate 1.15 takes `--cpu --num_processes 2` and starts one.
    """
    output_dir = tmp_path / "two"
    options = flags(
        prepared,
        tiny_config,
        output_dir,
        num_train_epochs=1,
        per_device_eval_batch_size=4,
        use_cpu=True,
    )
    result = launch(root, *options, launcher=["--multi_gpu", "--num_processes", "2"])
    assert result.returncode == 0, result.stderr[-3000:]
    report = read_report(output_dir)
    assert report["train"]["processes"] == 2
    assert report["train"]["steps"] == 5  # 80 crops, 2 x 8 a step
    assert report["test"]["n"] == report["validation"]["n"] == 10
    check_predictions(output_dir, prepared)
    assert result.stdout.count("Written to") == 1


# --- threads and errors ---------------------------------------------------------------------


def test_one_thread_stays_one_where_a_person_asked_for_it(monkeypatch):
    """`accelerate launch` asks for one as well, of which nobody knows."""
    *_, recipe = parse_arguments(["configs/gtzan.json", "--use_cpu"])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        train_hf.use_all_cores(recipe)
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        train_hf.use_all_cores(recipe)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name_or_path": "ntu-spml/distilhubert"}, "--model_name_or_path DIR"),
        ({"model_name_or_path": "no/such/model/here"}, "no folder no/such/model/here"),
        ({"dataset": "nobody/nothing"}, "neither a file or folder here nor a dataset"),
        ({"push_to_hub": True, "hub_model_id": "me/it"}, "is not pushed"),
        ({"learning_rate": 1e30, "max_grad_norm": 0}, "The loss at step"),
    ],
)
def test_what_cannot_work_is_one_sentence(changes, message, prepared, tiny_config, tmp_path):
    output_dir = tmp_path / "run"
    with pytest.raises(InputError, match=message) as error:
        train(*flags(prepared, tiny_config, output_dir, **changes))
    assert len(str(error.value).splitlines()) == 1
    assert not (output_dir / "report.json").exists()


def test_a_tracker_that_is_not_installed_is_named(prepared, tiny_config, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "wandb" else found(name, *a)
    )
    with pytest.raises(InputError, match="pip install wandb"):
        train(*flags(prepared, tiny_config, tmp_path / "run", report_to="wandb"))
    assert not (tmp_path / "run").exists()


def test_the_process_ends_with_code_2_and_no_traceback(root, tmp_path):
    result = subprocess.run(
        [sys.executable, str(root / "train_hf.py"), "--dataset", "nobody/nothing",
         "--model_name_or_path", "nobody/nothing", "--output_dir", str(tmp_path)],
        cwd=root, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: The Hub cannot be reached")


# --- real music, pretrained weights ---------------------------------------------------------


def test_a_pretrained_encoder_learns_real_genres(real_archive, real_encoder, tmp_path):
    """100 tracks, one epoch: above chance, and the shortened Whisper loads in a pipeline."""
    prepare([real_archive], tmp_path / "gtzan", split="random")
    train(
        "--dataset", tmp_path / "gtzan", "--model_name_or_path", real_encoder,
        "--num_train_epochs", 1, "--learning_rate", 3e-4, "--disable_tqdm", True,
        "--output_dir", tmp_path / "run",
    )  # fmt: skip
    report = read_report(tmp_path / "run")
    n_correct = sum(round(report[name]["accuracy"] * 10) for name in ("validation", "test"))
    assert n_correct >= 6, "of 20 clips; chance gets 2, and 6 once in a hundred times"
    check_predictions(tmp_path / "run", tmp_path / "gtzan")
    test_a_plain_pipeline_loads_it(tmp_path / "run")
