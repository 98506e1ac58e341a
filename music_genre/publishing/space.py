"""Publish the demo as a Space that shows a model, with only the files it needs and no data."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, RepoCard

from music_genre.errors import InputError
from music_genre.hub_access import check_access, explain_hub_errors

ROOT = Path(__file__).resolve().parents[2]
SPACE_CARD = Path(__file__).with_name("space.md")
SPACE_FILES = (  # glob patterns; README.md is made from space.md
    "app.py",
    "LICENSE",
    "music_genre/*.py",
    "music_genre/efficientat/*.py",
    "music_genre/demo/*.py",
    "music_genre/demo/*.css",
    "music_genre/demo/*.js",
    "music_genre/examples/*.ogg",
)
SDK_PACKAGES = {"fastapi", "gradio", "huggingface_hub"}  # the Space's sdk_version picks gradio
SCAN_PACKAGES = {"fsspec", "mutagen", "pyarrow", "tqdm"}
# A Space has no GPU by default, and PyTorch's wheels for CPU are a tenth of the size of the others.
CPU_WHEELS = "--extra-index-url https://download.pytorch.org/whl/cpu"


def publish_space(space_id: str, model_id: str, private: bool = True, root: Path = ROOT) -> str:
    """Upload the app as a Space that shows a model.

    Args:
        root: a checkout of this repository.

    Returns:
        The address of the commit.

    Raises:
        InputError: the model is not on the Hub, the Hub refuses, or `root` is not a checkout.
    """
    if Path(model_id).is_dir():
        raise InputError(
            f"{model_id} is a folder, and a Space shows a model of the Hub. Publish it first: "
            f"{shlex.join(['python', '-m', 'music_genre', 'publish', model_id])} USER/NAME"
        )
    api = HfApi()
    files = space_files(root)
    with explain_hub_errors(model_id, "found"):
        model = api.model_info(model_id)
        is_model_private = bool(model.private or model.gated)  # the build has no token
    full_id = check_access(space_id, private, repo_type="space")
    texts = {
        "README.md": space_card(model_id, is_model_private),
        "requirements.txt": space_requirements(root),
    }
    operations = [CommitOperationAdd(name, root / name) for name in files]
    operations += [CommitOperationAdd(name, text.encode()) for name, text in texts.items()]
    with explain_hub_errors(full_id):
        # Before the files, so that the Space is built once.
        api.add_space_variable(full_id, "MODEL_ID", model_id)
        commit = api.create_commit(
            full_id, operations, repo_type="space", commit_message=f"Show {model_id}"
        )
    if is_model_private:
        print(
            f"{model_id} is private or gated: in the settings of {full_id}, add a token that may "
            "read it as the secret HF_TOKEN.",
            file=sys.stderr,
        )
    return commit.commit_url


def space_files(root: Path) -> list[str]:
    """Return the files of a checkout that the Space needs, relative to `root`."""
    found = sorted(
        path.relative_to(root).as_posix()
        for pattern in SPACE_FILES
        for path in root.glob(pattern)
        if path.is_file()
    )
    needed = ("app.py", "pyproject.toml", "music_genre/__init__.py")
    if missing := [name for name in needed if not (root / name).is_file()]:
        raise InputError(
            f"{root} lacks {', '.join(missing)}: publish the Space from a checkout of the project."
        )
    return found


def space_requirements(root: Path) -> str:
    """Return the Space's requirements.txt: pyproject.toml's packages for classifying and page."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    left_out = SDK_PACKAGES | SCAN_PACKAGES
    lines = [line for line in lines if re.match(r"[\w-]+", line)[0] not in left_out]
    return "\n".join(["# On GPU hardware, remove the next line.", CPU_WHEELS, *lines, ""])


def space_card(model_id: str, is_model_private: bool) -> str:
    """The Space's README.md: its front matter names the model and has it fetched at build time."""
    card = RepoCard.load(SPACE_CARD)
    card.data["models"] = [model_id]
    if not is_model_private:  # the build has no token
        card.data["preload_from_hub"] = [model_id]
    return str(card)
