"""Publish a finished training run on the Hub, in one commit.

With the model goes what its user needs: no checkpoints, optimiser states, pickles or audio of the
data. The token comes from `hf auth login` or HF_TOKEN.
"""

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.utils import httpx  # the client's own: not the package of that name

from music_genre.errors import InputError
from music_genre.hub_access import check_access, explain_hub_errors
from music_genre.publishing.card import EXAMPLE_FILE, model_card
from music_genre.publishing.onnx import ONNX_FILE, OnnxError, export
from music_genre.publishing.quantized import QUANTIZED_FILE
from music_genre.report import PREDICTIONS_FILES, headline_split, read_report, write_report

WEIGHTS_FILE = "model.safetensors"
# A clip for the widget on the model's page, synthesised by this project: nobody has rights in it.
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "jazz.ogg"
HANDLER = Path(__file__).with_name("handler.py")  # for Inference Endpoints
PUBLISHED = (
    WEIGHTS_FILE,
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "report.json",
    *PREDICTIONS_FILES.values(),
    "confusion_matrix.png",
    "reliability.png",
    "learning_curves.png",
    EXAMPLE_FILE,
    HANDLER.name,
    ONNX_FILE,
    QUANTIZED_FILE,
)


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
        add_published_files(folder, report, full_id)
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
    report = read_report(folder)
    if not report or not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{folder} holds no finished run ({WEIGHTS_FILE} and report.json).")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if report["is_synthetic"] or config.get("trained_on_synthetic_music"):
        raise InputError(
            f"{folder} was trained on synthesised music: a demonstration is not published."
        )
    if config["model_type"] == "mel-cnn":
        raise InputError(
            f"{folder} holds a mel CNN, the baseline of this project, which a plain `pipeline` "
            "cannot load: it is not published."
        )
    return report


def add_published_files(folder: Path, report: dict[str, Any], full_id: str) -> None:
    """Add what only a published model needs: ONNX forms, the example, handler.py, the card.

    A second call writes the same bytes, so that a second try does not upload them again.
    """
    if add_onnx(folder, report):
        write_report(report, folder)
    for name, source in ((EXAMPLE_FILE, EXAMPLE), (HANDLER.name, HANDLER)):
        _replace(folder / name, partial(shutil.copyfile, source))
    card = model_card(report, full_id, read_base_license(report))
    _replace(folder / "README.md", card.save)


def read_base_license(report: dict[str, Any]) -> dict[str, str] | None:
    """The licence in the card of the model that was fine-tuned; None if it cannot be read."""
    if report["from_scratch"] or not report["base_model"]:
        return None
    try:
        fields = ModelCard.load(report["base_model"]).data.to_dict()
    except (httpx.HTTPError, OSError, ValueError):
        return None
    names = ("license", "license_name", "license_link")
    return {name: fields[name] for name in names if isinstance(fields.get(name), str)}


def add_onnx(folder: Path, report: dict[str, Any]) -> bool:
    """Export to ONNX unless that was done for these weights; returns whether the report changed."""
    sha256 = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    known = report.get("onnx")
    if known and known["weights_sha256"] == sha256 and "quantized" in known:
        names = [ONNX_FILE, QUANTIZED_FILE] if known["quantized"]["is_kept"] else [ONNX_FILE]
        if all((folder / name).is_file() for name in names):
            return False
    report["onnx"] = None
    print("Making the ONNX forms and comparing them with the model, which takes minutes.")
    try:
        report["onnx"] = export(folder) | {"weights_sha256": sha256}
    except OnnxError as error:
        for name in (ONNX_FILE, QUANTIZED_FILE):  # of other weights
            (folder / name).unlink(missing_ok=True)
        print(f"Published without ONNX: {error}", file=sys.stderr)
    return True


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is whole at any moment, the old one or the new."""
    new = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        write(new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _commit_message(report: dict[str, Any]) -> str:
    name = headline_split(report)
    return f"Accuracy {report[name]['accuracy']:.3f} on {name}" if name else "Add model and report"


def _commit(folder: Path, full_id: str, report: dict[str, Any]) -> str:
    api = HfApi()
    local = [name for name in PUBLISHED if (folder / name).is_file()]
    size = sum((folder / name).stat().st_size for name in local) / 1e6
    print(f"Uploading {len(local)} files, {size:.0f} MB, to {full_id}.")
    with explain_hub_errors(full_id):
        stale = set(api.list_repo_files(full_id)) & set(PUBLISHED) - set(local)
        # Not upload_folder: with hf_xet it makes a commit every few minutes.
        commit = api.create_commit(
            full_id,
            [CommitOperationAdd(name, folder / name) for name in local]
            + [CommitOperationDelete(name) for name in sorted(stale)],
            commit_message=_commit_message(report),
        )
    return commit.commit_url
