"""A run on the Hub's hardware, against the stand-in for the Hub."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, Volume, close_session, constants

from music_genre.errors import exit_with_message
from music_genre.training.arguments import parse_arguments
from music_genre.training.job import run_as_job
from tests.hub import READER, WRITER, Fault, HubDouble

# Buckets keep their files in Xet storage, which the stand-in does not have: volumes are copied.
TRAIN = """
import runpy, shutil, sys
from pathlib import Path
from huggingface_hub import HfApi, Volume

volumes = Path(sys.argv.pop(1))

def copy(self, source, mount_path, *, remote_name=None, read_only=True):
    shutil.copytree(source, volumes / mount_path[1:], dirs_exist_ok=True)
    return Volume(type="bucket", source="b", mount_path=mount_path, path="p", read_only=read_only)

HfApi.sync_job_volume = copy
runpy.run_module("train_hf", run_name="__main__")
"""
PUSH = ["--push_to_hub", "--hub_model_id", "you/model"]


@pytest.fixture
def hub(tmp_path):
    with HubDouble(tmp_path / "hub") as hub:
        hub.job_log = [f"line {i}" for i in range(30)]
        yield hub


@pytest.fixture
def submit(hub, tmp_path, root, monkeypatch, capsys):
    """In this process, which takes the time of importing torch once."""

    def copy(self, source, mount_path, *, remote_name=None, read_only=True):
        shutil.copytree(source, tmp_path / "volumes" / mount_path[1:], dirs_exist_ok=True)
        return Volume(type="bucket", source="b", mount_path=mount_path, read_only=read_only)

    def run(*options, token=WRITER, dataset="you/gtzan", flavor="t4-small", push=PUSH):
        argv = [str(root / "configs/gtzan.json"), "--job", flavor, *push, *options]
        argv += ["--dataset", dataset] if dataset else []
        monkeypatch.setenv("HF_TOKEN", token)
        data, _, recipe = parse_arguments(argv)
        code = 0
        try:
            with exit_with_message("Stopped."):
                run_as_job(argv, data.dataset, recipe)
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    monkeypatch.setattr(HfApi, "sync_job_volume", copy)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()  # the one of other tests is offline
    yield run
    close_session()


def train(hub, tmp_path, root, *argv):
    return subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path / "volumes"), *argv],
        env=os.environ | hub.environment(tmp_path / "cache") | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
    )


def test_a_job_is_submitted_once_followed_and_ends_with_the_model(hub, tmp_path, root):
    argv = [str(root / "configs/gtzan.json"), "--job", "t4-small", *PUSH, "--job_timeout", "90m"]
    argv += ["--learning_rate", "1e-4", "--output_dir", "runs/x", "--dataset", "you/gtzan"]
    done = train(hub, tmp_path, root, *argv)
    assert done.returncode == 0, done.stderr
    (job,) = hub.jobs
    spec = job["spec"]
    options = [*PUSH, "--learning_rate", "1e-4", "--dataset", "you/gtzan"]
    assert spec["command"][4:] == ["configs/gtzan.json", *options]
    assert spec["flavor"] == "t4-small"
    assert spec["timeoutSeconds"] == 90 * 60
    assert spec["attempts"] == 3
    assert "0.40 USD per hour" in done.stdout
    assert "line 29" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("you/model")
    assert (tmp_path / "volumes/code/train_hf.py").is_file()
    assert not (tmp_path / "volumes/code/.git").exists()
    mounted = {one["mountPath"]: one["readOnly"] for one in spec["volumes"]}
    assert mounted == {"/code": True, "/output": False}


def test_the_token_goes_as_a_secret_alone(hub, submit):
    done = submit()
    token = hub.environment("x")["HF_TOKEN"]
    spec = hub.jobs[0]["spec"]
    assert spec.pop("secrets") == {"HF_TOKEN": token}
    assert token not in str(spec) + done.stdout + done.stderr


@pytest.mark.parametrize("stage", ["ERROR", "CANCELED"])
def test_a_job_that_fails_shows_its_last_lines(hub, submit, stage):
    hub.job_ends_as = stage
    done = submit()
    assert done.returncode == 2
    assert stage.lower() in done.stderr
    assert done.stderr.splitlines()[-1] == "line 29"
    assert "line 10\n" in done.stderr
    assert "line 9\n" not in done.stderr
    assert "resumes" in done.stderr


def test_a_detached_job_says_how_to_go_on(hub, submit):
    done = submit("--job_detach")
    assert done.returncode == 0
    assert "hf jobs logs --follow job0" in done.stdout
    assert "line 0" not in done.stdout


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flavor": "t9"}, "cpu-basic (0.01 USD per hour), t4-small (0.40 USD per hour)"),
        ({"push": []}, "--hub_model_id"),
        ({"dataset": None}, "--dataset"),
        ({"token": READER}, "may only read"),
    ],
)
def test_what_is_wrong_here_is_said_before_a_job_exists(hub, submit, changes, said):
    done = submit(**changes)
    assert done.returncode == 2
    assert said in done.stderr
    assert not hub.jobs


@pytest.mark.parametrize(("status", "said"), [(402, "no credit"), (403, "may not")])
def test_a_job_that_the_hub_refuses_is_one_sentence(hub, submit, status, said):
    hub.faults.append(Fault("POST", "/api/jobs/", status=status))
    done = submit()
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_folder_that_is_not_prepared_is_refused(hub, submit, tmp_path):
    (tmp_path / "songs").mkdir()
    done = submit(dataset=str(tmp_path / "songs"))
    assert done.returncode == 2
    assert "data_prep" in done.stderr
    assert not hub.jobs


def test_a_prepared_folder_travels_with_the_job(hub, submit, tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    (folder / "preparation.json").write_text("{}")
    done = submit(dataset=str(folder))
    assert done.returncode == 0, done.stderr
    assert hub.jobs[0]["spec"]["command"][-2:] == ["--dataset", "/dataset"]
    assert (tmp_path / "volumes/dataset/preparation.json").is_file()
