"""Publish a finished training run on the Hub, in one commit.

Only files that a user of the model needs are uploaded: no checkpoints, optimiser states, pickles or
audio of the data, and no names of one's own files. `music-genre publish` and train_hf.py call it.
"""

import hashlib
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import httpx  # the client's own, not the package of that name

from music_genre.errors import InputError
from music_genre.hub_access import check_access, explain_hub_errors
from music_genre.publishing.card import CUSTOM_CODE, EXAMPLE_FILE, is_gtzan, model_card
from music_genre.publishing.onnx import ONNX_FILE, QUANTIZED_FILE, OnnxError, export
from music_genre.report import PREDICTIONS_FILES, headline_split, read_report, write_report

WEIGHTS_FILE = "model.safetensors"
# A clip for the widget on the model's page, synthesised by this project: nobody owns rights in it.
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "jazz.ogg"
HANDLER = Path(__file__).with_name("handler.py")  # for Inference Endpoints
PUBLISHED = (
    WEIGHTS_FILE,
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "report.json",
    "train_tracks.json",  # hashes
    "confusion_matrix.png",
    "reliability.png",
    "learning_curves.png",
    EXAMPLE_FILE,
    HANDLER.name,
    ONNX_FILE,
    QUANTIZED_FILE,
    *CUSTOM_CODE.values(),
)
# These name files and artists, and a repository keeps its history when it is made public, so they
# are uploaded only for GTZAN.
PREDICTIONS = tuple(PREDICTIONS_FILES.values())


def publish(folder: Path, repo_id: str, private: bool = True) -> str:
    """Upload a finished run. Files that the Hub already has are not sent again.

    Returns:
        The address of the commit.

    Raises:
        InputError: there is no finished run, it was trained on synthesised music, or the Hub
            refused. The folder is complete in any case, and the message says how to try again.
    """
    report = read_finished(folder)
    try:
        full_id = check_access(repo_id, private)
        add_published_files(folder, report, full_id)
        return _commit(folder, full_id, report)
    except InputError as error:
        command = ["python", "-m", "music_genre", "publish", str(folder), repo_id]
        again = shlex.join(command + ([] if private else ["--public"]))
        raise InputError(
            f"{error} The model is complete in {folder}; try again: {again}"
        ) from error


def read_finished(folder: Path) -> dict[str, Any]:
    """Return the report of a run that may be published, with the model's type and sampling rate.

    Raises:
        InputError: the run may not be published; the message says why.
    """
    report = read_report(folder) or {}
    # A report of another program has no figures to write a card from.
    if "leakage_description" not in report or not (folder / WEIGHTS_FILE).is_file():
        raise InputError(
            f"{folder} holds no finished run of train_hf.py ({WEIGHTS_FILE} and report.json)."
        )
    config = _read_json(folder / "config.json")
    if report.get("is_synthetic") or config.get("trained_on_synthetic_music"):
        raise InputError(
            f"{folder} was trained on synthesised music: a demonstration is not published."
        )
    return report | {
        "model_type": config.get("model_type"),
        "sampling_rate": _read_json(folder / "preprocessor_config.json").get("sampling_rate"),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    return content if isinstance(content, dict) else {}


def add_published_files(folder: Path, report: dict[str, Any], full_id: str) -> None:
    """Add the files that only a published model needs: ONNX forms, example, handler.py and card.

    A second call writes the same bytes, so that a second try does not upload them again.
    """
    if add_onnx(folder, report):
        write_report(report, folder)
    shutil.copyfile(EXAMPLE, folder / EXAMPLE_FILE)
    shutil.copyfile(HANDLER, folder / HANDLER.name)
    model_card(report, full_id, read_base_license(report)).save(folder / "README.md")


def read_base_license(report: dict[str, Any]) -> dict[str, str] | None:
    """Return the licence fields of the base model's card; None if it cannot be read."""
    if report["from_scratch"] or not report["base_model"]:
        return None
    try:
        # Not ModelCard.load, which would read a local file of that name.
        card = HfApi().model_info(report["base_model"]).card_data or {}
    except (httpx.HTTPError, OSError, ValueError):
        return None
    names = ("license", "license_name", "license_link")
    return {name: card.get(name) for name in names if isinstance(card.get(name), str)}


def add_onnx(folder: Path, report: dict[str, Any]) -> bool:
    """Export to ONNX unless it was done for these weights; return whether the report changed."""
    sha256 = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    known = report.get("onnx")
    if known and known.get("weights_sha256") == sha256:
        names = [ONNX_FILE, QUANTIZED_FILE] if known["quantized"]["is_kept"] else [ONNX_FILE]
        if all((folder / name).is_file() for name in names):
            return False
    for name in (ONNX_FILE, QUANTIZED_FILE):  # these are from other weights
        (folder / name).unlink(missing_ok=True)
    print("Making the ONNX forms and comparing them with the model, which takes minutes.")
    try:
        report["onnx"] = export(folder) | {"weights_sha256": sha256}
    except OnnxError as error:
        report["onnx"] = None
        print(f"Published without ONNX: {error}", file=sys.stderr)
    return True


def _commit(folder: Path, full_id: str, report: dict[str, Any]) -> str:
    api = HfApi()
    wanted = PUBLISHED + (PREDICTIONS if is_gtzan(report) else ())
    local = [name for name in wanted if (folder / name).is_file()]
    size = sum((folder / name).stat().st_size for name in local) / 1e6
    print(f"Uploading {len(local)} files, {size:.0f} MB, to {full_id}.")
    if not is_gtzan(report):
        print(f"{' and '.join(PREDICTIONS)} name your files and artists: they stay here.")
    name, message = headline_split(report), "Add model and report"
    if name:
        message = f"Accuracy {report[name]['accuracy']:.3f} on {name}"
    with explain_hub_errors(full_id):
        known = set(PUBLISHED) | set(PREDICTIONS)
        stale = set(api.list_repo_files(full_id)) & known - set(local)
        # Not upload_folder: with hf_xet it makes a commit every few minutes.
        commit = api.create_commit(
            full_id,
            [CommitOperationAdd(name, folder / name) for name in local]
            + [CommitOperationDelete(name) for name in sorted(stale)],
            commit_message=message,
        )
    return commit.commit_url
