"""Walk through the README from its first block to its last, as `tests.walk` describes.

Each test continues where the previous one stopped, so run them all. The log of the walk is printed
with `-s`, and is also in walk.md in the test's temporary folder.
"""

import json
import re
import subprocess
import time
import zipfile
from pathlib import Path

import pyarrow.parquet
import pytest
import soundfile
from datasets import load_from_disk

from data_prep.gtzan import GENRES, filtered_split
from data_prep.synthetic import synthesise
from music_genre import GenreClassifier
from music_genre.publishing.card import CUSTOM_CODE
from music_genre.publishing.hub import PREDICTIONS, PUBLISHED
from music_genre.training.arguments import COMMITS
from tests.commands import client_of
from tests.hub import HubDouble
from tests.training_runs import RUN_FILES
from tests.walk import standins
from tests.walk.walker import Walker

ENCODER, REPO = "ntu-spml/distilhubert", "you/distilhubert-gtzan"
GIVEN = {"song.mp3"}  # what the user has in the working folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubDouble(tmp_path_factory.mktemp("hub")) as hub:
        hub.push(ENCODER, standins.distilhubert(), COMMITS[ENCODER])
        yield hub


@pytest.fixture(scope="module")
def walk(root, hub, request, tmp_path_factory):
    """A clone with a song of the user in it, and a home folder with music."""
    folder = tmp_path_factory.mktemp("walk")
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    soundfile.write(clone / "song.mp3", standins.song("jazz", 901, 12.0), standins.RATE)
    walk = Walker(clone, standins.environment(hub, folder / "home"), folder / "walk.md")
    walk.n_failed_before = request.session.testsfailed
    started = time.monotonic()
    yield walk
    walk.note(f"\n{time.monotonic() - started:.0f} s in all; this log: {walk.log}")


@pytest.fixture(autouse=True)
def only_if_the_walk_got_here(walk, request):
    if request.session.testsfailed > walk.n_failed_before:
        pytest.fail("The walk ended in an earlier test.", pytrace=False)


def report_of(run) -> dict:
    """Check that a run wrote all its files, and return its report."""
    assert {path.name for path in run.iterdir()} >= RUN_FILES
    report = json.loads((run / "report.json").read_text())
    for split, name in {"validation": "predictions_validation", "test": "predictions"}.items():
        rows = (run / f"{name}.csv").read_text().splitlines()
        assert len(rows) == 1 + report[split]["n"]
    return report


def test_quickstart_without_data(walk):
    printed = walk.run(*walk.take("^python3 -m venv .*/accelerate launch train_hf.py$"))
    assert "this is the quickstart" in printed
    assert "no music classifier" in printed
    run = walk.folder / "runs" / "quickstart"
    report = report_of(run)
    assert report["is_synthetic"]
    assert report["test"]["n"] == 20
    assert report["test"]["accuracy"] >= 0.7
    classifier = GenreClassifier(run)
    answers = [classifier(synthesise(g, 200_000, seconds=8.0), 22_050).genre for g in GENRES]
    n_right = sum(answer == genre for answer, genre in zip(answers, GENRES, strict=True))
    walk.note(f"    test accuracy {report['test']['accuracy']:.3f}; {n_right} new clips of 10")
    assert n_right >= 7, "of ten clips that it has not met"

    with walk.serve(*walk.take("^source .venv/bin/activate\npython app.py$")) as printed:
        assert "quickstart" in printed
    printed = walk.run(*walk.take("GenreClassifier..runs/quickstart"))
    assert re.fullmatch("|".join(GENRES), printed.splitlines()[0].strip("'"))


