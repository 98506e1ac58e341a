"""Access to the Hugging Face Hub: check that the token may write there, and explain errors.

It is used to load and publish models, to publish Spaces, and by data_prep to upload datasets. The
token comes from `hf auth login` or HF_TOKEN.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import httpx  # the client's own, not the package of that name

from music_genre.errors import InputError

NO_TOKEN = "There is no token for the Hub: run `hf auth login`, or set HF_TOKEN."
REASONS = {  # why the Hub refuses, by the HTTP status of its answer
    401: "it does not accept the token; `hf auth login --force` replaces it (HF_TOKEN, if it is "
    "set, takes precedence)",
    402: "the account has no credit left",
    403: "this token has no such access (to write, use a name under your own account and a token "
    "that may write; to read what is gated, ask for access at its page)",
    404: "it does not exist or you may not read it; if it is private, run `hf auth login`",
    409: "another process is changing the repository at the same time",
    429: "there were too many requests; wait some minutes",
}


def check_access(repo_id: str, private: bool, repo_type: str = "model") -> str:
    """Create the repository if it does not exist, and check that it can be written to.

    Call it before any long work. `private=True` of `create_repo` has no effect on a repository
    that exists, so the visibility is checked here: private data must not become public.

    Args:
        repo_type: `model`, `dataset` or `space`.

    Returns:
        The full id, USER/NAME.

    Raises:
        InputError: there is no token, it is wrong or may not write there, or the repository exists
            and is public although `private` is True (or the other way round).
    """
    api = HfApi()
    with explain_hub_errors(repo_id):
        try:
            user = api.whoami()
        except LocalTokenNotFoundError as error:
            raise InputError(NO_TOKEN) from error
        if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise InputError(
                "The token for the Hub may only read: make one that may write at "
                "https://huggingface.co/settings/tokens, and give it to `hf auth login`."
            )
        full_id = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
        sdk = {"space_sdk": "gradio"} if repo_type == "space" else {}
        api.create_repo(full_id, private=private, repo_type=repo_type, exist_ok=True, **sdk)
        # create_repo accepts another user's public repository, so check the write access too.
        api.auth_check(full_id, repo_type=repo_type, write=True)
        is_private = api.repo_info(full_id, repo_type=repo_type).private
    if private != is_private:
        now, asked, verb = ("public", "private", "add")
        if is_private:
            now, asked, verb = ("private", "public", "omit")
        training = f" (in training: --hub_private_repo {is_private})"
        raise InputError(
            f"{full_id} exists and is {now}: make it {asked} in its settings, or {verb} "
            f"--public{training if repo_type == 'model' else ''}."
        )
    return full_id


@contextmanager
def explain_hub_errors(repo_id: str, verb: str = "written") -> Iterator[None]:
    """Turn any error of the Hub's client into an InputError of one sentence.

    Args:
        verb: completes "REPO_ID cannot be ... on the Hub".
    """
    try:
        yield
    except InputError:
        raise
    except HFValidationError as error:
        reason = "this is not a valid name for a repository"
        raise InputError(f"{repo_id} cannot be {verb} on the Hub: {reason}.") from error
    # The uploading threads and hf_xet raise RuntimeError; a refused card raises ValueError.
    except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{repo_id} cannot be {verb} on the Hub: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """Return the reason in words, from the Hub's innermost answer if there is one."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    answer = next((e for e in reversed(chain) if isinstance(e, HfHubHTTPError)), None)
    # hf_xet, which does the uploads if it is installed, gives the status only as text.
    in_words = re.search(r"HTTP status \w+ error \((\d{3})", str(chain[-1]))
    if not answer and not in_words:
        if any(isinstance(e, httpx.HTTPError | ConnectionError | TimeoutError) for e in chain):
            return "the connection failed or was interrupted; check whether this machine is online"
        return _first_line(error)
    status = answer.response.status_code if answer else int(in_words[1])
    if status == 401 and isinstance(answer, RepositoryNotFoundError):
        status = 404  # the Hub answers 401 if there is no token
    if status >= 500:
        return f"the Hub has an internal error ({status}); try again later"
    return f"{REASONS.get(status) or _first_line(answer or error)} ({status})"


def _first_line(error: BaseException) -> str:
    text = getattr(error, "server_message", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")
