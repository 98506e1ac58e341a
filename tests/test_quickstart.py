"""train_hf.py without arguments, with a GTZAN archive in data/; test_readme.py runs it without."""

import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForAudioClassification

import train_hf
from music_genre.loading import ModelFolder
from music_genre.report import newest_run


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

    def stand_in(name, revision):
        asked_for.append(name)
        return ModelFolder(name, encoder, "abc")

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
