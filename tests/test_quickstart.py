"""train_hf.py without arguments, with and without a GTZAN archive in data/."""

import io
import json
import shutil
import sys
import zipfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
from transformers import AutoConfig, AutoModelForAudioClassification

import train_hf
from data_prep.gtzan import GENRES
from data_prep.synthetic import synthesise
from music_genre import GenreClassifier
from music_genre.errors import InputError
from music_genre.publishing.hub import publish
from music_genre.report import newest_run


@pytest.fixture(scope="module")
def quickstart(root, tmp_path_factory):
    """Its folder and what it prints; test_readme.py types the command."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "configs").symlink_to(root / "configs")
    printed = io.StringIO()
    argv = mock.patch.object(sys, "argv", ["train_hf.py"])
    with chdir(folder), argv, redirect_stdout(printed):
        train_hf.main()
    return folder, printed.getvalue()


def test_it_learns_and_says_what_it_is(quickstart):
    folder, output = quickstart
    assert "this is the quickstart" in output
    assert "no music classifier" in output
    report = json.loads((folder / "runs" / "quickstart" / "report.json").read_text())
    assert report["test"]["accuracy"] >= 0.8
    assert report["test"]["n"] == 40
    assert report["is_synthetic"]


def test_its_model_is_the_newest_run_and_tells_unheard_clips_apart(quickstart):
    folder, _ = quickstart
    run = newest_run(folder / "runs")
    assert run.name == "quickstart"
    classifier = GenreClassifier(run)
    answers = [classifier(synthesise(g, 200_000, seconds=8.0), 22_050).genre for g in GENRES]
    assert sum(answer == genre for answer, genre in zip(answers, GENRES, strict=True)) >= 8


def test_its_model_is_not_published(quickstart):
    folder, _ = quickstart
    with pytest.raises(InputError, match="synthesised music"):
        publish(folder / "runs" / "quickstart", "me/quickstart")


@pytest.fixture
def gtzan_in_data(archive, tmp_path, monkeypatch):
    """A working folder whose data/ holds an archive of ten genres that is not marked synthetic."""
    (tmp_path / "data").mkdir()
    with (
        zipfile.ZipFile(archive) as marked,
        zipfile.ZipFile(tmp_path / "data" / "GTZAN.zip", "w") as plain,
    ):
        for name in marked.namelist()[1:]:
            plain.writestr(name, marked.read(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_with_an_archive_in_data_the_model_lands_where_the_app_looks(
    gtzan_in_data, tiny_config, root, monkeypatch, capsys
):
    """No argument at all; a tiny net answers for ntu-spml/distilhubert, which needs the network."""
    encoder = gtzan_in_data / "encoder"
    shutil.copytree(tiny_config, encoder)
    AutoModelForAudioClassification.from_config(
        AutoConfig.from_pretrained(encoder)
    ).save_pretrained(encoder)
    asked_for = []

    def stand_in(name, revision=None):
        asked_for.append(name)
        return {"pretrained_model_name_or_path": str(encoder)}

    monkeypatch.setattr(train_hf, "find_model", stand_in)
    monkeypatch.setattr(sys, "argv", ["train_hf.py"])
    train_hf.main()
    assert asked_for == ["ntu-spml/distilhubert"]
    assert newest_run() == Path("runs/distilhubert-gtzan")
    made = {path.name for path in gtzan_in_data.iterdir()} - {"encoder"}
    assert made == {"data", "runs"}
    assert "Try it: python app.py --model runs/distilhubert-gtzan" in capsys.readouterr().out
    ignored = (root / ".gitignore").read_text().split()
    assert {f"/{name}/" for name in made} <= set(ignored)
