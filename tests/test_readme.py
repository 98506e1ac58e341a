"""The README, walked from its first block to its last, as `tests.walk` describes.

Each test continues where the one before it stopped: run them all. The log of the walk is printed
with `-s`, and lies in walk.md in the test's temporary folder.
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
from music_genre.errors import InputError
from music_genre.publishing.card import CUSTOM_CODE
from music_genre.publishing.hub import PREDICTIONS, PUBLISHED, publish
from music_genre.training.arguments import COMMITS
from tests.hub import HubDouble
from tests.training_runs import RUN_FILES
from tests.walk import standins
from tests.walk.walker import Walker

ENCODER, REPO = "ntu-spml/distilhubert", "you/distilhubert-gtzan"
PAGE = "^source .venv/bin/activate\npython app.py$"
GIVEN = {"song.mp3"}  # what the user has in the working folder
CLASSIFY = """import json
from music_genre import GenreClassifier
print(json.dumps([GenreClassifier(name)("song.mp3").probabilities for name in {names}]))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubDouble(tmp_path_factory.mktemp("hub")) as hub:
        hub.add_model(ENCODER, standins.distilhubert(), COMMITS[ENCODER])
        yield hub


@pytest.fixture(scope="module")
def walk(root, hub, request, tmp_path_factory):
    """A clone, with a song of the user's in it, and a home with music."""
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
    """The report of a run that left all that a run leaves."""
    assert {path.name for path in run.iterdir()} >= RUN_FILES
    report = json.loads((run / "report.json").read_text())
    for split, name in {"validation": "predictions_validation", "test": "predictions"}.items():
        rows = (run / f"{name}.csv").read_text().splitlines()
        assert len(rows) == 1 + report[split]["n"]
    return report


def summary(report: dict) -> str:
    """For the log: how many clips, and what was right."""
    return ", ".join(
        f"{split} {report[split]['accuracy']:.3f} of {report[split]['n']}"
        for split in ("validation", "test")
        if report[split]
    )


def probabilities(walk, *names: str) -> list[dict[str, float]]:
    """What models say about song.mp3, in a process that is not part of the README."""
    printed = walk.run("python", CLASSIFY.format(names=names))
    return json.loads(printed.splitlines()[-1])


def test_quickstart_without_data(walk):
    printed = walk.run(*walk.take("^python3 -m venv .*/accelerate launch train_hf.py$"))
    assert "this is the quickstart" in printed
    assert "no music classifier" in printed
    run = walk.folder / "runs" / "quickstart"
    report = report_of(run)
    assert report["is_synthetic"]
    assert report["test"]["n"] == 20
    assert report["test"]["accuracy"] >= 0.8
    walk.note(f"    runs/quickstart: test accuracy {report['test']['accuracy']:.3f}")
    classifier = GenreClassifier(run)
    answers = [classifier(synthesise(g, 200_000, seconds=8.0), 22_050).genre for g in GENRES]
    n_right = sum(answer == genre for answer, genre in zip(answers, GENRES, strict=True))
    assert n_right >= 8, "of ten clips that it has not met"
    with pytest.raises(InputError, match="synthesised music"):
        publish(run, "me/quickstart")

    with walk.serve(*walk.take(PAGE)) as printed:
        assert "quickstart" in printed
        walk.note(f"    {printed.splitlines()[0]}")

    printed = walk.run(*walk.take("GenreClassifier..runs/quickstart"))
    assert re.fullmatch("|".join(GENRES), printed.splitlines()[0].strip("'"))
    walk.note(f"    {printed.splitlines()[0]}")


def test_training_with_the_archive(walk, hub, root):
    archive = walk.folder / "data" / "GTZAN Genre Collection.zip"
    standins.write_archive(archive, root.parent / "shared" / "data" / archive.name)
    n_requests = len(hub.requests)

    walk.run(*walk.take("^accelerate launch train_hf.py$"))
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
    walk.note(f"    runs/distilhubert-gtzan: {summary(report)}")
    fetched = {r.path.split("/")[-1] for r in hub.requests[n_requests:] if ENCODER in r.path}
    assert "model.safetensors" in fetched
    assert "pytorch_model.bin" not in fetched

    # "Without --model it serves the newest local run."
    with walk.serve("bash", "python app.py\n") as printed:
        assert "distilhubert-gtzan" in printed
        walk.note(f"    {printed.splitlines()[0]}")


