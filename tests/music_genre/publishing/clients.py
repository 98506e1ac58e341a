"""Clients of the Hub: in processes of their own, or in this one, which saves seconds of imports."""

import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
from huggingface_hub import close_session, constants

from music_genre.publishing.__main__ import main
from tests.hub import WRITER, HubDouble

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = "model.safetensors"
LFS_FILES = {WEIGHTS, "onnx/model.onnx", "onnx/model_quantized.onnx", "example.ogg",
             "confusion_matrix.png", "reliability.png", "learning_curves.png"}  # fmt: skip


def environment(hub: HubDouble, home: Path, token: str | None = WRITER, **more: str) -> dict:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | hub.environment(home, token) | {"PYTHONPATH": path} | more


def run(command: list[object], env: dict, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def push(hub: HubDouble, home: Path, *arguments: object, **more) -> subprocess.CompletedProcess:
    return run(["-m", "music_genre.publishing", *arguments], environment(hub, home, **more))


def push_here(
    hub: HubDouble, home: Path, *arguments: object, token: str | None = WRITER
) -> subprocess.CompletedProcess:
    """The same in this process, whose client reads its environment anew."""
    command = ["music_genre.publishing", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", command),
        client_of(environment(hub, home, token)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@contextmanager
def client_of(env: dict[str, str]) -> Iterator[None]:
    try:
        with mock.patch.dict(os.environ, env, clear=True):
            importlib.reload(constants)
            close_session()
            yield
    finally:
        importlib.reload(constants)
        close_session()


def start_push(hub: HubDouble, folder: Path, home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "music_genre.publishing", str(folder), "you/x"],
        env=environment(hub, home), cwd=ROOT, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored(hub: HubDouble) -> list[str]:
    """Hashes of the LFS objects that came in whole, in order, one entry for each time."""
    whole = [r for r in hub.sent("PUT", "^/storage/upload/") if r.status == 200]
    return [r.path.split("/")[-1] for r in whole]


def assert_no_token(*texts: str | bytes) -> None:
    for text in texts:
        assert WRITER not in (text if isinstance(text, str) else text.decode("latin-1"))


def training(dataset: Path, tiny_config: Path, output_dir: Path, repo_id: str) -> list[object]:
    return [
        ROOT / "train_hf.py", "--dataset", dataset, "--model_name_or_path", tiny_config,
        "--from_scratch", "True", "--freeze_feature_encoder", "False", "--window_seconds", 1,
        "--num_train_epochs", 1, "--learning_rate", 0.01, "--per_device_train_batch_size", 16,
        "--precision", "fp32", "--disable_tqdm", "True", "--output_dir", output_dir,
        "--push_to_hub", "True", "--hub_model_id", repo_id,
    ]  # fmt: skip


def enlarge(folder: Path) -> str:
    """Give a run 8 MB of weights, more than sockets buffer; returns their hash."""
    content = np.random.default_rng(0).bytes(8_000_000)
    (folder / WEIGHTS).write_bytes(content)
    report = json.loads((folder / "report.json").read_text())
    report["onnx"]["weights_sha256"] = sha256(content)
    (folder / "report.json").write_text(json.dumps(report))
    return sha256(content)
