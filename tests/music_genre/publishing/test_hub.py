"""Pushing to the Hub: what is sent, what is left out, and what is refused."""

import json
import sys

import pytest
import yaml

from music_genre.errors import InputError
from music_genre.publishing.__main__ import parse_arguments
from music_genre.publishing.hub import PUBLISHED, add_published_files, publish
from music_genre.publishing.onnx import OnnxError
from tests.hub import WRITER, HubDouble
from tests.music_genre.publishing.clients import (
    LFS_FILES,
    ROOT,
    WEIGHTS,
    assert_no_token,
    push_here,
    sha256,
    stored,
    train_here,
    training,
)


def test_training_pushes_one_private_commit_of_what_is_promised(pushed):
    hub, folder = pushed
    assert len(hub.commits("you/tiny")) == 1
    assert hub.storage.load("models", "you/tiny")["private"]
    files = hub.files("you/tiny")
    assert set(files) == {*PUBLISHED, ".gitattributes"}
    assert any(folder.glob("checkpoint-*/optimizer.pt")), "there was something to leave out"
    for name in PUBLISHED:
        assert files[name] == (folder / name).read_bytes()
    uploaded = sorted(stored(hub))
    assert uploaded == sorted(sha256(files[name]) for name in LFS_FILES)
    assert all("authorization" not in r.headers for r in hub.sent("PUT", ""))
    assert_no_token(*files.values(), *(p.read_bytes() for p in folder.rglob("*") if p.is_file()))


def test_nothing_is_sent_twice(hub, finished, tmp_path):
    """A second push sends no object; one after a change sends that and takes away what is gone."""
    assert push_here(hub, tmp_path, finished, "tiny").returncode == 0  # your name is understood
    n_stored = len(stored(hub))
    again = push_here(hub, tmp_path, finished, "you/tiny")
    assert again.returncode == 0, again.stderr
    assert len(hub.commits("you/tiny")) == 1
    (finished / "learning_curves.png").unlink()
    assert push_here(hub, tmp_path, finished, "you/tiny").returncode == 0
    assert len(hub.commits("you/tiny")) == 2
    assert "learning_curves.png" not in hub.files("you/tiny")
    assert len(stored(hub)) == n_stored


def test_a_large_file_goes_up_in_parts(finished, tmp_path):
    with HubDouble(tmp_path / "hub", part_size=10_000) as hub:
        result = push_here(hub, tmp_path, finished, "you/tiny", "--public")
        assert result.returncode == 0, result.stderr
        assert len(hub.sent("PUT", "/storage/part/")) > 20
        assert hub.files("you/tiny")[WEIGHTS] == (finished / WEIGHTS).read_bytes()
        assert not hub.storage.load("models", "you/tiny")["private"]


def test_a_right_that_is_missing_is_known_before_training(
    pushed, real_looking, tiny_config, tmp_path
):
    hub, _ = pushed
    run = tmp_path / "run"
    result = train_here(hub, tmp_path, real_looking, tiny_config, run, "somebody/else")
    assert result.returncode == 2
    assert "this token may not write there" in result.stderr.splitlines()[-1]
    assert not run.exists()


def test_a_token_on_the_command_line_is_refused(real_looking, tiny_config, tmp_path, capsys):
    from music_genre.training.arguments import parse_arguments

    command = training(real_looking, tiny_config, tmp_path / "run", "you/x")
    argv = [*map(str, command), "--hub_token", WRITER]
    with pytest.raises(SystemExit):
        parse_arguments(argv)
    error = capsys.readouterr().err
    assert "does not belong on a command line" in error
    assert_no_token(error)


def test_a_model_without_onnx_form_is_published_without(finished, monkeypatch, capsys):
    """And the form of the weights that were there before does not stay beside the new ones."""

    def give_up(folder):
        raise OnnxError("A model of type novelty cannot be exported to ONNX.")

    monkeypatch.setattr("music_genre.publishing.hub.export", give_up)
    (finished / WEIGHTS).write_bytes(b"other weights")
    report = json.loads((finished / "report.json").read_text())
    add_published_files(finished, report, "you/x")
    assert json.loads((finished / "report.json").read_text())["onnx"] is None
    assert not list((finished / "onnx").iterdir())
    assert "ONNX" not in (finished / "README.md").read_text()
    assert capsys.readouterr().err == (
        "Published without ONNX: A model of type novelty cannot be exported to ONNX.\n"
    )


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n# base\n", "cc-by-nc-4.0"),
        ("---\ntags: [music]\n---\n# base\n", None),
        (None, None),
    ],
)
def test_the_licence_of_the_base_model_is_published(hub, finished, tmp_path, card, license):
    hub.add_repo("somebody/base")
    if card:
        files = {"README.md": hub.storage.blob(card.encode())}
        hub.storage.commit(hub.storage.load("models", "somebody/base"), "card", files)
    report = json.loads((finished / "report.json").read_text())
    report |= {"from_scratch": False, "model": "somebody/base", "base_model": "somebody/base"}
    (finished / "report.json").write_text(json.dumps(report))
    result = push_here(hub, tmp_path, finished, "you/tuned")
    assert result.returncode == 0, result.stderr
    front = yaml.safe_load(hub.files("you/tuned")["README.md"].decode().split("---")[1])
    assert front.get("license") == license
    assert front["base_model"] == "somebody/base"


def test_no_path_of_this_machine_is_published(pushed):
    """Neither of the run, the model and the data, nor of the code, as tracebacks have them."""
    hub, folder = pushed
    for name, content in hub.files("you/tiny").items():
        for path in (str(ROOT), str(folder.parents[1]), sys.prefix):
            assert path.encode() not in content, (name, path)


def test_only_finished_runs_on_real_music_that_others_can_load_are_published(finished):
    config = json.loads((finished / "config.json").read_text())
    (finished / "config.json").write_text(json.dumps(config | {"model_type": "mel-cnn"}))
    with pytest.raises(InputError, match=r"a mel CNN, the baseline .* it is not published"):
        publish(finished, "you/x")
    report = json.loads((finished / "report.json").read_text())
    (finished / "report.json").write_text(json.dumps(report | {"is_synthetic": True}))
    with pytest.raises(InputError, match="synthesised music: a demonstration is not published"):
        publish(finished, "you/x")
    (finished / "report.json").unlink()
    with pytest.raises(InputError, match="holds no finished run"):
        publish(finished, "you/x")


@pytest.mark.parametrize("argv", [[], ["runs/x"], ["--space", "you/s"], ["f", "r", "--space", "s"]])
def test_half_a_command_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(argv)
    assert stop.value.code == 2
    assert "give FOLDER USER/NAME, or --space" in capsys.readouterr().err
