"""Publish a finished training run on the Hub, in one commit.

    python -m music_genre.publish runs/distilhubert-gtzan you/distilhubert-gtzan

The token comes from `hf auth login` or HF_TOKEN. What goes up is what a user of the model needs:
no checkpoints, optimiser states, pickles or audio.
"""

import argparse
import json
import sys
from pathlib import Path

from data_prep import InputError

PUBLISHED = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "report.json",
    "predictions.csv",
    "confusion_matrix.png",
    "learning_curves.png",
)


def check_access(repo_id: str | None, private: bool) -> str:
    """Make the repository, so that a missing right is known before hours of training.

    Returns:
        The full id, USER/NAME.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if not repo_id:
        raise InputError("--push_to_hub needs --hub_model_id USER/NAME.")
    api = HfApi()
    try:
        user = api.whoami()["name"]
        full_id = repo_id if "/" in repo_id else f"{user}/{repo_id}"
        return api.create_repo(full_id, private=private, exist_ok=True).repo_id
    except LocalTokenNotFoundError as error:
        raise InputError("There is no token for the Hub: run `hf auth login` first.") from error
    except HFValidationError as error:
        raise InputError(f"{repo_id} is no name for a model on the Hub: {error}") from error
    except HfHubHTTPError as error:
        raise InputError(
            f"The Hub refuses to write {repo_id} ({error.response.status_code}): the token must be "
            "valid and have the right to write there. `hf auth login` takes another."
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise InputError(f"The Hub cannot be reached ({type(error).__name__}).") from error


def publish(folder: Path, repo_id: str, private: bool = True) -> str:
    """Upload a finished run. Returns the address of the commit.

    Raises:
        InputError: no finished run, synthesised music, or the Hub refused; the folder stays.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from music_genre.model_card import model_card
    from music_genre.report import read_report

    report = read_report(folder)
    if not report or not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder} holds no finished run (model.safetensors and report.json).")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if report["is_synthetic"] or config.get("trained_on_synthetic_music"):
        raise InputError(
            f"{folder} was trained on synthesised music: a demonstration is not published."
        )
    full_id = check_access(repo_id, private)
    model_card(report, full_id).save(folder / "README.md")
    try:
        commit = HfApi().upload_folder(
            repo_id=full_id,
            folder_path=folder,
            allow_patterns=list(PUBLISHED),
            commit_message=f"Accuracy {(report['test'] or report['validation'])['accuracy']:.3f}",
        )
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise InputError(
            f"The upload to {full_id} broke off ({type(error).__name__}). The model is complete in "
            f"{folder}; try again: python -m music_genre.publish {folder} {full_id}"
        ) from error
    return str(commit)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m music_genre.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="what a training run left, e.g. runs/NAME")
    parser.add_argument("repo_id", help="USER/NAME")
    parser.add_argument("--public", action="store_true", help="default: private")
    arguments = parser.parse_args()
    try:
        print(publish(arguments.folder, arguments.repo_id, private=not arguments.public))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
