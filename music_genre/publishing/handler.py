"""Serve this model on Inference Endpoints: average over windows of the whole file.

The model was measured in this way; the Endpoint's own pipeline would process a file in one pass.
This file is published with each model and needs no other code of the project, only what the
Endpoint's image has: torch, transformers and the program ffmpeg.

    POST audio (Content-Type: audio/mpeg, audio/wav, ...), or {"inputs": "<base64 of a file>"}
    answer: [{"label": "jazz", "score": 0.93}, ...], the likeliest first
"""

import base64
import binascii
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import pipeline

MAX_SECONDS = 3600  # per file; the rest is not used
MAX_DECODING_SECONDS = 60  # an hour of MP3 takes about 5; a malicious file could take forever
BATCH_SIZE = 16  # windows in one pass
MAX_GAP = 0.1  # of a window, as in music_genre/windows.py
# Containers that hold their own samples; ffmpeg would follow a playlist to other files and hosts.
CONTAINERS = "aac,ac3,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp4,mp3,ogg,wav,w64"


class EndpointHandler:
    def __init__(self, path: str = "") -> None:
        self.classify = pipeline(
            "audio-classification",
            path,
            device=0 if torch.cuda.is_available() else -1,
            # If transformers lacks the model type, its code is published beside this file.
            trust_remote_code=Path(path, "modeling_efficientat.py").is_file(),
            model_kwargs={"use_safetensors": True},
            batch_size=BATCH_SIZE,
        )
        self.config = self.classify.model.config
        self.rate = self.classify.feature_extractor.sampling_rate
        self.window = int(getattr(self.config, "window_seconds", 10.0) * self.rate)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Classify `data["inputs"]`, a file's bytes or their base64; `parameters` may have `top_k`.

        Raises:
            ValueError: the input is not audio or is empty; the toolkit answers with status 400.
        """
        parameters = data.get("parameters") or {}
        is_known = isinstance(parameters, dict) and isinstance(parameters.get("top_k"), int | None)
        if not is_known:
            raise ValueError('parameters are {"top_k": a whole number}.')
        windows = self.cut(decode(as_bytes(data.get("inputs")), self.rate))
        mean: Counter[str] = Counter()
        for answer in self.classify(windows, top_k=self.config.num_labels):
            mean.update({row["label"]: row["score"] / len(windows) for row in answer})
        ranked = mean.most_common(parameters.get("top_k"))
        return [{"label": label, "score": score} for label, score in ranked]

    def cut(self, waveform: np.ndarray) -> list[np.ndarray]:
        """Windows that cover the file evenly; a shorter file is looped."""
        if len(waveform) < self.window:
            return [np.resize(waveform, self.window)]
        n = max(1, int(np.ceil(len(waveform) / self.window - MAX_GAP)))
        starts = np.linspace(0, len(waveform) - self.window, n).round().astype(int)
        return [waveform[start : start + self.window] for start in starts]


def as_bytes(inputs: Any) -> bytes:
    if isinstance(inputs, bytes | bytearray):
        return bytes(inputs)
    try:
        return base64.b64decode(inputs, validate=True)
    except (TypeError, binascii.Error, ValueError):
        raise ValueError("inputs must be a file's bytes, or their base64 in JSON.") from None


def decode(content: bytes, rate: int) -> np.ndarray:
    """Return a mono float32 waveform, shape (samples,), at `rate` hertz."""
    with tempfile.NamedTemporaryFile() as file:  # MP4 may have to be read from its end
        file.write(content)
        file.flush()
        command = [
            "ffmpeg", "-nostdin", "-v", "error",
            "-format_whitelist", CONTAINERS, "-protocol_whitelist", "file,pipe",
            "-i", file.name, "-vn", "-t", str(MAX_SECONDS), "-ac", "1", "-ar", str(rate),
            "-f", "f32le", "pipe:1",
        ]  # fmt: skip
        try:
            result = subprocess.run(
                command, capture_output=True, check=False, timeout=MAX_DECODING_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"It takes more than {MAX_DECODING_SECONDS} s to decode.") from None
    waveform = np.frombuffer(result.stdout, np.float32)
    if len(waveform) < rate // 10 or not np.isfinite(waveform).all():
        raise ValueError("It is not audio in a format known here, or shorter than 0.1 s.")
    return waveform
