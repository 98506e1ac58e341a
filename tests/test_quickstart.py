"""The README's first command, as it is, in a folder without data: a real process, start to end."""

import json
import os
import subprocess
import sys

import pytest

from music_genre import GenreClassifier
from music_genre.errors import InputError
from music_genre.loading import newest_run
from music_genre.publishing.hub import publish


@pytest.fixture(scope="module")
def quickstart(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    (folder / "configs").symlink_to(root / "configs")
    result = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", str(root / "train_hf.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


def test_it_learns_and_says_what_it_is(quickstart):
    folder, output = quickstart
    assert "this is the quickstart" in output
    assert "no music classifier" in output
    report = json.loads((folder / "runs" / "quickstart" / "report.json").read_text())
    assert report["test"]["accuracy"] >= 0.8
    assert report["test"]["n"] == 40
    assert report["is_synthetic"]


def test_its_model_is_the_newest_run_and_tells_unheard_clips_apart(quickstart):
    from data_prep.synthetic import GENRES, synthesise

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
