"""Export a model for ONNX Runtime and browsers, and check it against PyTorch.

`music-genre publish` writes onnx/model.onnx into the folder, and its int8 form,
onnx/model_quantized.onnx, if that gives the same answers. The graph's input is the model's main
input (`input_values` or `input_features`): the feature extractor's output for windows, float32,
shape (batch, ...). EfficientAT's graph includes its feature extractor and takes waveforms, shape
(batch, samples). The output `logits` has the shape (batch, labels). In the int8 form, the weights
of matrix products are int8, and convolutions stay in float32. transformers.js uses the int8 form by
default in a browser.
"""

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from music_genre import audio
from music_genre.classifier import GenreClassifier
from music_genre.errors import InputError, first_line
from music_genre.loading import find_model, load_classifier, without_warnings
from music_genre.windows import cut, extract_features

ONNX_FILE = "onnx/model.onnx"  # where optimum and transformers.js look
QUANTIZED_FILE = "onnx/model_quantized.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MAX_DIFFERENCE = 1e-4  # of a logit: float32 sums in another order differ by about 1e-6
# How much a genre's probability may change, as a mean over windows, if the int8 form is to be kept.
MAX_MEAN_DIFFERENCE = 0.05
CHECKED_LENGTHS = (1.0, 0.5, 2.3)  # in windows: the graph must accept any length
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"  # ten synthesised pieces of 10 s
# Types of audio classifiers that transformers.js 4.3 knows
TRANSFORMERS_JS = ("audio-spectrogram-transformer", "hubert", "wav2vec2", "wavlm")


class OnnxError(InputError):
    """The model has no ONNX form; the message says why."""


def export(folder: Path) -> dict[str, Any]:
    """Write onnx/model.onnx into a model's folder, completely or not at all, and its int8 form.

    Returns:
        `max_difference` of a logit from PyTorch's; `quantized`, the result of `compare` for the
        int8 form and whether it `is_kept`; `transformers_js`, whether it knows this model type.

    Raises:
        OnnxError: packages are missing, the exporter fails, or the graph computes other numbers.
        InputError: the folder holds no model.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise OnnxError(f"The export to ONNX needs {', '.join(missing)}: install them with pip.")
    classifier = GenreClassifier(folder, device="cpu", precision="fp32")
    model = load_classifier(find_model(str(folder)))  # without the faster modules for CPUs
    graph = Logits(model, front_end(classifier)).eval()
    path, quantized_path = folder / ONNX_FILE, folder / QUANTIZED_FILE
    unchecked = path.with_suffix(".partial")
    path.parent.mkdir(exist_ok=True)
    try:
        write_graph(graph, graph_input(classifier, noise(classifier, 2, 1.0)), unchecked)
        difference = largest_difference(classifier, unchecked)
        if not difference <= MAX_DIFFERENCE:
            raise OnnxError(
                f"The ONNX form of {folder} computes other numbers than PyTorch: logits differ by "
                f"up to {difference:.1g}."
            )
        quantize(unchecked, quantized_path, has_front_end=graph.front_end is not None)
        quantized = compare(classifier, quantized_path)
        quantized["is_kept"] = quantized["mean_difference"] <= MAX_MEAN_DIFFERENCE
        if not quantized["is_kept"]:
            quantized_path.unlink()
        os.replace(unchecked, path)
    finally:
        unchecked.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return {
        "max_difference": difference,
        "quantized": quantized,
        "transformers_js": classifier.model.config.model_type in TRANSFORMERS_JS,
    }


def noise(classifier: GenreClassifier, batch: int, n_windows: float) -> list[np.ndarray]:
    """Waveforms of noise, float32, shape (samples,) each."""
    samples = int(classifier.window_seconds * n_windows * classifier.sampling_rate)
    waveforms = np.random.default_rng(batch).standard_normal((batch, samples))
    return list(waveforms.astype(np.float32))


def front_end(classifier: GenreClassifier) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return the feature extractor as a function for the graph; None if it is not in torch."""
    return getattr(classifier.feature_extractor, "log_mel", None)


