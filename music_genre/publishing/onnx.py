"""Export a fine-tuned model for ONNX Runtime and transformers.js, and check it against PyTorch.

    python -m music_genre.publishing.onnx runs/distilhubert-gtzan  # writes onnx/model.onnx there

`python -m music_genre.publishing` does this by itself. In the graph, `input_values` is float32 of
shape (batch, samples), 16 kHz, each window with mean 0 and variance 1; `logits` has the shape
(batch, labels). Models that take spectrograms take theirs, of the length they were trained on.
"""

import argparse
import logging
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from music_genre.errors import InputError, exit_with_message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, SequenceFeatureExtractor

ONNX_FILE = "onnx/model.onnx"  # where transformers.js and optimum look
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of a logit: float32 sums in another order differ by some 1e-6
CHECKED_LENGTHS = (1.0, 0.5, 2.3)  # windows; the graph must not have learnt one length by heart


class OnnxError(InputError):
    """The model has no ONNX form; the message says why."""


def export(folder: Path) -> float:
    """Write onnx/model.onnx into a model's folder, whole or not at all.

    Returns:
        The largest difference of a logit from PyTorch's, over several batches and lengths.

    Raises:
        OnnxError: packages are missing, the exporter gives up, or the graph computes other numbers.
        ModelError: the folder holds no model.
    """
    from music_genre.loading import find_model, load_classifier, load_feature_extractor

    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise OnnxError(f"The export to ONNX needs {', '.join(missing)}: install requirements.txt.")
    location = find_model(str(folder))
    model, feature_extractor = load_classifier(location), load_feature_extractor(location)
    path = folder / ONNX_FILE
    partial = path.with_suffix(f".{os.getpid()}.partial")
    path.parent.mkdir(exist_ok=True)
    try:
        _write(model, _examples(model, feature_extractor, 2, CHECKED_LENGTHS[0]), partial)
        difference = _difference(model, feature_extractor, partial)
        if not difference <= TOLERANCE:
            raise OnnxError(
                f"The ONNX form of {folder} computes other numbers than PyTorch: logits differ by "
                f"up to {difference:.1g}."
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return difference


def _examples(
    model: "PreTrainedModel",
    feature_extractor: "SequenceFeatureExtractor",
    batch: int,
    n_windows: float,
) -> "torch.Tensor":
    """Model input for noise: float32, shape (batch, ...)."""
    from music_genre.loading import DEFAULT_WINDOW_SECONDS
    from music_genre.windows import extract_features

    seconds = getattr(model.config, "window_seconds", DEFAULT_WINDOW_SECONDS) * n_windows
    noise = np.random.default_rng(batch).standard_normal(
        (batch, int(seconds * feature_extractor.sampling_rate))
    )
    return extract_features(feature_extractor, list(noise.astype(np.float32)))


def _write(model: "PreTrainedModel", example: "torch.Tensor", path: Path) -> None:
    import torch

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
        for logger in loggers:  # they tell of operators of torchvision, which nobody asked for
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Logits().eval(),
                (example,),
                path,
                dynamo=True,
                verbose=False,
                external_data=False,  # one file: the model is far below protobuf's 2 GB
                input_names=[model.main_input_name],
                output_names=["logits"],
                dynamic_shapes=(dimensions,),
            )
    except Exception as error:  # the exporter raises whatever the model's code led it to
        reason = (str(error).strip().splitlines() or [""])[0]
        raise OnnxError(
            f"A model of type {model.config.model_type} cannot be exported to ONNX "
            f"({type(error).__name__}: {reason[:120]})."
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _difference(
    model: "PreTrainedModel", feature_extractor: "SequenceFeatureExtractor", path: Path
) -> float:
    """Largest difference of a logit between the graph and the model, over batches and lengths."""
    import onnxruntime
    import torch

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
    arguments = parser.parse_args()
    with exit_with_message("Stopped: nothing was written."):
        difference = export(arguments.folder)
    print(f"{arguments.folder / ONNX_FILE}: logits within {difference:.1g} of PyTorch's")


if __name__ == "__main__":
    main()
