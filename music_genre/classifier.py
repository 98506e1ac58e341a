"""`GenreClassifier`: a fine-tuned model that takes files or waveforms and answers with genres."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from music_genre import audio, windows
from music_genre.kernels.precision import autocast, serving_precision
from music_genre.loading import (
    DEFAULT_WINDOW_SECONDS,
    commit_of,
    find_model,
    load_classifier,
    load_feature_extractor,
)

if TYPE_CHECKING:
    import torch

MAX_FILE_SECONDS = 15 * 60.0  # of a file; longer ones are heard up to here
MIN_SECONDS = 0.1  # HuBERT's convolutions need 25 ms; below a tenth of a second nothing is music
BATCH_SIZE = 16  # windows in one pass: a ten-minute song at once would take gigabytes

CHORDS = ((220.0, 277.2, 329.6), (98.0, 293.7, 1174.7))  # hertz
Progress = Callable[[int, int], object]  # gets the windows done, and how many there are


@dataclass(frozen=True)
class WindowPrediction:
    start: float  # seconds
    end: float  # seconds
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """`probabilities` is the mean of those in `timeline`, and sums to 1."""

    genre: str
    probabilities: dict[str, float]
    timeline: list[WindowPrediction]


def top_two(probabilities: dict[str, float]) -> list[tuple[str, float]]:
    """The likeliest genre and the runner-up, each with its probability."""
    return sorted(probabilities.items(), key=lambda item: item[1], reverse=True)[:2]


class GenreClassifier:
    """Classify music with a model that `train_hf.py` made, or any other audio classifier.

    Args:
        model_id: a folder, or the id of a model on the Hub.
        revision: branch, tag or commit on the Hub.
        window_seconds: what the model hears at once; by default what it was trained on.
        device: for torch; by default a GPU if there is one.
        precision: `fp32`, exactly as training measured, `bf16` or `fp16`; by default the one that
            `kernels.precision.serving_precision` takes.

    Raises:
        ModelError: the model is not there or cannot be used.
    """

    def __init__(
        self,
        model_id: str | os.PathLike,
        revision: str | None = None,
        window_seconds: float | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        import torch

        from music_genre.kernels import feature_encoder, positional_convolution

        location = find_model(os.fspath(model_id), revision)
        self.model_id = os.fspath(model_id)
        self.model = load_classifier(location)
        self.feature_extractor = load_feature_extractor(location)
        self.commit = commit_of(location)
        self.window_seconds = window_seconds or getattr(
            self.model.config, "window_seconds", DEFAULT_WINDOW_SECONDS
        )
        self.labels = [self.model.config.id2label[i] for i in range(self.model.config.num_labels)]
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model.to(self.device)
        if self.device.type == "cpu":
            feature_encoder.use_matrix_products(self.model)
            positional_convolution.use_fft(self.model)
        self.precision, self.precision_reason = precision, "asked for"
        if precision is None:
            self.precision, self.precision_reason = serving_precision(self.model, self._example())

    def _example(self) -> "torch.Tensor":
        """Features of two windows of chords in noise, to try precisions on."""
        rate = self.feature_extractor.sampling_rate
        t = np.arange(int(self.window_seconds * rate)) / rate
        noise = 0.05 * np.random.default_rng(0).standard_normal((2, len(t)))
        chords = [sum(np.sin(2 * np.pi * f * t) for f in pitches) for pitches in CHORDS]
        heard = (0.2 * np.array(chords) + noise).astype(np.float32)
        return windows.extract_features(self.feature_extractor, list(heard)).to(self.device)

    def __call__(
        self,
        source: str | os.PathLike | bytes | np.ndarray,
        sampling_rate: int | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """Classify one file (path or bytes) or waveform.

        Args:
            source: a local path, a file's bytes, or a waveform of shape (samples,), float.
            sampling_rate: hertz; only with a waveform, and needed there.
            progress: called after each pass of up to BATCH_SIZE windows.

        Raises:
            AudioError: the audio cannot be used, with the reason.
            FileNotFoundError: there is no such file.
        """
        if isinstance(source, np.ndarray):
            if not sampling_rate:
                raise TypeError("A waveform needs its sampling_rate (hertz).")
            if source.ndim != 1:
                raise ValueError(f"A waveform has the shape (samples,), not {source.shape}.")
            waveform = source.astype(np.float32, copy=False)
            audio.check_samples(waveform)
        else:
            sampling_rate = self.feature_extractor.sampling_rate
            waveform, _ = audio.decode(source, MAX_FILE_SECONDS, to=sampling_rate)
        if len(waveform) < MIN_SECONDS * sampling_rate:
            raise audio.AudioError(f"it is shorter than {MIN_SECONDS:g} s")
        heard = audio.resample(waveform, sampling_rate, self.feature_extractor.sampling_rate)
        return self._predict(heard, progress)

    def _predict(self, waveform: np.ndarray, progress: Progress | None) -> Prediction:
        sampling_rate = self.feature_extractor.sampling_rate
        window = int(self.window_seconds * sampling_rate)
        starts = windows.window_starts(len(waveform), window)
        probabilities = self.window_probabilities(windows.cut(waveform, window), progress)
        mean = probabilities.mean(axis=0)
        length = min(window, len(waveform))
        return Prediction(
            genre=self.labels[int(mean.argmax())],
            probabilities=self._by_label(mean),
            timeline=[
                WindowPrediction(
                    start / sampling_rate, (start + length) / sampling_rate, self._by_label(row)
                )
                for start, row in zip(starts.tolist(), probabilities, strict=True)
            ],
        )

    def window_probabilities(
        self, cuts: list[np.ndarray], progress: Progress | None = None
    ) -> np.ndarray:
        """Of windows of one length at the model's rate: float64, shape (windows, labels).

        In batches, so that memory is bounded.
        """
        import torch

        batches = []
        for i in range(0, len(cuts), BATCH_SIZE):
            features = windows.extract_features(
                self.feature_extractor, cuts[i : i + BATCH_SIZE]
            ).to(self.device)
            with torch.inference_mode(), autocast(self.device, self.precision):
                batches += windows.clip_probabilities(self.model, [features])
            if progress:
                progress(min(i + BATCH_SIZE, len(cuts)), len(cuts))
        return torch.cat(batches).double().cpu().numpy()

    def _by_label(self, probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, probabilities.tolist(), strict=True))
