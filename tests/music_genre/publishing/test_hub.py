"""Pushing to the Hub: what is sent, what is left out, and what is refused."""

import json
import math
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from music_genre.errors import InputError
from music_genre.publishing.card import model_card
from music_genre.publishing.hub import (
    add_onnx,
    add_published_files,
    publish,
    read_base_license,
    read_finished,
)
from music_genre.publishing.onnx import OnnxError
from tests.commands import client_of
from tests.hub import WRITER
from tests.music_genre.publishing.clients import (
    LFS_FILES,
    ROOT,
    WEIGHTS,
    assert_no_token,
    promised,
    push_here,
    sha256,
    stored,
    train_here,
)


def test_training_pushes_one_private_commit_of_what_is_promised(pushed):
    hub, folder = pushed
    assert len(hub.commits("you/tiny")) == 1
    assert hub.storage.load("models", "you/tiny")["private"]
    assert hub.commits("you/tiny")[0]["message"] == "Add model and report", "for few clips"
    files = hub.files("you/tiny")
    assert set(files) == promised(folder)
    assert {WEIGHTS, "report.json", "README.md", "handler.py", "onnx/model.onnx"} < set(files)
    assert any(folder.glob("checkpoint-*/optimizer.pt")), "there was something to leave out"
    for name in set(files) - {".gitattributes"}:
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


def test_a_right_that_is_missing_is_known_before_training(
    pushed, real_looking, tiny_config, tmp_path
):
    hub, _ = pushed
    run = tmp_path / "run"
    result = train_here(hub, tmp_path, real_looking, tiny_config, run, "somebody/else")
    assert result.returncode == 2
    assert "this token has no such access" in result.stderr.splitlines()[-1]
    assert not run.exists()


def test_a_token_on_the_command_line_is_refused(capsys):
    from music_genre.training.arguments import parse_arguments

    with pytest.raises(SystemExit):
        parse_arguments(["--hub_token", WRITER])
    error = capsys.readouterr().err
    assert "does not belong on a command line" in error
    assert_no_token(error)


def test_a_model_without_onnx_form_is_published_without(finished, monkeypatch, capsys):
    """And the form of the weights that were there before does not stay beside the new ones."""

    def give_up(folder):
        raise OnnxError("A model of type novelty cannot be exported to ONNX.")

    monkeypatch.setattr("music_genre.publishing.hub.export", give_up)
    (finished / WEIGHTS).write_bytes(b"other weights")
    add_published_files(finished, read_finished(finished), "you/x")
    assert json.loads((finished / "report.json").read_text())["onnx"] is None
    assert not list((finished / "onnx").iterdir())
    assert "ONNX" not in (finished / "README.md").read_text()
    assert capsys.readouterr().err == (
        "Published without ONNX: A model of type novelty cannot be exported to ONNX.\n"
    )


def test_onnx_forms_are_made_where_one_of_these_weights_is_missing(finished, monkeypatch):
    report = read_finished(finished)
    monkeypatch.setattr("music_genre.publishing.hub.export", lambda folder: dict(report["onnx"]))
    assert not add_onnx(finished, report)
    (finished / "onnx" / "model_quantized.onnx").unlink()
    left_out = report["onnx"] | {"quantized": {"is_kept": False}}
    assert not add_onnx(finished, report | {"onnx": left_out})
    assert add_onnx(finished, report)


@pytest.mark.parametrize(
    ("card", "license"),
    [
        (
            "---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n# base\n",
            {"license": "other", "license_name": "own", "license_link": "LICENSE"},
        ),
        (None, {}),
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
    assert {name: front[name] for name in front if name.startswith("license")} == license
    assert front["base_model"] == "somebody/base"


def test_no_path_of_this_machine_is_published(pushed):
    """Neither of the run, the model and the data, nor of the code, as tracebacks have them."""
    hub, folder = pushed
    for name, content in hub.files("you/tiny").items():
        for path in (str(ROOT), str(folder.parents[1]), sys.prefix):
            assert path.encode() not in content, (name, path)


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("in_report", "in_config"),
    [({"is_synthetic": True}, {}), ({}, {"trained_on_synthetic_music": True})],
)
def test_a_demonstration_is_not_published(finished, in_report, in_config):
    """Either file says so; a report alone may be edited or lost."""
    change_json(finished / "report.json", **({"is_synthetic": False} | in_report))
    change_json(finished / "config.json", **in_config)
    with pytest.raises(InputError, match="synthesised music: a demonstration is not published"):
        publish(finished, "you/x")


@pytest.mark.parametrize("content", ['{"test": 0.93}', "[]", "no JSON"])
def test_a_report_of_another_program_is_refused(finished, content):
    (finished / "report.json").write_text(content)
    with pytest.raises(InputError, match=r"holds no finished run of train_hf\.py"):
        publish(finished, "you/x")


def test_an_interval_that_is_not_known_is_called_so(finished):
    """As where all tracks of test are of one artist."""
    report = json.loads((finished / "report.json").read_text())
    for interval in ([-math.inf, math.inf], None):
        report["test"]["accuracy_ci95"] = interval
        (finished / "report.json").write_text(json.dumps(report))
        card = str(model_card(read_finished(finished), "you/x"))
        assert "| unknown |" in card and not re.search(r"\binf\b", card)


def test_names_of_ones_own_music_stay_at_home(hub, finished, tmp_path):
    """Also where an earlier version had sent them."""
    hub.add_repo("you/tiny", private=True)
    files = {"predictions.csv": hub.storage.blob(b"track_id,artist")}
    hub.storage.commit(hub.storage.load("models", "you/tiny"), "old", files)
    result = push_here(hub, tmp_path, finished, "you/tiny")
    assert result.returncode == 0, result.stderr
    assert "name your files and artists: they stay here" in result.stdout
    published = hub.files("you/tiny")
    assert not {"predictions.csv", "predictions_validation.csv"} & set(published)
    assert "predictions" not in published["README.md"].decode()
    rows = (finished / "predictions.csv").read_text().splitlines()[1:]
    for track in {row.split(",")[0] for row in rows}:
        for name, content in published.items():
            assert track.encode() not in content, name


def test_predictions_on_gtzan_are_published(hub, finished, tmp_path):
    score = json.loads((finished / "report.json").read_text())["test"] | {"accuracy": 0.51249}
    for row in score["per_genre"].values():
        row["n"] = 9
    change_json(finished / "report.json", dataset="GTZAN", test=score)
    result = push_here(hub, tmp_path, finished, "you/tiny")
    assert result.returncode == 0, result.stderr
    assert {"predictions.csv", "predictions_validation.csv"} < set(hub.files("you/tiny"))
    assert hub.commits("you/tiny")[0]["message"] == "Accuracy 0.512 on test"


def test_a_file_of_this_machine_is_no_card_of_a_base_model(finished, tmp_path, monkeypatch):
    """A report from elsewhere may name a path where a model's id belongs."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_text("---\nlicense: secret\n---\n")
    monkeypatch.chdir(tmp_path)
    report = read_finished(finished) | {"from_scratch": False}
    for name in ("base/README.md", str(tmp_path / "base" / "README.md"), "../base/README.md"):
        assert read_base_license(report | {"base_model": name}) is None
    with client_of(os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}):
        assert read_base_license(report | {"base_model": "somebody/base"}) is None
