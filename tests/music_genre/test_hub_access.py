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
        ("public", True, "you/public exists and is public: make it private .* or add --public"),
        ("hidden", False, "you/hidden exists and is private: make it public .* or omit --public"),
    ],
)
def test_a_repository_of_the_other_visibility_is_refused(hub, name, private, message):
    assert check_access(name, not private) == f"you/{name}"
    with pytest.raises(InputError, match=message):
        check_access(name, private)


def answer(status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co")
    return HfHubHTTPError("", response=httpx.Response(status, request=request))


def test_the_innermost_answer_of_the_hub_is_the_reason():
    said = r"you/x cannot be written .* another process is changing .* \(409\)"
    with pytest.raises(InputError, match=said), explain_hub_errors("you/x"):
        raise answer(500) from answer(409)
