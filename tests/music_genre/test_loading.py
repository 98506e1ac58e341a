"""Finding models: folders, the stand-in Hub, its cache, and a Hub that refuses or is silent."""

import os
import socket
import time
from unittest import mock

import pytest

from music_genre import GenreClassifier, loading
from music_genre.errors import InputError
from music_genre.loading import find_model
from tests.commands import client_of
from tests.hub import Fault, HubDouble

INDEX = "model.safetensors.index.json"  # of weights in several files


@pytest.fixture(scope="module")
def hub(tmp_path_factory, tiny_classifier):
    with HubDouble(tmp_path_factory.mktemp("hub")) as hub:
        files = {path.name: path.read_bytes() for path in tiny_classifier.iterdir()}
        hub.push("you/tiny", files | {"training_args.bin": b"a pickle", INDEX: b"{}"})
        hub.add_repo("somebody/secret", private=True)
        yield hub


@pytest.fixture
def online(hub, tmp_path):
    """Requests go to the stand-in; the cache is empty."""
    hub.faults.clear()
    with client_of(os.environ | hub.environment(tmp_path / "home")):
        yield hub


def sentence(model_id: str, revision: str | None = None) -> str:
    with pytest.raises(InputError) as error:
        find_model(model_id, revision)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_a_model_without_a_commit(tiny_classifier, tmp_path):
    assert find_model(str(tiny_classifier)).commit is None
    assert "no config.json" in sentence(str(tmp_path))
    assert "no revision v1" in sentence(str(tiny_classifier), "v1")
    assert "this is not a valid name" in sentence(str(tmp_path / "nothing" / "there"))


def test_only_what_is_needed_is_downloaded_and_the_commit_is_known(online):
    found = find_model("you/tiny")
    assert found.commit == online.commits("you/tiny")[-1]["oid"] == found.path.name
    assert (found.path / "model.safetensors").is_file() and (found.path / INDEX).is_file()
    assert not (found.path / "training_args.bin").exists()
    assert GenreClassifier("you/tiny", "main").commit == found.commit
    with pytest.raises(InputError, match="you/tiny at v9 cannot be found"):
        GenreClassifier("you/tiny", "v9")


@pytest.mark.parametrize("revision", [None, "main", "commit"])
def test_without_a_network_the_cache_serves(online, tmp_path, revision):
    revision = online.commits("you/tiny")[-1]["oid"] if revision == "commit" else revision
    found = find_model("you/tiny", revision)
    offline = {"HF_HOME": str(tmp_path / "home")}
    for how in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        with client_of(os.environ | offline | how):
            assert find_model("you/tiny", revision) == found
            assert "the connection failed" in sentence("you/other")
    online.faults.append(Fault("GET", "/api/models/", status=503))
    assert find_model("you/tiny", revision) == found


def test_what_the_hub_does_not_have_is_one_sentence(online):
    find_model("you/tiny")  # another revision is not taken from the cache
    for model_id, revision in (
        ("you/missing", None),
        ("somebody/secret", None),
        ("you/tiny", "v9"),
    ):
        at = f" at {revision}" if revision else ""
        expected = f"{model_id}{at} cannot be found here or on the Hub: it does not exist or"
        assert sentence(model_id, revision).startswith(expected)
    gone = {"X-Error-Code": "RevisionNotFound"}
    online.faults.append(Fault("GET", "/revision/main", status=404, headers=gone))
    assert "you/tiny at main cannot be found" in sentence("you/tiny", "main"), "though it was there"


def test_a_gated_model_says_where_to_ask(online):
    gated = {"X-Error-Code": "GatedRepo"}
    online.faults.append(Fault("GET", "/api/models/you/tiny", status=403, headers=gated))
    assert "ask for access at its page) (403)" in sentence("you/tiny")


@pytest.mark.parametrize(("status", "mend"), [(429, "wait some minutes"), (500, "try again later")])
def test_a_hub_in_trouble_is_one_sentence(online, status, mend):
    online.faults.append(Fault("GET", "/api/models/", status=status))
    assert mend in sentence("you/tiny")


def test_who_has_no_token_hears_that_there_is_no_such_model(online):
    missing = {"X-Error-Code": "RepoNotFound"}
    online.faults.append(Fault("GET", "/api/models/you/missing", status=401, headers=missing))
    assert "it does not exist or you may not read it" in sentence("you/missing")


def test_a_storage_that_cannot_be_reached_is_one_sentence(online, monkeypatch):
    """The Hub answers, and hf_xet, which fetches the files, raises a plain RuntimeError."""
    fail = mock.Mock(side_effect=RuntimeError("Data processing error: no route\nto the host"))
    monkeypatch.setattr(loading, "snapshot_download", fail)
    assert sentence("you/tiny") == (
        "you/tiny cannot be found here or on the Hub: Data processing error: no route."
    )


def test_a_hub_that_does_not_answer_is_one_sentence_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "HUB_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections and is silent
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        silent = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
        began = time.monotonic()
        with client_of(os.environ | silent):
            message = sentence("nobody/nothing")
    assert message.startswith("nobody/nothing cannot be found here or on the Hub: the connection")
    assert time.monotonic() - began < 20, "the client alone would repeat it for minutes"