def graph_input(classifier: GenreClassifier, waveforms: list[np.ndarray]) -> torch.Tensor:
    """Return the graph's input for these windows: float32, shape (batch, ...)."""
    if front_end(classifier):
        return torch.from_numpy(np.stack(waveforms))
    return extract_features(classifier.feature_extractor, waveforms)


class Logits(torch.nn.Module):
    """A model whose only output is the logits; with a front end, its input is waveforms."""

    def __init__(self, model: torch.nn.Module, front_end: Callable | None = None) -> None:
        super().__init__()
        self.model, self.front_end = model, front_end

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.front_end(inputs) if self.front_end else inputs
        return self.model(**{self.model.main_input_name: features}).logits


def write_graph(model: Logits, example: torch.Tensor, path: Path) -> None:
    """Write the graph without checking it."""
    name, model_type = model.model.main_input_name, model.model.config.model_type
    dimensions = {0: "batch"} | ({1: "samples"} if example.ndim == 2 else {})
    try:
        # The warnings are that torchvision's operators are lacking and not all constants folded.
        with without_warnings("torch.onnx", "onnxscript"), warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[name],
                output_names=["logits"],
                dynamic_shapes=(dimensions,),
            )
            for graph in program.model.graphs():
                for node in graph:  # the exporter stores stack traces, with paths of this machine
                    node.metadata_props.clear()
            # One file: the model is far below protobuf's 2 GB.
            program.save(path, external_data=False)
    except Exception as error:  # the exporter may raise anything
        raise OnnxError(
            f"A model of type {model_type} cannot be exported to ONNX "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error


def largest_difference(classifier: GenreClassifier, path: Path) -> float:
    """Return a logit's largest difference between graph and model, over batches and lengths."""
    run, largest = load_graph(path), 0.0
    for batch, n_windows in enumerate(CHECKED_LENGTHS, start=1):
        waveforms = noise(classifier, batch, n_windows)
        features = extract_features(classifier.feature_extractor, waveforms)
        with torch.inference_mode():
            expected = Logits(classifier.model)(features).numpy()
        found = run(graph_input(classifier, waveforms))
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest


def load_graph(path: Path) -> Callable[[torch.Tensor], np.ndarray]:
    """Return a function that maps the graph's input to logits, both of shape (batch, ...)."""
    import onnxruntime  # an optional package: `export` names it if it is missing

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(["logits"], {name: inputs.numpy()})[0]


def quantize(source: Path, target: Path, has_front_end: bool) -> None:
    """Write the int8 form of the graph in `source`.

    A front end's mel bands, the only MatMul of such a graph, stay in float32: they span more orders
    of magnitude than int8 can represent.
    """
    import onnx  # these two are optional: `export` names them
    from onnxruntime.quantization import quantize_dynamic

    nodes = onnx.load(source).graph.node if has_front_end else []
    kept = [node.name for node in nodes if node.op_type == "MatMul"]
    with without_warnings("root"):  # it recommends steps that only convolutions need
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=kept,
            per_channel=True,
        )


def compare(classifier: GenreClassifier, path: Path) -> dict[str, float]:
    """Compare a graph's answers with PyTorch's, on windows of ten synthesised pieces.

    Returns:
        `windows`, their number; `max_difference` and `mean_difference` of probabilities, with the
        largest of all genres for each window; `changed`, the share of windows whose genre changes.
    """
    run, differences, changed = load_graph(path), [], []
    rate = classifier.sampling_rate
    for file in sorted(EXAMPLES.glob("*.ogg")):
        windows = cut(audio.decode(file, rate).waveform, int(classifier.window_seconds * rate))
        expected = classifier.window_probabilities(windows)
        logits = run(graph_input(classifier, windows))
        found = torch.from_numpy(logits).double().softmax(-1).numpy()
        differences.extend(np.abs(found - expected).max(axis=1))
        changed.extend(found.argmax(axis=1) != expected.argmax(axis=1))
    return {
        "windows": len(differences),
        "max_difference": float(max(differences)),
        "mean_difference": float(np.mean(differences)),
        "changed": float(np.mean(changed)),
    }