def test_training_with_the_archive(walk, hub, root):
    archive = walk.folder / "data" / "GTZAN Genre Collection.zip"
    standins.write_archive(archive, root.parent / "shared" / "data" / archive.name)
    n_requests = len(hub.requests)

    printed = walk.run(*walk.take("^accelerate launch train_hf.py$"))
    assert "Try it: python app.py --model runs/distilhubert-gtzan" in printed
    report = report_of(walk.folder / "runs" / "distilhubert-gtzan")
    assert not report["is_synthetic"]
    assert report["base_model_commit"] == COMMITS[ENCODER]
    # "Where the filtered lists leave a genre without a clip to train on, the split is artist."
    train = {track for track, split in filtered_split().items() if split == "train"}
    with zipfile.ZipFile(archive) as members:
        in_train = {
            Path(name).name.split(".")[0] for name in members.namelist() if Path(name).stem in train
        }
    assert report["split"] == ("filtered" if in_train == set(GENRES) else "artist")
    fetched = {r.path.split("/")[-1] for r in hub.requests[n_requests:] if ENCODER in r.path}
    assert "model.safetensors" in fetched
    assert "pytorch_model.bin" not in fetched


def test_step_by_step_to_a_model_on_the_hub(walk, hub):
    walk.run(*walk.take("^python -m data_prep .* --output_dir data/gtzan$"))
    dataset = load_from_disk(walk.folder / "data" / "gtzan")
    assert {"README.md", "manifest.csv"} < {p.name for p in (walk.folder / "data/gtzan").iterdir()}
    walk.run(*walk.take("--dataset data/gtzan --output_dir runs/mine$"))
    mine = walk.folder / "runs" / "mine"
    report = report_of(mine)
    assert report["test"]["n"] == dataset.num_rows["test"]
    assert report["base_model_commit"] == hub.storage.load("models", ENCODER)["commits"][-1]["oid"]

    walk.run(*walk.take(f"^python -m music_genre publish runs/mine {REPO}$"))
    files = hub.files(REPO)
    published = {*PUBLISHED, *PREDICTIONS} - {*CUSTOM_CODE.values()}
    assert set(files) == {*published, ".gitattributes"}
    assert hub.storage.load("models", REPO)["private"]
    for name in published:
        assert files[name] == (mine / name).read_bytes()

    # From here on, as on another machine: the commands get all they need from the Hub.
    walk.environment["HF_HOME"] = str(walk.log.with_name("cold cache"))
    song = walk.folder / "song.mp3"
    with client_of(walk.environment):
        pulled, local = (GenreClassifier(name)(song) for name in (REPO, mine))
    assert pulled.probabilities == local.probabilities
    walk.genre = local.genre


def test_serving_the_published_model(walk, hub):
    with walk.serve(*walk.take(f"^python app.py --model {REPO}$")) as printed:
        assert REPO in printed
        answer = walk.run(*walk.take("^from gradio_client"))
        assert f"'{walk.genre}'" in answer
        answer = walk.run(*walk.take_from("docs/serving.md", "^curl -sN"))
        assert "event: complete" in answer
        assert f'"{walk.genre}"' in answer

    walk.run(*walk.take(f"^python -m music_genre space you/music-genre --model {REPO}$"))
    assert hub.commits("you/music-genre", "spaces")


def test_a_whole_library(walk):
    n_files = standins.write_music(Path(walk.environment["HOME"]) / "Music")
    walk.run(*walk.take(f"^python -m music_genre scan ~/Music --model {REPO} "))
    table = pyarrow.parquet.read_table(walk.folder / "genres.parquet").to_pylist()
    assert len(table) == n_files
    assert sum(row["genre"] in GENRES for row in table) == n_files - 1
    assert [row["path"].endswith("letter.mp3") for row in table if row["error"]] == [True]


def test_the_end_of_the_walk(walk):
    """The last block runs this test; git sees only what the user put into the folder."""
    walk.take("^python3 -m venv .*/python -m pytest -n auto --dist loadfile$")
    assert not walk.remaining
    command = ["git", "status", "--porcelain"]
    status = subprocess.run(command, cwd=walk.folder, check=True, capture_output=True, text=True)
    assert {line[3:] for line in status.stdout.splitlines()} == GIVEN
