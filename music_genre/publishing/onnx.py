"""Export a fine-tuned model for ONNX Runtime and browsers, and check it against PyTorch.

    python -m music_genre.publishing.onnx runs/distilhubert-gtzan
    python -m music_genre.publishing.onnx runs/distilhubert-gtzan song.mp3 other.wav

It writes onnx/model.onnx into the folder, and onnx/model_quantized.onnx, its int8 form, if that
gives the same answers; with files, it compares the answers on them as well.
`python -m music_genre.publishing` exports too. In the graph, `input_values` is float32 of
shape (batch, samples), 16 kHz, each window with mean 0 and variance 1; `logits` has the shape
(batch, labels). For models of spectrograms, `input_features` or `input_values` holds the
spectrogram of one window.
"""

import argparse
import logging
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, SequenceFeatureExtractor

from music_genre.errors import InputError, exit_with_message
from music_genre.loading import (
    DEFAULT_WINDOW_SECONDS,
    find_model,
    load_classifier,
    load_feature_extractor,
)
from music_genre.publishing.quantized import QUANTIZED_FILE, compare, describe, export_quantized
from music_genre.windows import extract_features

ONNX_FILE = "onnx/model.onnx"  # where optimum looks
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MAX_DIFFERENCE = 1e-4  # of a logit: float32 sums in another order differ by about 1e-6
CHECKED_LENGTHS = (1.0, 0.5, 2.3)  # in windows: the graph must take any length
# Types of audio classifiers that transformers.js 4.3 knows
TRANSFORMERS_JS = ("audio-spectrogram-transformer", "hubert", "wav2vec2", "wavlm")


class OnnxError(InputError):
    """The model has no ONNX form; the message says why."""


def export(folder: Path) -> dict[str, Any]:
    """Write onnx/model.onnx into a model's folder, completely or not at all, and its int8 form.

    Returns:
        `max_difference`, the largest of a logit from PyTorch's, over several batches and lengths;
        `quantized`, what `export_quantized` returns; `transformers_js`, whether that knows models
        of this type.

    Raises:
        OnnxError: packages are missing, the exporter fails, or the graph computes other numbers.
        ModelError: the folder holds no model.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise OnnxError(f"The export to ONNX needs {', '.join(missing)}: install them with pip.")
    found = find_model(str(folder))
    model, feature_extractor = load_classifier(found), load_feature_extractor(found)
    path = folder / ONNX_FILE
    partial = path.with_suffix(f".{os.getpid()}.partial")
    path.parent.mkdir(exist_ok=True)
    try:
        _write(model, _examples(model, feature_extractor, 2, CHECKED_LENGTHS[0]), partial)
        difference = _difference(model, feature_extractor, partial)
        if not difference <= MAX_DIFFERENCE:
            raise OnnxError(
                f"The ONNX form of {folder} computes other numbers than PyTorch: logits differ by "
                f"up to {difference:.1g}."
            )
        quantized = export_quantized(model, feature_extractor, folder, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return {
        "max_difference": difference,
        "quantized": quantized,
        "transformers_js": model.config.model_type in TRANSFORMERS_JS,
    }


def _examples(
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    batch: int,
    n_windows: float,
) -> torch.Tensor:
    """Model input for noise: float32, shape (batch, ...)."""
    seconds = getattr(model.config, "window_seconds", DEFAULT_WINDOW_SECONDS) * n_windows
    noise = np.random.default_rng(batch).standard_normal(
        (batch, int(seconds * feature_extractor.sampling_rate))
    )
    return extract_features(feature_extractor, list(noise.astype(np.float32)))


def _write(model: PreTrainedModel, example: torch.Tensor, path: Path) -> None:
    class Logits(torch.nn.Module):
        """The graph has one output, not a dataclass."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.model(**{model.main_input_name: features}).logits

    dimensions = {0: "batch"} | ({1: "samples"} if example.ndim == 2 else {})
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:  # they report missing operators of torchvision
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Logits().eval(),
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[model.main_input_name],
                output_names=["logits"],
                dynamic_shapes=(dimensions,),
            )
            for graph in program.model.graphs():
                for node in graph:  # the exporter notes stack traces, with paths of this machine
                    node.metadata_props.clear()
            # One file: the model is far below protobuf's 2 GB.
            program.save(path, external_data=False)
    except Exception as error:  # the exporter may raise anything
        reason = (str(error).strip().splitlines() or [""])[0]
        raise OnnxError(
            f"A model of type {model.config.model_type} cannot be exported to ONNX "
            f"({type(error).__name__}: {reason[:120]})."
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _difference(
    model: PreTrainedModel, feature_extractor: SequenceFeatureExtractor, path: Path
) -> float:
    """Largest difference of a logit between the graph and the model, over batches and lengths."""
    import onnxruntime  # an optional package: `export` names it where it is missing

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name, largest = session.get_inputs()[0].name, 0.0
    for batch, n_windows in enumerate(CHECKED_LENGTHS, start=1):
        features = _examples(model, feature_extractor, batch, n_windows)
        with torch.inference_mode():
            expected = model(**{model.main_input_name: features}).logits.numpy()
        logits = session.run(["logits"], {name: features.numpy()})[0]
        largest = max(largest, float(np.abs(logits - expected).max()))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m music_genre.publishing.onnx",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="a model, e.g. what a training run left")
    parser.add_argument("files", type=Path, nargs="*", help="audio to compare the answers on")
    arguments = parser.parse_args()
    folder, files = arguments.folder, arguments.files
    with exit_with_message("Stopped.", OSError):
        exported = export(folder)
        print(f"{folder / ONNX_FILE}: logits within {exported['max_difference']:.1g} of PyTorch's.")
        is_kept = exported["quantized"]["is_kept"]
        left_out = "" if is_kept else "left out: "
        print(f"{folder / QUANTIZED_FILE}: {left_out}{describe(exported['quantized'])}.")
        if files and is_kept:
            found = find_model(str(folder))
            model, feature_extractor = load_classifier(found), load_feature_extractor(found)
            result = compare(model, feature_extractor, folder / QUANTIZED_FILE, files)
            print(f"On your files: {describe(result)}.")


if __name__ == "__main__":
    main()
