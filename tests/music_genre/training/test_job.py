"""A run on the Hub's hardware, against the stand-in for the Hub."""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from huggingface_hub import HfApi, Volume

import train_hf
from music_genre.training import job
from tests.commands import run_here
from tests.hub import READER, WRITER, Fault, HubDouble
from tests.hub.jobs import Machine

PUSH = ["--push_to_hub", "--hub_model_id", "you/model"]


@pytest.fixture
def hub(tmp_path):
    with HubDouble(tmp_path / "hub") as hub:
        hub.job_log = [f"line {i}" for i in range(30)]
        yield hub


@pytest.fixture
def submit(hub, tmp_path, root, monkeypatch):
    """Run train_hf.py in this process; volumes are folders in `volumes`.

    Buckets keep their files in Xet storage, which the stand-in does not have.
    """

    def copy(self, source, mount_path, *, remote_name=None, read_only=True):
        run.buckets.append(remote_name)
        shutil.copytree(source, tmp_path / "volumes" / mount_path[1:], dirs_exist_ok=True)
        return Volume(type="bucket", source="b", mount_path=mount_path, read_only=read_only)

    def run(
        *options, token=WRITER, dataset="you/gtzan", flavor="t4-small", push=PUSH, config="gtzan"
    ):
        argv = [f"./configs/{config}.json", "--job", flavor, *push, *options]
        argv += ["--dataset", dataset] if dataset else []
        environment = os.environ | hub.environment(tmp_path / "cache", token)
        return run_here(train_hf.main, *argv, environment=environment)

    run.buckets = []
    monkeypatch.setattr(HfApi, "sync_job_volume", copy)
    monkeypatch.chdir(root)
    return run


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


@pytest.mark.slow
def test_a_job_runs_and_ends_with_the_model_on_the_hub(hub, submit, prepared, tmp_path):
    """Its command is run here, in a new home; of its image only uv is played."""
    dataset = shutil.copytree(prepared, tmp_path / "own")
    path = dataset / "preparation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"is_synthetic": False}))
    uv = f'case $1 in venv) ln -s "{sys.prefix}" .venv;; pip) test -f requirements.txt;; esac'
    programs = program(tmp_path / "bin", "uv", uv)
    image = hub.environment(tmp_path / "job" / "cache", token="") | {"OMP_NUM_THREADS": "1"}
    hub.machine = Machine(tmp_path / "job", tmp_path / "volumes", programs, image)
    done = submit(
        "--job_timeout", "90m", "--window_seconds", "1", "--max_steps", "2", "--dataset", dataset,
        "--output_dir", "runs/x", config="quickstart", dataset=None,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = hub.jobs
    spec = job["spec"]
    assert spec["command"][-2:] == ["--dataset", "/dataset"]
    assert (spec["flavor"], spec["timeoutSeconds"], spec["attempts"]) == ("t4-small", 90 * 60, 3)
    mounted = {one["mountPath"]: one["readOnly"] for one in spec["volumes"]}
    assert mounted == {"/code": True, "/output": False, "/dataset": True}
    assert not (tmp_path / "volumes/code/.git").exists()
    assert "0.006667 USD per minute" in done.stdout
    assert "Published: " in done.stdout, "the log of the job"
    assert done.stdout.splitlines()[-1].endswith("you/model")
    for name in ("model.safetensors", "README.md", "report.json"):
        assert hub.files("you/model")[name] == (tmp_path / "volumes/output" / name).read_bytes()
    assert hub.storage.load("models", "you/model")["private"]
    assert WRITER not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("saved", "resumes"),
    [("", False), ("linear_probe/choice.json", True), ("checkpoint-5/optimizer.pt", True)],
)
def test_the_next_attempt_resumes_what_was_saved(hub, submit, tmp_path, saved, resumes):
    """One that was cut after its linear probe was refused, as its folder held a run."""
    assert submit("--seed", "1").returncode == 0
    uv = "mkdir -p .venv/bin; cp $(dirname $0)/accelerate .venv/bin"
    programs = program(tmp_path / "bin", "uv", uv)
    program(programs, "accelerate", 'echo "$@"')
    output = tmp_path / "volumes" / "output"
    if saved:
        (output / saved).parent.mkdir(parents=True)
        (output / saved).touch()
    machine = Machine(tmp_path / "job", tmp_path / "volumes", programs, {})
    assert machine.start(hub.jobs[0]["spec"]).wait(60) == 0
    said = machine.log.read_text()
    assert said.startswith("launch train_hf.py ./configs/gtzan.json --job t4-small --push_to_hub")
    assert ("--resume_from_checkpoint last" in said) == resumes
    assert said.endswith(f" --output_dir {output} --job \n"), "the last values count"


def test_a_job_makes_one_model(hub, submit):
    done = submit("--seeds", "0", "1", "--output_dir", "runs/x")
    assert "A job makes one model: leave out --seeds" in done.stderr
    assert not hub.jobs


