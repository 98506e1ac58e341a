"""The int8 form of an ONNX graph, for browsers, and how its answers differ from PyTorch's.

Weights of matrix products become int8, one scale per output channel, and activations are quantized
as they come (onnxruntime's `quantize_dynamic`). Convolutions stay in float32. transformers.js takes
this file by default in a browser (`q8` on wasm).
"""

import logging
import os
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, SequenceFeatureExtractor

from music_genre import old_audio as audio
from music_genre.loading import DEFAULT_WINDOW_SECONDS
from music_genre.windows import clip_probabilities, cut, extract_features

QUANTIZED_FILE = "onnx/model_quantized.onnx"  # where transformers.js looks
# Of a probability, the largest of the genres, as the mean over windows. More is another model.
MAX_MEAN_DIFFERENCE = 0.05
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"  # ten synthesised pieces of 10 s
MAX_CHECKED_SECONDS = 30.0  # of each file


def quantize(source: Path, target: Path) -> None:
    """Write the int8 form of the graph in `source`."""
    from onnxruntime.quantization import quantize_dynamic  # optional: `export` names it

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends steps that are for convolutions
    try:
        quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
    finally:
        root.setLevel(level)


def compare(
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    path: Path,
    files: list[Path] | None = None,
) -> dict[str, float]:
    """Compare a graph's answers with PyTorch's, window by window.

    Args:
        path: the graph.
        files: audio files; by default the ten pieces that the project synthesised.

    Returns:
        `windows`, how many were compared; `max_difference` and `mean_difference` of a probability,
        of each window the largest of its genres; `changed`, the share of windows of which another
        genre is the likeliest.

    Raises:
        AudioError: a file cannot be decoded.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rate = feature_extractor.sampling_rate
    window = int(getattr(model.config, "window_seconds", DEFAULT_WINDOW_SECONDS) * rate)
    differences, changed = [], []
    for file in files or sorted(EXAMPLES.glob("*.ogg")):
        waveform, _ = audio.decode(file, MAX_CHECKED_SECONDS, to=rate)
        features = extract_features(feature_extractor, cut(waveform, window))
        with torch.inference_mode():
            expected = clip_probabilities(model, [features])[0].numpy()
        logits = session.run(["logits"], {name: features.numpy()})[0]
        found = torch.from_numpy(logits).softmax(-1).numpy()
        differences.extend(np.abs(found - expected).max(axis=1))
        changed.extend(found.argmax(axis=1) != expected.argmax(axis=1))
    return {
        "windows": len(differences),
        "max_difference": float(max(differences)),
        "mean_difference": float(np.mean(differences)),
        "changed": float(np.mean(changed)),
    }


def export_quantized(
    model: PreTrainedModel, feature_extractor: SequenceFeatureExtractor, folder: Path, source: Path
) -> dict[str, float | bool]:
    """Write onnx/model_quantized.onnx into a model's folder if its answers are PyTorch's.

    Returns:
        What `compare` returns, and `is_kept`: whether `mean_difference` is at most
        MAX_MEAN_DIFFERENCE. The file is there in that case only.
    """
    path = folder / QUANTIZED_FILE
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        quantize(source, partial)
        result = compare(model, feature_extractor, partial)
        result["is_kept"] = result["mean_difference"] <= MAX_MEAN_DIFFERENCE
        if result["is_kept"]:
            os.replace(partial, path)
        else:
            path.unlink(missing_ok=True)  # of other weights
    finally:
        partial.unlink(missing_ok=True)
    return result


def describe(result: dict[str, float | bool]) -> str:
    """What `compare` or `export_quantized` returned, in words."""
    return (
        f"in {result['windows']} windows of audio, probabilities differ from PyTorch's by "
        f"{result['mean_difference']:.3f} on average and {result['max_difference']:.3f} at most, "
        f"and {result['changed']:.0%} of the windows get another genre"
    )
