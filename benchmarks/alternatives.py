"""What was tried for serving on a CPU and is not used, beside what is.

    python benchmarks/alternatives.py                                # DistilHuBERT's architecture
    python benchmarks/alternatives.py --live runs/quickstart         # a trained net, listening
    python benchmarks/alternatives.py --model runs/mine --dataset data/gtzan    # with accuracy

torch.compile (it needs a C++ compiler), ONNX Runtime in fp32 and, calibrated on music, in int8; all
ways get the same six windows and the same threads. And live, where the windows of two seconds in a
row overlap: what it would save to keep the front end's frames of the old sound, and by how much
that changes the answers, since its group norm looks at the whole window.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as app.py has it
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RATE = 16_000  # hertz
N_WINDOWS = 6
N_CALIBRATION = 32  # windows
FRAMES_A_SECOND = 50  # of HuBERT's front end: a frame each 320 samples
LIVE_SECONDS = 60


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a folder; default: made here")
    parser.add_argument("--dataset", help="its test and validation clips, for the accuracy")
    parser.add_argument("--live", type=Path, metavar="MODEL", help="listen with this one instead")
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


# --- ONNX Runtime ---------------------------------------------------------------------------


def quantise(graph: Path, features: np.ndarray) -> Path:
    """Static int8 of convolutions and matrix products, calibrated on features of windows."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(np.split(features, len(features)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {session_input(graph): batch}

    prepared, quantised = graph.with_name("prepared.onnx"), graph.with_name("int8.onnx")
    quant_pre_process(graph, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, quantised, Reader(), per_channel=True, op_types_to_quantize=["Conv", "MatMul"]
    )
    return quantised


def session_input(graph: Path) -> str:
    import onnx

    return onnx.load(graph, load_external_data=False).graph.input[0].name


def onnx_way(graph: Path) -> Callable[[np.ndarray], np.ndarray]:
    """From features of windows to probabilities, by as many threads as torch has."""
    import onnxruntime
    import torch
    from scipy.special import softmax

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda features: softmax(session.run(["logits"], {name: features})[0], axis=1)