def test_several_processes_submit_one_job(hub, submit, monkeypatch):
    monkeypatch.setattr(train_hf, "PartialState", lambda: SimpleNamespace(is_main_process=False))
    assert submit().returncode == 0
    assert not hub.jobs


def test_a_public_bucket_gets_nothing(hub, submit, monkeypatch):
    """The Hub's client only warns of it."""

    def warn(*_, **__):
        warnings.warn("Bucket 'you/jobs-artifacts' already exists and is public: ...", stacklevel=1)

    monkeypatch.setattr(HfApi, "sync_job_volume", warn)
    done = submit()
    assert done.returncode == 2
    assert "'you/jobs-artifacts' already exists and is public" in done.stderr
    assert not hub.jobs


def test_a_command_has_a_bucket_of_its_own(submit, prepared, tmp_path):
    """What another one left there would be resumed, and published under this one's recipe."""
    for options in ([], ["--learning_rate", "1e-3"], [], ["--job_timeout", "5h"]):
        assert submit(*options).returncode == 0
    _, one, _, other, _, again, _, longer = submit.buckets
    assert one == again == longer != other
    assert one.startswith("music-genre-you-model-")
    for dataset in (prepared, shutil.copytree(prepared, tmp_path / "own")):
        assert submit(dataset=str(dataset)).returncode == 0
    _, one, _, _, other, _ = submit.buckets[8:]
    assert one != other, "both are /dataset in the job"
    path = tmp_path / "own" / "preparation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sources": []}))
    assert submit(dataset=str(tmp_path / "own")).returncode == 0
    assert submit.buckets[-2] != other, "it was prepared again, from other music"
    submit.buckets.clear()
    for options in (
        ["--max_grad_norm", "0.1"], ["--bf16", "False"], ["--load_best_model_at_end", "True"],
        ["--model_name_or_path", "org1/base"], ["--model_name_or_path", "org2/base"],
    ):  # fmt: skip
        assert submit(*options).returncode == 0
    assert len({again, *submit.buckets[1::2]}) == 6


def test_the_token_goes_as_a_secret_alone(hub, submit):
    done = submit()
    token = hub.environment("x")["HF_TOKEN"]
    spec = hub.jobs[0]["spec"]
    assert spec["timeoutSeconds"] == 3 * 3600, "the Hub's own default would cut a run"
    assert spec.pop("secrets") == {"HF_TOKEN": token}
    assert token not in str(spec) + done.stdout + done.stderr


@pytest.mark.parametrize(("stage", "message"), [("ERROR", "Job timeout"), ("CANCELED", None)])
def test_a_job_that_fails_shows_its_log(hub, submit, stage, message):
    hub.job_ends_as, hub.job_message = stage, message
    done = submit()
    assert done.returncode == 2
    assert f"{stage.lower()}{f' ({message})' if message else ''}." in done.stderr
    assert "line 0\n" in done.stdout and "line 29\n" in done.stdout
    assert "the same command resumes it" in done.stderr


def test_a_tracked_file_that_was_deleted_here_is_left_out(submit, monkeypatch):
    listed = SimpleNamespace(returncode=0, stdout="configs/gtzan.json\0deleted.py\0")
    monkeypatch.setattr(job.subprocess, "run", lambda *_, **__: listed)
    assert submit().returncode == 0


def test_who_stops_watching_is_told_that_the_job_runs_on(submit, monkeypatch):
    monkeypatch.setattr(HfApi, "fetch_job_logs", mock.Mock(side_effect=KeyboardInterrupt))
    assert "The job is still running. Watch it: hf jobs logs" in submit().stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flavor": "t9"}, "t4-small (0.006667 USD per minute)"),
        ({"dataset": None}, "--dataset"),
        ({"token": READER}, "may only read"),
        ({"token": ""}, "run `hf auth login`"),
    ],
)
def test_what_is_wrong_here_is_said_before_a_job_exists(hub, submit, changes, said):
    done = submit(**changes)
    assert done.returncode == 2
    assert said in done.stderr
    assert not hub.jobs


@pytest.mark.parametrize(("status", "said"), [(402, "no credit"), (403, "no such access")])
def test_a_job_that_the_hub_refuses_is_one_sentence(hub, submit, status, said):
    hub.faults.append(Fault("POST", "/api/jobs/", status=status))
    done = submit()
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_the_job_would_not_have_is_refused(hub, submit, root, tmp_path, monkeypatch):
    def refused(*options, **changes):
        done = submit(*options, **changes)
        assert done.returncode == 2 and not hub.jobs
        return done.stderr

    (tmp_path / "mine.json").write_text("{}")
    mine = os.path.relpath(tmp_path / "mine", root / "configs")
    assert "git does not track" in refused(config=mine)
    assert "data_prep" in refused(dataset=str(tmp_path))
    said = f"The job cannot see {tmp_path}, a folder of this machine: publish"
    assert said in refused("--model_name_or_path", tmp_path)
    monkeypatch.setattr(job, "CHECKOUT", tmp_path)
    said = f"{tmp_path} is not a git checkout: a job takes the files that git tracks."
    assert said in refused()
