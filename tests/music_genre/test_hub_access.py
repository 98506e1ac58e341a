"""What is checked before a push, and the Hub's answers in words."""

import os

import pytest
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx

from music_genre.errors import InputError
from music_genre.hub_access import check_access, explain_hub_errors
from tests.commands import client_of
from tests.hub import WRITER, HubDouble


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubDouble(tmp_path_factory.mktemp("hub")) as hub:
        hub.add_repo("you/public")
        hub.add_repo("you/hidden", private=True)
        with client_of(os.environ | hub.environment(tmp_path_factory.mktemp("home"), WRITER)):
            yield hub


@pytest.mark.parametrize(
    ("name", "private", "message"),
    [
        (
            "public",
            True,
            "you/public exists and is public: make it private .* --public [(]in training",
        ),
        ("hidden", False, "you/hidden exists and is private: make it public .* or omit --public"),
    ],
)
def test_a_repository_of_the_other_visibility_is_refused(hub, name, private, message):
    assert check_access(name, not private) == f"you/{name}"
    with pytest.raises(InputError, match=message):
        check_access(name, private)


def answer(status: int, said: str | None = None) -> HfHubHTTPError:
    response = httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co"))
    return HfHubHTTPError("400 Client Error", response=response, server_message=said)


IN_WORDS = "HTTP status client error (403 Forbidden), domain: https://huggingface.co"


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (answer(500), None, "the Hub has an internal error (500); try again later."),
        (answer(500), answer(409), "another process is changing the repository"),
        (answer(400, "The card is bad.\nSee line 3."), None, "Hub: The card is bad (400)."),
        (RuntimeError("cannot upload"), RuntimeError(IN_WORDS), "this token has no such access"),
        (RuntimeError("no"), ConnectionError(), "the connection failed or was interrupted; check"),
        (ValueError("no:\nno"), None, "you/x cannot be written on the Hub: no."),
    ],
)
def test_the_innermost_answer_of_the_hub_is_the_reason(error, cause, reason):
    with pytest.raises(InputError) as raised, explain_hub_errors("you/x"):
        raise error from cause
    assert reason in str(raised.value) and "\n" not in str(raised.value)


def test_a_sentence_stays_as_it_is():
    with pytest.raises(InputError, match=r"^A sentence\.$"), explain_hub_errors("you/x"):
        raise InputError("A sentence.")