def torch_way(net, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from music_genre.kernels.precision import autocast
    from music_genre.windows import clip_probabilities

    def probabilities(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), autocast(torch.device("cpu"), precision):
            return clip_probabilities(net, [torch.from_numpy(features)])[0].numpy()

    return probabilities


def compiled_way(
    model: Path, precision: str, features: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """transformers' own modules, compiled."""
    import torch

    from music_genre.loading import find_model, load_classifier

    net = torch.compile(load_classifier(find_model(str(model))))
    way, start = torch_way(net, precision), time.perf_counter()
    way(features)
    print(f"torch.compile, {precision}: {time.perf_counter() - start:.0f} s to compile")
    return way


def features_of(classifier, waveform: np.ndarray) -> np.ndarray:
    from music_genre.windows import cut, extract_features

    cuts = cut(waveform, int(classifier.window_seconds * RATE))
    return extract_features(classifier.feature_extractor, cuts).numpy()


def compare(model: Path, dataset: str | None, runs: int) -> None:
    import shutil

    import torch

    from benchmarks.serving import alternate, music
    from data_prep.gtzan import GENRES
    from data_prep.synthetic import synthesise
    from music_genre import GenreClassifier
    from music_genre.kernels.precision import fast_precision
    from music_genre.publishing.onnx import ONNX_FILE, export

    precisions = dict.fromkeys(["fp32", fast_precision(torch.device("cpu"))[0]])
    classifiers = {
        name: GenreClassifier(model, device="cpu", precision=name) for name in precisions
    }
    exact = classifiers["fp32"]
    songs = [synthesise(genre, 3, N_CALIBRATION * exact.window_seconds / 10) for genre in GENRES]
    known = np.concatenate([features_of(exact, song) for song in songs])[:N_CALIBRATION]
    heard = features_of(exact, music(N_WINDOWS * exact.window_seconds))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(model, Path(folder, "model")))
        export(copy)
        graph = copy / ONNX_FILE
        ways = {f"ours, {name}": torch_way(one.model, name) for name, one in classifiers.items()}
        for name in precisions:
            ways[f"torch.compile, {name}"] = compiled_way(model, name, heard)
        ways["ONNX Runtime, fp32"] = onnx_way(graph)
        ways["ONNX Runtime, int8"] = onnx_way(quantise(graph, known))
    seconds = alternate({name: lambda w=way: w(heard) for name, way in ways.items()}, runs)
    expected = ways["ours, fp32"](heard)
    clips = read_clips(exact, dataset) if dataset else []
    print(f"{len(heard)} windows of {exact.window_seconds:g} s, medians of {runs} rounds")
    print("| way | seconds | largest change of a probability | accuracy |")
    print("| --- | ---: | ---: | ---: |")
    for name, way in ways.items():
        change = np.abs(way(heard) - expected).max()
        right = [way(features).mean(0).argmax() == genre for features, genre in clips]
        accuracy = f"{np.mean(right):.3f} (n={len(right)})" if right else ""
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {change:.1e} | {accuracy} |")


def read_clips(classifier, dataset: str) -> list[tuple[np.ndarray, int]]:
    """Features of the windows, and genre, of each clip that the model was not trained on."""
    from datasets import Audio, concatenate_datasets, load_from_disk

    from music_genre import audio

    splits = load_from_disk(dataset).cast_column("audio", Audio(decode=False))
    clips = concatenate_datasets([splits["validation"], splits["test"]])
    names = clips.features["genre"].names
    return [
        (
            features_of(classifier, audio.read_wav(clip["audio"]["bytes"]) / np.float32(32768)),
            classifier.labels.index(names[clip["genre"]]),
        )
        for clip in clips
    ]


# --- live -----------------------------------------------------------------------------------


class KeptFrames:
    """A front end that computes the newest second of frames and keeps the ones before."""

    def __init__(self, forward: Callable) -> None:
        self.forward, self.frames = forward, None

    def __call__(self, waveforms):
        import torch

        frames = self.forward(waveforms)  # of which a real one would compute the last second only
        if self.frames is not None:
            frames = torch.cat(
                [self.frames[..., FRAMES_A_SECOND:], frames[..., -FRAMES_A_SECOND:]], dim=-1
            )
        self.frames = frames
        return frames


def listen(model: Path, runs: int) -> None:
    import torch

    from benchmarks.serving import alternate
    from data_prep.gtzan import GENRES
    from data_prep.synthetic import synthesise
    from music_genre import GenreClassifier
    from music_genre.kernels.precision import autocast

    classifier = GenreClassifier(model, device="cpu")
    window = int(classifier.window_seconds * RATE)
    music = np.concatenate([synthesise(g, 5, LIVE_SECONDS / 10, RATE) for g in GENRES])
    starts = range(0, len(music) - window + 1, RATE)
    ends = [features_of(classifier, music[start : start + window]) for start in starts]
    way, encoder = torch_way(classifier), classifier.model.base_model.feature_extractor
    exact = np.concatenate([way(features) for features in ends])
    forward, whole = encoder.forward, torch.from_numpy(ends[0])
    encoder.forward = KeptFrames(forward)
    kept = np.concatenate([way(features) for features in ends])
    encoder.forward = forward

    def front_end(waveforms: torch.Tensor) -> None:
        with torch.inference_mode(), autocast(classifier.device, classifier.precision):
            forward(waveforms)

    seconds = alternate(
        {
            "an answer": lambda: way(ends[0]),
            "its front end": lambda: front_end(whole),
            "that of a second": lambda: front_end(whole[:, : RATE + 400]),  # and a frame's rest
        },
        runs,
    )
    medians = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    saved = medians["its front end"] - medians["that of a second"]
    changes = np.abs(kept - exact).max(1)
    print(f"{classifier.precision}, windows of {classifier.window_seconds:g} s, one a second")
    print(", ".join(f"{name}: {median:.1f} ms" for name, median in medians.items()))
    print(f"keeping frames would save {saved:.1f} ms of an answer")
    changed = (kept.argmax(1) != exact.argmax(1)).sum()
    print(f"and change a probability by {np.median(changes):.2f} (median) to {changes.max():.2f}")
    print(f"and the genre of {changed} of {len(exact)} answers")


def main() -> None:
    arguments = parse_arguments()
    from benchmarks.models import save_distilhubert

    if arguments.live:
        listen(arguments.live, arguments.runs)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or Path(save_distilhubert(Path(folder)))
        compare(model, arguments.dataset, arguments.runs)
        if not arguments.model:
            listen(model, arguments.runs)


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
