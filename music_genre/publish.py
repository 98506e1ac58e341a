"""Publish on the Hub: a finished training run, in one commit, or the demo as a Space.

    python -m music_genre.publish runs/distilhubert-gtzan you/distilhubert-gtzan
    python -m music_genre.publish --space you/music-genre --model you/distilhubert-gtzan

Private unless --public is said. The token comes from `hf auth login` or HF_TOKEN. With a model goes
what its user needs: no checkpoints, optimiser states, pickles or audio of the data. A Space gets
the source files of the app that git knows, and no data.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep import InputError, errors_in_a_sentence

WEIGHTS_FILE = "model.safetensors"
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
    "example.wav",
    "onnx/model.onnx",
)
SPACE_FILES = ("README.md", "LICENSE", "app.py", "packages.txt", "requirements.txt")
SPACE_FOLDERS = ("data_prep/", "music_genre/", "docs/")
ROOT = Path(__file__).resolve().parent.parent
EXAMPLE_SECONDS = 5.0
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
    with _explained(repo_id):
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
def _explained(repo_id: str, verb: str = "written") -> Iterator[None]:
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
    command = ["python", "-m", "music_genre.publish", str(folder), repo_id]
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
    from music_genre.model_card import model_card

    if add_onnx(folder, report):
        text = json.dumps(report, indent=2) + "\n"
        _replace(folder / "report.json", lambda path: path.write_text(text, encoding="utf-8"))
    if not (folder / "example.wav").is_file():
        _replace(folder / "example.wav", _write_example)
    card = model_card(report, full_id)
    _replace(folder / "README.md", card.save)


def add_onnx(folder: Path, report: dict[str, Any]) -> bool:
    """Export to ONNX unless that was done for these weights; returns whether the report changed."""
    from music_genre.onnx import ONNX_FILE, OnnxError, export

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


def _write_example(path: Path) -> None:
    """A clip for the widget on the model's page, which nobody has rights in."""
    from data_prep import audio
    from data_prep.synthetic import synthesise

    clip = synthesise("jazz", seed=1, seconds=EXAMPLE_SECONDS, sampling_rate=16_000)
    path.write_bytes(audio.wav_bytes(audio.to_pcm16(clip)))


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
    with _explained(full_id):
        stale = set(api.list_repo_files(full_id)) & set(PUBLISHED) - set(local)
        # Not upload_folder: with hf_xet it makes a commit every few minutes.
        commit = api.create_commit(
            full_id,
            [CommitOperationAdd(name, folder / name) for name in local]
            + [CommitOperationDelete(name) for name in sorted(stale)],
            commit_message=f"Accuracy {(report['test'] or report['validation'])['accuracy']:.3f}",
        )
    return commit.commit_url


# --- the demo -------------------------------------------------------------------------------


def publish_space(space_id: str, model_id: str, private: bool = True, root: Path = ROOT) -> str:
    """Upload the app as a Space that shows a model.

    Args:
        root: a checkout of this repository.

    Returns:
        The address of the commit.

    Raises:
        InputError: the model is not there, the Hub refused, or `root` is no git checkout.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    names = space_files(root)
    with _explained(model_id, "found"):
        is_model_private = api.model_info(model_id).private
    full_id = check_access(space_id, private, repo_type="space")
    card = space_card(root / "README.md", model_id, is_model_private)
    operations = [
        CommitOperationAdd(name, card.encode() if name == "README.md" else root / name)
        for name in names
    ]
    with _explained(full_id):
        api.add_space_variable(full_id, "MODEL_ID", model_id)  # before the files: one build, not 2
        commit = api.create_commit(
            full_id, operations, repo_type="space", commit_message=f"Show {model_id}"
        )
    if is_model_private:
        print(
            f"{model_id} is private: in the settings of {full_id}, add a token that may read it as "
            "the secret HF_TOKEN.",
            file=sys.stderr,
        )
    return commit.commit_url


def space_files(root: Path) -> list[str]:
    """What a Space needs of a checkout, of what git knows: no data can slip in."""
    try:
        listing = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"{root} is no git checkout: a Space is made from one.") from error
    names = [name for name in listing.split("\0") if name and (root / name).is_file()]
    wanted = [n for n in names if n in SPACE_FILES or n.startswith(SPACE_FOLDERS)]
    if missing := {"README.md", "app.py", "requirements.txt"} - set(wanted):
        raise InputError(f"git does not know {', '.join(sorted(missing))} in {root}: add it first.")
    return wanted


def space_card(readme: Path, model_id: str, is_model_private: bool) -> str:
    """README.md whose front matter names the model, and has it fetched when the Space is built."""
    from huggingface_hub import RepoCard

    card = RepoCard.load(readme)
    card.data["models"] = [model_id]
    if not is_model_private:  # the build has no token
        card.data["preload_from_hub"] = [model_id]
    return str(card)


# --- the command line -----------------------------------------------------------------------


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m music_genre.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, nargs="?", help="a training run's, e.g. runs/NAME")
    parser.add_argument("repo_id", nargs="?", help="USER/NAME of the model")
    parser.add_argument("--space", metavar="USER/NAME", help="publish the demo, not a model")
    parser.add_argument("--model", metavar="USER/NAME", help="what the demo shows")
    parser.add_argument("--public", action="store_true", help="default: private")
    arguments = parser.parse_args(argv)
    is_model = bool(arguments.folder and arguments.repo_id)
    is_space = bool(arguments.space and arguments.model)
    if is_model == is_space or bool(arguments.space) != bool(arguments.model):
        parser.error("give FOLDER USER/NAME, or --space USER/NAME --model USER/NAME")
    return arguments


def main() -> None:
    arguments = parse_arguments(sys.argv[1:])
    stopped = "Stopped. The same command goes on: what is on the Hub is not sent again."
    with errors_in_a_sentence(stopped):
        if arguments.space:
            address = publish_space(arguments.space, arguments.model, not arguments.public)
        else:
            address = publish(arguments.folder, arguments.repo_id, not arguments.public)
    print(address)


if __name__ == "__main__":
    main()
