"""`--push_to_hub` through the real client to a Hub on loopback."""

import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pandas
import pytest
import yaml
from datasets import Audio, load_from_disk
from huggingface_hub import DatasetCard, HfApi

from data_prep.__main__ import main
from data_prep.archive import MARKER
from data_prep.card import read_card
from data_prep.gtzan import DESCRIPTIONS
from data_prep.options import Options
from data_prep.prepare import prepare
from data_prep.selection import select_custom
from data_prep.sources.recognise import recognise
from data_prep.upload import needs_rights
from music_genre.errors import InputError
from music_genre.training import data
from tests.commands import client_of, run_here
from tests.hub import WRITER, Fault


def load(name: str | Path):
    """As training does, without its process for data_prep."""
    folder = Path("pulled")
    prepare([name], folder)
    return data.load_data(folder, data.DataArguments(dataset=str(folder)), 16_000)


pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Training prepares a dataset into data/."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def gtzan(archive, tmp_path_factory) -> Path:
    """The synthesised archive without the marker: data_prep takes it for GTZAN's audio."""
    path = tmp_path_factory.mktemp("gtzan") / "gtzan.zip"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if name != MARKER:
                target.writestr(name, source.read(name))
    return path


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Where the command prepares the archive of a test, once."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def downloaded(gtzan, out, tmp_path_factory) -> Path:
    """A dataset of data_prep as `hf download` gives it: the card beside the Parquet files."""
    folder = tmp_path_factory.mktemp("downloaded")
    prepare([gtzan], out / gtzan.stem, split="random")
    for name, clips in load_from_disk(out / gtzan.stem).items():
        clips.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    shutil.copy(out / gtzan.stem / "README.md", folder)
    return folder


@pytest.fixture
def push(hub, out, tmp_path):
    def run(archive: Path, *options: str, token: str | None = WRITER):
        return run_here(
            main, archive, "--split", "random", "--output_dir", out / archive.stem, "--push_to_hub",
            *options, environment=os.environ | hub.environment(tmp_path / "home", token),
        )  # fmt: skip

    return run


def assert_refused(result: subprocess.CompletedProcess, *sentences: str) -> None:
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert all(sentence in errors[0] for sentence in sentences), errors
    assert "Traceback" not in result.stderr


def test_private_data_does_not_go_to_a_public_repository(hub, gtzan, push):
    hub.add_repo("you/gtzan", private=False, kind="datasets")
    result = push(gtzan, "you/gtzan")
    assert_refused(result, "you/gtzan exists and is public")
    assert hub.commits("you/gtzan", "datasets") == []


def test_public_upload_of_gtzan_is_refused_unless_said_twice(hub, gtzan, archive, push):
    result = push(gtzan, "you/gtzan", "--public")
    assert_refused(result, "no licence", "--public --public")
    assert hub.storage.load("datasets", "you/gtzan") is None
    result = push(gtzan, "you/gtzan", "--public", "--public")
    assert result.returncode == 0, result.stderr
    assert "(public)" in result.stdout
    assert not hub.storage.load("datasets", "you/gtzan")["private"]
    assert push(archive, "you/synthetic", "--public").returncode == 0, "it has a licence"
    assert not hub.storage.load("datasets", "you/synthetic")["private"]
    own = {"is_synthetic": False, "license": None}
    assert needs_rights(own)
    assert not needs_rights(own | {"license": "cc-by-4.0"})
    assert not needs_rights({"is_synthetic": True})


def test_a_private_repository_gets_audio_card_and_manifest(hub, archive, push, out, tmp_path):
    result = push(archive, "you/synthetic")
    assert result.returncode == 0, result.stderr
    assert "(private)" in result.stdout
    assert hub.storage.load("datasets", "you/synthetic")["private"]
    files = hub.files("you/synthetic", "datasets")
    _, metadata, text = files["README.md"].decode().split("---\n", 2)
    metadata = yaml.safe_load(metadata)
    assert metadata["license"] == "apache-2.0"
    assert "Synthesised music in ten styles" in text
    for entry in metadata["configs"][0]["data_files"]:
        (name,) = (n for n in files if n.startswith(entry["path"].rstrip("*")))
        table = pandas.read_parquet(io.BytesIO(files[name]))
        assert len(table) == {"train": 40, "validation": 10, "test": 10}[entry["split"]]
        assert all(cell["bytes"].startswith(b"RIFF") for cell in table["audio"])
    assert files["manifest.csv"] == (out / archive.stem / "manifest.csv").read_bytes()
    with client_of(os.environ | hub.environment(tmp_path / "home")):
        _, source = load("you/synthetic")
    assert source.is_synthetic, "nobody publishes a demonstration by mistake"
    assert (source.dataset_name, source.leakage) == ("synthesised music", None)


