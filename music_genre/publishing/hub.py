"""Publish a finished training run on the Hub, in one commit.

With the model goes what its user needs: no checkpoints, optimiser states, pickles or audio of the
data. The token comes from `hf auth login` or HF_TOKEN.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from music_genre.errors import InputError
from music_genre.publishing.card import EXAMPLE_FILE, model_card

WEIGHTS_FILE = "model.safetensors"
# A clip for the widget on the model's page, synthesised by this project: nobody has rights in it.
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "jazz.ogg"
PUBLISHED = (
    WEIGHTS_FILE,
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "report.json",
    "predictions.csv",
    "confusion_matrix.png",
    "reliability.png",
    "learning_curves.png",
    EXAMPLE_FILE,
    "onnx/model.onnx",
)
REASONS = {  # why the Hub does not do what it is asked, by the status of its answer
    401: "it does not accept the token, and `hf auth login --force` takes another (HF_TOKEN, where "
    "it is set, wins)",
    403: "this token has no right to write there (take a name under your own account, or a token "
    "that may write)",
    404: "there is no such repository that this token may see",
    409: "something else is changing the repository at the same time",
    412: "something else changed the repository at the same time",
    413: "it is too large",
    429: "there were too many requests, and it wants a pause of some minutes",
}


# --- may we? --------------------------------------------------------------------------------


def check_access(repo_id: str | None, private: bool, repo_type: str = "model") -> str:
    """Make the repository and see that it can be written, before hours of training.

    Returns:
        The full id, USER/NAME.

    Raises:
        InputError: no token, a wrong one, no right to write there, or the repository is there and
            as public as it should not be (or as private).
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    if not repo_id:
        raise InputError("--push_to_hub needs --hub_model_id USER/NAME.")
    api = HfApi()
    with explained(repo_id):
        try:
            user = api.whoami()
        except LocalTokenNotFoundError as error:
            raise InputError(
                "There is no token for the Hub: run `hf auth login`, or set HF_TOKEN."
            ) from error
        if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise InputError(
                "The token for the Hub may only read: make one that may write at "
                "https://huggingface.co/settings/tokens, and give it to `hf auth login`."
            )
        full_id = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
        sdk = {"space_sdk": "gradio"} if repo_type == "space" else {}
        api.create_repo(full_id, private=private, repo_type=repo_type, exist_ok=True, **sdk)
        # create_repo is content with a public repository of somebody else.
        api.auth_check(full_id, repo_type=repo_type, write=True)
        is_private = api.repo_info(full_id, repo_type=repo_type).private
    if is_private and not private:
        raise InputError(
            f"{full_id} exists and is private: make it public in its settings, or leave --public "
            "out (in training: --hub_private_repo True)."
        )
    if private and not is_private:
        raise InputError(
            f"{full_id} exists and is public: make it private in its settings, or say --public "
            "(in training: --hub_private_repo False)."
        )
    return full_id


@contextmanager
def explained(repo_id: str, verb: str = "written") -> Iterator[None]:
    """Whatever the client raises becomes one sentence for a person."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx  # the client's own: not the package of that name

    try:
        yield
    except InputError:
        raise
    except HFValidationError as error:
        raise InputError(f"{repo_id} is no name for a repository on the Hub.") from error
    # RuntimeError: what the uploading threads and hf_xet raise. ValueError: the card is refused.
    except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{repo_id} cannot be {verb} on the Hub: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """What happened: from the innermost answer of the Hub, or the lack of one."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    answer = next((e for e in reversed(chain) if isinstance(e, HfHubHTTPError)), None)
    # hf_xet, which uploads where it is installed, tells the status in words only.
    in_words = re.search(r"HTTP status \w+ error \((\d{3})", str(chain[-1]))
    if not answer and not in_words:
        if any(isinstance(e, httpx.HTTPError | ConnectionError | TimeoutError) for e in chain):
            return "the connection to it failed or broke off"
        return _first_line(error)
    status = answer.response.status_code if answer else int(in_words[1])
    if status >= 500:
        return f"it has a fault of its own just now ({status})"
    return f"{REASONS.get(status) or _first_line(answer or error)} ({status})"


def _first_line(error: BaseException) -> str:
    text = getattr(error, "server_message", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")


# --- a model --------------------------------------------------------------------------------


def publish(folder: Path, repo_id: str, private: bool = True) -> str:
    """Upload a finished run. What the Hub has already is not sent again.

    Returns:
        The address of the commit.

    Raises:
        InputError: no finished run, synthesised music, or the Hub refused; the folder is complete
            whatever happens, and the message says how to try again.
    """
    report = read_finished(folder)
    again = retry_command(folder, repo_id, private)
    try:
        full_id = check_access(repo_id, private)
        complete(folder, report, full_id)
        return _commit(folder, full_id, report)
    except InputError as error:
        raise InputError(
            f"{error} The model is complete in {folder}; try again: {again}"
        ) from error


def retry_command(folder: Path, repo_id: str, private: bool) -> str:
    command = ["python", "-m", "music_genre.publishing", str(folder), repo_id]
    return shlex.join(command + ([] if private else ["--public"]))


def read_finished(folder: Path) -> dict[str, Any]:
    """The report of a run that may be published."""
    from music_genre.report import read_report

    report = read_report(folder)
    if not report or not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{folder} holds no finished run ({WEIGHTS_FILE} and report.json).")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if report["is_synthetic"] or config.get("trained_on_synthetic_music"):
        raise InputError(
            f"{folder} was trained on synthesised music: a demonstration is not published."
        )
    return report


def complete(folder: Path, report: dict[str, Any], full_id: str) -> None:
    """Add what only a published model needs: the ONNX form, the example, the card with its name.

    The same again the second time, so that a second try finds on the Hub what the first brought.
    """
    if add_onnx(folder, report):
        text = json.dumps(report, indent=2) + "\n"
        _replace(folder / "report.json", lambda path: path.write_text(text, encoding="utf-8"))
    _replace(folder / EXAMPLE_FILE, lambda path: shutil.copyfile(EXAMPLE, path))
    card = model_card(report, full_id)
    _replace(folder / "README.md", card.save)


def add_onnx(folder: Path, report: dict[str, Any]) -> bool:
    """Export to ONNX unless that was done for these weights; returns whether the report changed."""
    from music_genre.publishing.onnx import ONNX_FILE, OnnxError, export

    sha256 = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    known = report.get("onnx")
    if known and known["weights_sha256"] == sha256 and (folder / ONNX_FILE).is_file():
        return False
    report["onnx"] = None
    try:
        report["onnx"] = {"max_difference": export(folder), "weights_sha256": sha256}
    except OnnxError as error:
        (folder / ONNX_FILE).unlink(missing_ok=True)  # of other weights
        print(f"Published without ONNX: {error}", file=sys.stderr)
    return True


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is whole at any moment, the old one or the new."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _commit(folder: Path, full_id: str, report: dict[str, Any]) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    local = [name for name in PUBLISHED if (folder / name).is_file()]
    with explained(full_id):
        stale = set(api.list_repo_files(full_id)) & set(PUBLISHED) - set(local)
        # Not upload_folder: with hf_xet it makes a commit every few minutes.
        commit = api.create_commit(
            full_id,
            [CommitOperationAdd(name, folder / name) for name in local]
            + [CommitOperationDelete(name) for name in sorted(stale)],
            commit_message=f"Accuracy {(report['test'] or report['validation'])['accuracy']:.3f}",
        )
    return commit.commit_url
