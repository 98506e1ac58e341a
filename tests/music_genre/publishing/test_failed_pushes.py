"""Pushes that fail: the reason in a sentence, nothing lost, and the next try sends the rest."""

import shlex
import shutil
import time
from pathlib import Path

import pytest

from tests import forked
from tests.hub import READER, WRITER, Fault, HubDouble
from tests.music_genre.publishing.clients import (
    LFS_FILES,
    WEIGHTS,
    assert_no_token,
    enlarge,
    environment,
    promised,
    push_here,
    sha256,
    start_push,
    stored,
)


@pytest.fixture(scope="module", autouse=True)
def always_cut(pushed, tmp_path_factory):
    """A push that is under way from the start of this module on: it fails, but not soon."""
    root = tmp_path_factory.mktemp("cut")
    folder = Path(shutil.copytree(pushed[1], root / "run"))
    weights = enlarge(folder)
    with HubDouble(root / "hub") as hub:
        hub.faults.append(Fault("PUT", weights, cut_after=1_000_000))
        process, printed = start_push(hub, folder, root / "home")
        yield hub, folder, weights, process, printed
        process.kill()


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
        ("you/a b", WRITER, None, "no repository can be named so"),
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
        assert len(stored(hub)) == len(LFS_FILES), "no object is sent twice"
        assert set(stored(hub)[: len(already)]) == set(already)


def test_a_line_that_is_cut_once_is_taken_up_by_the_client(hub, large, tmp_path):
    folder, weights = large
    hub.faults.append(Fault("PUT", weights, cut_after=1_000_000, times=1))
    result = push_here(hub, tmp_path, folder, "you/x")
    assert result.returncode == 0, result.stderr
    cut, whole = hub.sent("PUT", weights)
    assert cut.status is None
    assert 1_000_000 < cut.n_received < whole.n_received == 8_000_000


def test_killed_in_the_middle_the_next_try_sends_the_rest(hub, large, tmp_path):
    folder, weights = large
    hub.faults.append(Fault("PUT", weights, hold_after=1_000_000, times=1))
    process, _ = start_push(hub, folder, tmp_path / "home")
    assert hub.held.wait(60)
    while len(stored(hub)) < len(LFS_FILES) - 1:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert hub.sent("PUT", weights)[0].n_received < 8_000_000
    assert not hub.commits("you/x")
    assert sha256((folder / WEIGHTS).read_bytes()) == weights

    result = push_here(hub, tmp_path / "home", folder, "you/x")
    assert result.returncode == 0, result.stderr
    assert stored(hub)[-1] == weights
    in_repository = [sha256(hub.files("you/x")[name]) for name in LFS_FILES]
    assert sorted(stored(hub)) == sorted(in_repository), "each object came in whole once"


def test_what_xet_storage_refuses_is_one_sentence_too(hub, finished, tmp_path):
    """The real Hub is written by hf_xet; all that can be seen here is how it fails."""
    command = ["-m", "music_genre", "publish", finished, "you/x"]
    result = forked.run(command, environment(hub, tmp_path, HF_HUB_DISABLE_XET=""))
    assert hub.sent("GET", "/xet-write-token/main")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert "this token has no such access" in last
    assert "try again: python -m music_genre publish" in last


def test_a_line_that_is_always_cut(always_cut):
    """The client tries six times, for 23 seconds: they pass while the other tests run."""
    hub, folder, weights, process, printed = always_cut
    process.join(120)
    assert process.exitcode == 2
    error = printed.read_text()
    last = error.strip().splitlines()[-1]
    assert "Traceback" not in error
    assert "the connection failed or was interrupted" in last
    assert [r.status for r in hub.sent("PUT", weights)] == [None] * 6
    assert not hub.commits("you/x")
    assert sha256((folder / WEIGHTS).read_bytes()) == weights
    hub.faults.clear()
    already = set(stored(hub))
    assert len(already) == len(LFS_FILES) - 1
    command = shlex.split(last.split("try again: ")[1])
    result = forked.run(command[1:], environment(hub, folder.parent / "home"))
    assert result.returncode == 0, result.stderr
    assert set(stored(hub)) - already == {weights}
    assert len(stored(hub)) == len(LFS_FILES)
