"""Clients of the Hub: in processes of their own, or in this one, which saves seconds of imports."""

import hashlib
import os
import subprocess
from pathlib import Path

from music_genre.__main__ import main
from music_genre.publishing.hub import PUBLISHED
from tests.commands import run_here
from tests.hub import WRITER, HubDouble

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = "model.safetensors"
LFS_FILES = {WEIGHTS, "onnx/model.onnx", "onnx/model_quantized.onnx", "example.ogg",
             "confusion_matrix.png", "reliability.png", "learning_curves.png"}  # fmt: skip


def environment(hub: HubDouble, home: Path, token: str | None = WRITER, **more: str) -> dict:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | hub.environment(home, token) | {"PYTHONPATH": path} | more


def push_here(
    hub: HubDouble, home: Path, *arguments: object, token: str | None = WRITER
) -> subprocess.CompletedProcess:
    return run_here(main, "publish", *arguments, environment=environment(hub, home, token))


def space_here(hub: HubDouble, home: Path, *arguments: object) -> subprocess.CompletedProcess:
    return run_here(main, "space", *arguments, environment=environment(hub, home))


def promised(folder: Path) -> set[str]:
    """What is in the repository of a run that was published, of one's own music."""
    return {name for name in PUBLISHED if (folder / name).is_file()} | {".gitattributes"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored(hub: HubDouble) -> list[str]:
    """Hashes of the LFS objects that came in whole, in order, one entry for each time."""
    whole = [r for r in hub.sent("PUT", "^/storage/upload/") if r.status == 200]
    return [r.path.split("/")[-1] for r in whole]


def assert_no_token(*texts: str | bytes) -> None:
    for text in texts:
        assert WRITER not in (text if isinstance(text, str) else text.decode("latin-1"))


def train_here(
    hub: HubDouble, home: Path, dataset: Path, tiny_config: Path, output_dir: Path, repo_id: str
) -> subprocess.CompletedProcess:
    import train_hf  # it needs torchaudio, and the other clients do not
    from tests.training_runs import flags

    options = flags(
        dataset, tiny_config, output_dir, num_train_epochs=1, per_device_train_batch_size=16,
        push_to_hub=True, hub_model_id=repo_id,
    )  # fmt: skip
    return run_here(train_hf.main, *options, environment=environment(hub, home))
