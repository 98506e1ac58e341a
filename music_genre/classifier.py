"""`GenreClassifier`: a fine-tuned model that takes files or waveforms and answers with genres."""

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from music_genre import old_audio as audio
from music_genre import windows
from music_genre.audio_files import check_samples
from music_genre.errors import InputError
from music_genre.kernels import feature_encoder, positional_convolution
from music_genre.kernels.precision import DTYPES, serving_precision
from music_genre.loading import (
    DEFAULT_WINDOW_SECONDS,
    find_model,
    load_classifier,
    load_feature_extractor,
)

MAX_FILE_SECONDS = 24 * 3600.0  # a small file can claim, and decode to, any length
MIN_SECONDS = 0.1  # HuBERT's convolutions need 25 ms; below a tenth of a second nothing is music
BATCH_SIZE = 16  # windows in one pass: a ten-minute song at once would take gigabytes

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
        window_seconds: length of the windows; by default that of training.
        device: for torch; by default a GPU if there is one.
        precision: `fp32`, exactly as training measured, `bf16` or `fp16`; by default the one that
            `kernels.precision.serving_precision` takes.

    Raises:
        ModelError: the model is not there or cannot be used.
        InputError: there is no such device or precision, or the windows are too short.
    """

    def __init__(
        self,
        model_id: str | os.PathLike,
        revision: str | None = None,
        window_seconds: float | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        if precision not in (None, *DTYPES):
            raise InputError(f"The precision is one of {', '.join(DTYPES)}, not {precision}.")
        if window_seconds is not None and not window_seconds >= MIN_SECONDS:
            raise InputError(f"A window lasts at least {MIN_SECONDS:g} s, not {window_seconds:g}.")
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise InputError(f"torch knows no device {device}: take cpu or cuda.") from error
        found = find_model(os.fspath(model_id), revision)
        self.model_id = os.fspath(model_id)
        self.model = load_classifier(found)
        self.feature_extractor = load_feature_extractor(found)
        self.commit = found.commit
        self.window_seconds = window_seconds or getattr(
            self.model.config, "window_seconds", DEFAULT_WINDOW_SECONDS
        )
        self.labels = [self.model.config.id2label[i] for i in range(self.model.config.num_labels)]
        try:
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.device} cannot be used here: {reason}") from error
        if self.device.type == "cpu":
            feature_encoder.use_matrix_products(self.model)
            positional_convolution.use_fft(self.model)
        self.precision, self.precision_reason = precision, "asked for"
        if precision is None:
            self.precision, self.precision_reason = serving_precision(self.model, self._example())

    @property
    def sampling_rate(self) -> int:
        """Hertz, of the waveforms that the model processes."""
        return self.feature_extractor.sampling_rate

    def _example(self) -> torch.Tensor:
        """Features of two windows, a chord and noise, to compare precisions on."""
        t = np.arange(int(self.window_seconds * self.sampling_rate)) / self.sampling_rate
        chord = sum(0.1 * np.sin(2 * np.pi * hertz * t) for hertz in (98.0, 277.2, 1174.7))
        noise = 0.05 * np.random.default_rng(0).standard_normal(len(t))
        examples = [sound.astype(np.float32) for sound in (chord + noise, noise)]
        return windows.extract_features(self.feature_extractor, examples).to(self.device)

    def __call__(
        self,
        source: str | os.PathLike | bytes | np.ndarray,
        sampling_rate: int | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """Classify one file (path or bytes) or waveform, from its start to its end.

        Memory is bounded: a file is decoded in blocks and classified in batches of windows.

        Args:
            source: a local path, a file's bytes, or a waveform of shape (samples,), float.
            sampling_rate: hertz; only with a waveform, and needed there.
            progress: called after each pass of up to BATCH_SIZE windows.

        Raises:
            AudioError: the audio cannot be used, with the reason, for example that it is silent or
                longer than MAX_FILE_SECONDS.
            FileNotFoundError: there is no such file.
        """
        try:
            return self._predict(*self._blocks(source, sampling_rate), progress)
        except audio.AudioError as error:
            if isinstance(source, str | os.PathLike):
                error.add_note(f"The file is {os.fspath(source)}")
            raise

    def _blocks(
        self, source: str | os.PathLike | bytes | np.ndarray, sampling_rate: int | None
    ) -> tuple[Iterable[np.ndarray], int]:
        """The waveform at the model's rate, in blocks, and its length in samples."""
        if not isinstance(source, np.ndarray):
            return audio.decode_in_blocks(source, MAX_FILE_SECONDS, self.sampling_rate)
        if not sampling_rate:
            raise TypeError("A waveform needs its sampling_rate (hertz).")
        if source.ndim != 1:
            raise ValueError(f"A waveform has the shape (samples,), not {source.shape}.")
        waveform = source.astype(np.float32, copy=False)
        check_samples(waveform)
        waveform = audio.resample(waveform, sampling_rate, self.sampling_rate)
        return [waveform], len(waveform)

    def _predict(
        self, blocks: Iterable[np.ndarray], n_samples: int, progress: Progress | None
    ) -> Prediction:
        if n_samples < MIN_SECONDS * self.sampling_rate:
            raise audio.AudioError(f"it is shorter than {MIN_SECONDS:g} s")
        window = int(self.window_seconds * self.sampling_rate)
        starts = windows.window_starts(n_samples, window)
        cuts = windows.cut_blocks(blocks, starts, window)
        rows: list[np.ndarray] = []
        is_silent = True
        while batch := list(itertools.islice(cuts, BATCH_SIZE)):
            is_silent = is_silent and all(map(audio.is_silent, batch))
            rows.extend(self.window_probabilities(batch))
            if progress:
                progress(len(rows), len(starts))
        if len(rows) < len(starts):
            raise audio.AudioError("it changed while it was read")
        if is_silent:
            raise audio.AudioError("it is silent")
        mean = np.mean(rows, axis=0)
        ends = starts + min(window, n_samples)
        return Prediction(
            genre=self.labels[int(mean.argmax())],
            probabilities=self._by_label(mean),
            timeline=[
                WindowPrediction(
                    start / self.sampling_rate, end / self.sampling_rate, self._by_label(row)
                )
                for start, end, row in zip(starts.tolist(), ends.tolist(), rows, strict=True)
            ],
        )

    def window_probabilities(self, cuts: list[np.ndarray]) -> np.ndarray:
        """Classify windows of one length, at the model's rate, in one pass.

        Args:
            cuts: float32, shape (samples,) each; memory grows with their number.

        Returns:
            float64, shape (windows, labels).
        """
        features = windows.extract_features(self.feature_extractor, cuts).to(self.device)
        dtype, is_rounded = DTYPES[self.precision], self.precision != "fp32"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype, enabled=is_rounded),
        ):
            (probabilities,) = windows.clip_probabilities(self.model, [features])
        return probabilities.cpu().double().numpy()  # MPS has no float64

    def _by_label(self, probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, probabilities.tolist(), strict=True))