def test_training_gets_from_the_hub_what_was_pushed(hub, gtzan, push, out, tmp_path):
    """The audio, and the artists, by which the linear probe is chosen and intervals are drawn."""
    assert push(gtzan, "you/gtzan").returncode == 0
    with client_of(os.environ | hub.environment(tmp_path / "home")):
        pulled, source = load("you/gtzan")
        inode = Path("pulled/manifest.csv").stat().st_ino
        hub.faults.append(Fault("GET", "/datasets/you/gtzan", status=500, times=1))
        prepare(["you/gtzan"], Path("pulled"))
        assert Path("pulled/manifest.csv").stat().st_ino == inode, "nobody can say that it changed"
    state = json.loads(Path("pulled/preparation.json").read_text())["sources"][0]["state"]
    assert state == hub.commits("you/gtzan", "datasets")[-1]["oid"]
    prepared = load_from_disk(out / gtzan.stem)
    for split, clips in prepared.items():
        for column in ("track_id", "artist", "genre", "start"):
            assert pulled[split][column] == clips[column], column
        clips = clips.cast_column("audio", Audio(decode=False))
        bytes_of = [[c["bytes"] for c in of["audio"]] for of in (pulled[split], clips)]
        assert bytes_of[0] == bytes_of[1]
    assert (source.dataset_name, source.split) == ("GTZAN", "random"), (
        "the card names and links them"
    )
    assert source.split_description == DESCRIPTIONS["random"]
    assert not source.is_synthetic
    known = json.loads((out / gtzan.stem / "preparation.json").read_text())["leakage"]
    for kind in ("test_tracks", "artist_in_train", "artist_unknown", "samples_in_train"):
        assert source.leakage[kind] == known[kind], kind
    assert known["artist_in_train"], "there is something to count"


def test_what_is_said_of_other_clips_is_not_believed(downloaded, tmp_path):
    """A folder that was downloaded is known, until somebody changes the dataset or the card."""
    folder = shutil.copytree(downloaded, tmp_path / "changed")
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "unknown", "GTZAN's"
    said = card.data.data_prep
    changes = ({"n_clips": 61}, None), ({"split": ["random"]}, None), ({"seed": "7"}, None)
    for change, split in (({}, None), ({}, "artist"), *changes):
        card.data.data_prep = said | change
        card.save(folder / "README.md")
        source = recognise(folder, Options())
        done = select_custom(source.each_track(), source, Options(split=split, min_tracks=1))
        is_known = done["split_description"] == DESCRIPTIONS["random"]
        assert is_known == (not change and not split)


def test_a_split_that_is_given_has_the_seed_with_which_it_was_drawn(downloaded, tmp_path, capsys):
    """Training refused it by the name that it has here, after all was decoded."""
    folder = shutil.copytree(downloaded, tmp_path / "seven")
    card = DatasetCard.load(folder / "README.md")
    card.data.data_prep |= {"seed": 7}
    card.save(folder / "README.md")
    prepare([folder], Path("given"), split="given", seed=1)
    _, known = data.load_data(Path("given"), data.DataArguments(split="given"), 16_000)
    assert (known.split, known.seed) == ("random", 7)
    assert "course-comparable, seed 7. Leakage" in Path("given", "README.md").read_text()
    prepare([folder], Path("given"), split="given", seed=1)
    assert "is prepared already" in capsys.readouterr().out
    with pytest.raises(InputError, match="with a different seed"):
        prepare([folder], Path("given"), split="given", seed=7)


@pytest.mark.parametrize("content", ["no metadata", "---\na: [\n---\n"])
def test_a_card_of_anybody_says_nothing(tmp_path, content):
    card = tmp_path / "README.md"
    assert read_card(card) == {}
    card.write_text(content)
    assert read_card(card) == {}


def test_what_the_hub_does_not_give_is_one_sentence(hub, tmp_path):
    """There is none, or the Hub cannot be reached, or a script makes it."""
    nowhere = "you/none is neither a file or folder here nor a dataset of the Hub"
    with pytest.raises(InputError, match=nowhere):
        prepare(["you/none"], tmp_path / "out")
    with client_of(os.environ | hub.environment(tmp_path / "home", WRITER)):
        with pytest.raises(InputError, match=nowhere):
            prepare(["you/none"], tmp_path / "out")
        api = HfApi()
        api.create_repo("you/gtzan", repo_type="dataset")
        script = {"path_or_fileobj": b"import datasets", "path_in_repo": "gtzan.py"}
        api.upload_file(**script, repo_id="you/gtzan", repo_type="dataset")
        with pytest.raises(InputError, match=r"script.*`hf download you/gtzan --repo-t"):
            prepare(["you/gtzan"], tmp_path / "out")


@pytest.mark.parametrize(
    ("token", "repo_id", "sentence"),
    [
        (None, "you/x", "hf auth login"),
        (WRITER, "somebody/x", "has no such access"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(archive, push, token, repo_id, sentence):
    result = push(archive, repo_id, token=token)
    assert_refused(result, sentence)
    assert WRITER not in result.stdout + result.stderr


def test_a_broken_upload_is_one_sentence_and_can_be_repeated(hub, archive, push):
    hub.faults.append(Fault("POST", "/commit/", status=403, times=1))
    assert_refused(push(archive, "you/x"), "403")
    result = push(archive, "you/x")
    assert result.returncode == 0, result.stderr
