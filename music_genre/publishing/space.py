"""Publish the demo as a Space that shows a model: source files that git knows, no data."""

import subprocess
import sys
from pathlib import Path

from music_genre.errors import InputError
from music_genre.hub import check_access, explain_hub_errors

SPACE_FILES = ("README.md", "LICENSE", "app.py", "packages.txt", "requirements.txt")
SPACE_FOLDERS = ("data_prep/", "music_genre/", "docs/")
ROOT = Path(__file__).resolve().parents[2]


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
    with explain_hub_errors(model_id, "found"):
        is_model_private = api.model_info(model_id).private
    full_id = check_access(space_id, private, repo_type="space")
    card = space_card(root / "README.md", model_id, is_model_private)
    operations = [
        CommitOperationAdd(name, card.encode() if name == "README.md" else root / name)
        for name in names
    ]
    with explain_hub_errors(full_id):
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
