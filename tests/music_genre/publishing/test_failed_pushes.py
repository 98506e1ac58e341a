"""Pushes that fail: the reason in a sentence, nothing lost, and the next try sends the rest."""

import shlex

import pytest

from tests import python
from tests.hub import READER, WRITER, Fault
from tests.music_genre.publishing.clients import (
    LFS_FILES,
    WEIGHTS,
    assert_no_token,
    environment,
    promised,
    push_here,
    stored,
)

BUSY = {"Retry-After": "0"}  # the client waits a second, not up to eight
PUT = ("PUT", "^/storage/upload/")
COMMIT = ("POST", "/commit/main$")


@pytest.mark.parametrize(
    ("repo_id", "token", "fault", "message"),
    [
        ("you/x", None, None, "no token for the Hub: run `hf auth login`"),
        ("you/x", "hf_wrong", None, "does not accept the token"),
        ("you/x", READER, None, "The token for the Hub may only read"),
        ("somebody/else", WRITER, None, "this token has no such access"),
        ("you/a b", WRITER, None, "this is not a valid name for a repository"),
        ("you/public", WRITER, None, "you/public exists and is public"),
        ("you/x", WRITER, Fault("POST", "/api/repos/create", 429), "wait some minutes"),
        ("you/x", WRITER, Fault("POST", "/objects/batch", 403), "this token has no such access"),
        ("you/x", WRITER, Fault(*PUT, 500, headers=BUSY), "has an internal error (500)"),
        ("you/x", WRITER, Fault(*COMMIT, 409), "another process is changing the repository"),
        (
            "you/x",
            WRITER,
            Fault(*COMMIT, cut_after=500),
            "the connection failed or was interrupted",
        ),
    ],
)
def test_a_failed_push_says_why_and_how_to_try_again(
    hub, finished, tmp_path, repo_id, token, fault, message
):
    hub.add_repo("somebody/else")
    hub.add_repo("you/public")
    hub.faults += [fault] if fault else []
    before = {name: (finished / name).read_bytes() for name in (WEIGHTS, "config.json")}
    public = ["--public"] if fault else []
    failed = push_here(hub, tmp_path / "home", finished, repo_id, *public, token=token)
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert before == {name: (finished / name).read_bytes() for name in before}
    assert_no_token(failed.stdout, failed.stderr)
    if token != WRITER:
        assert token is None or token not in failed.stderr
        assert not hub.sent("POST", "/preupload/"), "known before anything is sent"

    command = shlex.split(last.split("try again: ")[1])
    assert command == ["python", "-m", "music_genre", "publish", str(finished), repo_id, *public]
    if fault:
        hub.faults.clear()
        already = stored(hub)
        result = push_here(hub, tmp_path / "home", *command[4:])
        assert result.returncode == 0, result.stderr
        assert set(hub.files(repo_id)) == promised(finished)
        assert "Published, for all to see: " in result.stdout
        assert not hub.storage.load("models", repo_id)["private"]
        assert len(stored(hub)) == len(LFS_FILES), "no object is sent twice"
        assert set(stored(hub)[: len(already)]) == set(already)


def test_what_xet_storage_refuses_is_one_sentence_too(hub, finished, tmp_path):
    """The real Hub is written by hf_xet; all that can be seen here is how it fails."""
    command = ["-m", "music_genre", "publish", finished, "you/x"]
    result = python.run(command, environment(hub, tmp_path, HF_HUB_DISABLE_XET=""))
    assert hub.sent("GET", "/xet-write-token/main")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert "this token has no such access" in last
    assert "try again: python -m music_genre publish" in last
