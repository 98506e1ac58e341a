"""The Space: what is uploaded, and that the demo starts from exactly that."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from gradio_client import Client, handle_file
from packaging.requirements import Requirement

from music_genre.errors import InputError
from music_genre.publishing.space import (
    CPU_WHEELS,
    SPACE_CARD,
    space_files,
    space_requirements,
)
from tests.music_genre.publishing.clients import ROOT, assert_no_token, space_here

COMMAND = ["you/demo", "--model"]
NOT_SERVING = {"training", "evaluation", "publishing", "library"}


def test_one_command_makes_a_space_that_shows_a_model(hub, tmp_path):
    hub.add_repo("you/tiny")
    result = space_here(hub, tmp_path / "home", *COMMAND, "you/tiny")
    assert result.returncode == 0, result.stderr
    repo, files = hub.storage.load("spaces", "you/demo"), hub.files("you/demo", "spaces")
    assert repo["private"] and repo["sdk"] == "gradio"
    assert repo["variables"]["MODEL_ID"]["value"] == "you/tiny"
    assert len(hub.commits("you/demo", "spaces")) == 1
    variable, _ = hub.sent("POST", "/(variables|commit/main)$")
    assert variable.path.endswith("/variables"), "first, so that the Space is built once"
    assert set(files) == {
        *space_files(ROOT), "README.md", "requirements.txt", ".gitattributes",
    }  # fmt: skip
    assert files["requirements.txt"].decode() == space_requirements(ROOT)
    assert files["app.py"] == (ROOT / "app.py").read_bytes()
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert front["models"] == front["preload_from_hub"] == ["you/tiny"]
    assert_no_token(result.stdout, result.stderr)


def test_a_gated_model_is_not_fetched_by_the_build_either(hub, tmp_path):
    hub.add_repo("you/tiny")
    hub.storage.save(hub.storage.load("models", "you/tiny") | {"gated": "auto"})
    result = space_here(hub, tmp_path / "home", *COMMAND, "you/tiny", "--public")
    assert result.returncode == 0, result.stderr
    assert not hub.storage.load("spaces", "you/demo")["private"]
    assert "Published, for all to see: " in result.stdout
    assert "you/tiny is private or gated: in the settings of you/demo" in result.stderr
    card = hub.files("you/demo", "spaces")["README.md"].decode()
    assert "preload_from_hub" not in card


def test_a_space_without_its_model_is_refused(hub, tmp_path):
    result = space_here(hub, tmp_path / "home", *COMMAND, "you/none")
    assert result.returncode == 2
    assert "you/none cannot be found on the Hub" in result.stderr.splitlines()[-1]
    assert hub.storage.load("spaces", "you/demo") is None


def test_a_space_of_a_folder_says_to_publish_that_first(hub, tmp_path):
    result = space_here(hub, tmp_path / "home", *COMMAND, str(tmp_path))
    assert result.returncode == 2
    assert f"Publish it first: python -m music_genre publish {tmp_path} USER" in result.stderr


def test_only_the_core_and_the_demo_are_uploaded(tmp_path):
    """Neither other rooms nor files that happen to lie among the sources."""
    names = space_files(ROOT)
    assert {"app.py", "LICENSE", "music_genre/classifier.py"} <= set(names)
    rooms = {n.split("/")[1] for n in names if n.count("/") == 2}
    assert {"demo", "examples"} <= rooms and not rooms & NOT_SERVING
    assert {n.split("/")[0] for n in names if "/" in n} == {"music_genre"}

    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (
        "pyproject.toml",
        "music_genre/clip.wav",
        "music_genre/demo/song.ogg",
        "data.zip",
        "train_hf.py",
    ):
        (tmp_path / name).touch()
    assert space_files(tmp_path) == names
    (tmp_path / "app.py").unlink()
    with pytest.raises(InputError, match=r"lacks app\.py: publish the Space from a checkout"):
        space_files(tmp_path)


def test_the_space_has_a_gradio_that_the_demo_takes():
    front = yaml.safe_load(SPACE_CARD.read_text(encoding="utf-8").split("---")[1])
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (gradio,) = (Requirement(line) for line in lines if line.startswith("gradio"))
    assert gradio.specifier.contains(str(front["sdk_version"]))


def test_the_space_installs_what_classifying_and_the_page_need():
    """Not gradio and huggingface_hub, which its SDK brings, and nothing of training or ONNX."""
    lines = space_requirements(ROOT).splitlines()
    assert CPU_WHEELS in lines
    names = {re.match(r"\w+", line)[0] for line in lines if line[0] not in "#-"}
    assert names == {
        "torch", "transformers", "numpy", "soundfile", "av", "soxr", "pebble", "joblib",
        "matplotlib",
    }  # fmt: skip


def test_the_demo_answers_from_the_uploaded_files_alone(jazz_model, song, tmp_path):
    """With SPACE_PYTHON, in an environment of the Space's own packages: see .ci/space."""
    space = tmp_path / "space"
    for name in space_files(ROOT):
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        (space / name).write_bytes((ROOT / name).read_bytes())
    env = os.environ | {"MODEL_ID": str(jazz_model), "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [os.environ.get("SPACE_PYTHON", sys.executable), "app.py"],
        env=env, cwd=space, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail("".join(printed))
        client = Client(address[0], verbose=False)
        prediction = client.predict(file=handle_file(song), api_name="/classify")
    finally:
        process.kill()
        process.communicate()
    assert prediction["genre"] == "jazz"