def test_preparing_and_training_step_by_step(walk, hub):
    walk.run(*walk.take("^python -m data_prep .* --output_dir data/gtzan$"))
    dataset = load_from_disk(walk.folder / "data" / "gtzan")
    manifest = (walk.folder / "data" / "gtzan" / "manifest.csv").read_text().splitlines()
    assert (walk.folder / "data" / "gtzan" / "README.md").is_file()
    walk.note(f"    data/gtzan: {dict(dataset.num_rows)}, {len(manifest) - 1} rows in manifest.csv")

    walk.run(*walk.take("--dataset data/gtzan --output_dir runs/mine$"))
    report = report_of(walk.folder / "runs" / "mine")
    assert report["test"]["n"] == dataset.num_rows["test"]
    assert report["base_model_commit"] == hub.storage.load("models", ENCODER)["commits"][-1]["oid"]
    walk.note(f"    runs/mine: {summary(report)}")


def test_publishing_gives_the_model_back(walk, hub):
    walk.run(*walk.take(f"^python -m music_genre publish runs/mine {REPO}$"))
    files = hub.files(REPO)
    published = {*PUBLISHED, *PREDICTIONS} - {*CUSTOM_CODE.values()}
    assert set(files) == {*published, ".gitattributes"}
    assert hub.storage.load("models", REPO)["private"]
    for name in published:
        assert files[name] == (walk.folder / "runs" / "mine" / name).read_bytes()
    walk.note(f"    {REPO}: {', '.join(sorted(files))}")

    # From here on as on another machine: what the commands need comes from the Hub.
    walk.environment["HF_HOME"] = str(walk.log.with_name("cold cache"))
    pulled, local = probabilities(walk, REPO, "runs/mine")
    assert pulled == local
    walk.genre = max(local, key=local.get)
    walk.note(f"    {REPO} and runs/mine: {walk.genre} {local[walk.genre]:.4f}")


def test_serving_the_published_model(walk):
    with walk.serve(*walk.take(f"^python app.py --model {REPO}$")) as printed:
        assert REPO in printed
        answer = walk.run(*walk.take("^from gradio_client"))
        assert f"'{walk.genre}'" in answer
        walk.note(f"    {answer.strip()[:150]}")
        answer = walk.run(*walk.take_from("docs/serving.md", "^curl -sN"))
        assert "event: complete" in answer
        assert f'"{walk.genre}"' in answer
        walk.note(f"    {answer.strip().splitlines()[-1][:150]}")


def test_the_demo_as_a_space(walk, hub):
    walk.run(*walk.take(f"^python -m music_genre space you/music-genre --model {REPO}$"))
    space = hub.storage.load("spaces", "you/music-genre")
    files = hub.files("you/music-genre", "spaces")
    assert {"README.md", "app.py", "requirements.txt"} <= set(files)
    assert not [
        name for name in files if name.startswith(("data/", "runs/", "music_genre/training"))
    ]
    assert space["variables"]["MODEL_ID"]["value"] == REPO
    assert space["private"]
    walk.note(f"    you/music-genre: {len(files)} files, shows {REPO}")


def test_a_whole_library(walk):
    n_files = standins.write_music(Path(walk.environment["HOME"]) / "Music")
    block = walk.take(f"^python -m music_genre scan ~/Music --model {REPO} ")
    walk.run(*block)
    table = pyarrow.parquet.read_table(walk.folder / "genres.parquet").to_pylist()
    assert len(table) == n_files
    assert sum(row["genre"] in GENRES for row in table) == n_files - 1
    assert [row["path"].endswith("letter.mp3") for row in table if row["error"]] == [True]
    walk.note(f"    genres.parquet: {len(table)} rows, 1 with an error")
    again = walk.run(*block)  # "The same command continues after a stop."
    assert pyarrow.parquet.read_table(walk.folder / "genres.parquet").to_pylist() == table
    walk.note(f"    {again.splitlines()[-1]}")
    listed = walk.run(
        *walk.take_from("docs/library.md", "^python -m music_genre tag .*genres.parquet$")
    )
    assert "No file was changed" in listed
    walk.note(f"    {listed.splitlines()[-1]}")


def test_the_end_of_the_walk(walk):
    """The last block is the one that runs this; git sees only what the user put there."""
    walk.take("^python3 -m venv .*/python -m pytest -n auto --dist loadfile$")
    assert not walk.remaining
    status = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=walk.folder,
        check=True,
        capture_output=True,
        text=True,
    )
    assert {line[3:] for line in status.stdout.splitlines()} == GIVEN
