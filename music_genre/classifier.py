"""`GenreClassifier`: predict the genres of files or waveforms with a fine-tuned model."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from music_genre import audio, isolation, windows
from music_genre.arrays import as_audio_file
from music_genre.cpu_modules import use_cpu_modules
from music_genre.errors import InputError, first_line
from music_genre.loading import (
    DEFAULT_WINDOW_SECONDS,
    find_model,
    load_classifier,
    load_feature_extractor,
)
from music_genre.precision import DTYPES, probabilities_in, serving_precision

MIN_SECONDS = 0.1  # HuBERT's convolutions need 25 ms; less than a tenth of a second is not music
MAX_WINDOW_SECONDS = 120.0  # a pass over a longer window takes gigabytes
MAX_DECODING_SECONDS = 120  # per file, if decoding is isolated
BATCH_SIZE = 16  # windows in one pass: a ten-minute song in one pass would take gigabytes

Progress = Callable[[int, int], object]  # takes the number of windows done, and of all windows


@dataclass(frozen=True)
class WindowPrediction:
    start: float  # seconds
    end: float  # seconds
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """`probabilities` is the mean of those in `timeline`, and sums to 1.

    `lost_seconds`: how much of the file could not be decoded; the timeline leaves it out.
    """

    genre: str
    probabilities: dict[str, float]
    timeline: list[WindowPrediction]
    lost_seconds: float = 0.0

    @property
    def loss(self) -> str | None:
        """Return a text such as "2.1 s of 3:20 could not be decoded"; None if nothing was lost."""
        return audio.loss_in_words(self.lost_seconds, self.timeline[-1].end)


class GenreClassifier:
    """Classify music with a model that `train_hf.py` trained, or with any other audio classifier.

    Args:
        model_id: a folder, or the id of a model on the Hub.
        revision: branch, tag or commit on the Hub.
        window_seconds: length of the windows; by default the length used in training.
        device: for torch; by default a GPU if there is one.
        precision: `fp32`, which gives exactly what training measured, `bf16` or `fp16`; by default
            the one that `precision.serving_precision` returns.
        isolate: decode files in a separate process, so that a file that crashes it, hangs it or
            fills its memory does not harm this one; isolation.py says what the program needs.

    Raises:
        InputError: the model does not exist or cannot be used, there is no such device or
            precision, or the windows are too short or too long.
    """

    def __init__(
        self,
        model_id: str | os.PathLike,
        revision: str | None = None,
        window_seconds: float | None = None,
        device: str | None = None,
        precision: str | None = None,
        isolate: bool = False,
    ) -> None:
        if precision not in (None, *DTYPES):
            raise InputError(f"The precision is one of {', '.join(DTYPES)}, not {precision}.")
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise InputError(f"torch has no device {device}: use cpu or cuda.") from error
        found = find_model(os.fspath(model_id), revision)
        self.model_id = os.fspath(model_id)
        self.model = load_classifier(found)
        self.feature_extractor = load_feature_extractor(found)
        self.folder, self.commit = found.path, found.commit
        if window_seconds is None:
            window_seconds = getattr(self.model.config, "window_seconds", DEFAULT_WINDOW_SECONDS)
        is_number = isinstance(window_seconds, Real)
        if not is_number or not MIN_SECONDS <= window_seconds <= MAX_WINDOW_SECONDS:
            raise InputError(
                f"A window lasts from {MIN_SECONDS:g} to {MAX_WINDOW_SECONDS:g} s, not "
                f"{window_seconds}."
            )
        self.window_seconds = window_seconds
        self.labels = [self.model.config.id2label[i] for i in range(self.model.config.num_labels)]
        try:
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"{self.device} cannot be used here: {first_line(error)}") from error
        if self.device.type == "cpu":
            use_cpu_modules(self.model)
        self.precision = precision or serving_precision(self.model, self._example())
        self._decoders = isolation.DecoderPool(num_processes=1) if isolate else None

    @property
    def sampling_rate(self) -> int:
        """The sampling rate, in hertz, of the waveforms that the model processes."""
        return self.feature_extractor.sampling_rate

    @property
    def is_demonstration(self) -> bool:
        """Whether the model was trained on music that this project synthesised."""
        return bool(getattr(self.model.config, "trained_on_synthetic_music", False))

    def _example(self) -> torch.Tensor:
        """Return the features of two windows, a chord and noise, on which to compare precisions."""
        t = np.arange(int(self.window_seconds * self.sampling_rate)) / self.sampling_rate
        chord = sum(0.1 * np.sin(2 * np.pi * hertz * t) for hertz in (98.0, 277.2, 1174.7))
        noise = 0.05 * np.random.default_rng(0).standard_normal(len(t))
        examples = [sound.astype(np.float32) for sound in (chord + noise, noise)]
        return windows.extract_features(self.feature_extractor, examples).to(self.device)

    def __call__(
        self, source: Any, sampling_rate: int | None = None, progress: Progress | None = None
    ) -> Prediction:
        """Classify one file (path or bytes) or waveform, from its start to its end.

        Args:
            source: a local path, a file's bytes, or a waveform in one of the forms of
                `arrays.as_audio_file`.
            sampling_rate: hertz; needed for a waveform passed without its own, and only for that.
            progress: called after each pass of up to BATCH_SIZE windows.

        Raises:
            InputError: `source` has none of these forms.
            AudioError: the audio cannot be used; the message gives the reason, for example that it
                is silent or longer than `audio.MAX_SECONDS`.
            OSError: there is no such file, or it cannot be read.
        """
        file = as_audio_file(source, sampling_rate)
        try:
            return self._predict(self._decode(file), progress)
        except audio.AudioError as error:
            if isinstance(source, str | os.PathLike):
                error.add_note(f"The file is {os.fspath(source)}")
            raise

    def _decode(self, file: bytes | str | os.PathLike) -> audio.Decoded:
        if self._decoders is None:
            return audio.decode(file, self.sampling_rate)
        task = self._decoders.schedule(
            audio.decode, args=[file, self.sampling_rate], timeout=MAX_DECODING_SECONDS
        )
        return isolation.result(task)

    def _predict(self, decoded: audio.Decoded, progress: Progress | None) -> Prediction:
        waveform = decoded.waveform
        if len(waveform) < MIN_SECONDS * self.sampling_rate:
            raise audio.AudioError(f"it is shorter than {MIN_SECONDS:g} s")
        if audio.is_silent(waveform, self.sampling_rate):
            raise audio.AudioError("it is silent")
        window = int(self.window_seconds * self.sampling_rate)
        cuts = windows.cut(waveform, window)
        rows: list[np.ndarray] = []
        for first in range(0, len(cuts), BATCH_SIZE):
            rows.extend(self.window_probabilities(cuts[first : first + BATCH_SIZE]))
            if progress:
                progress(len(rows), len(cuts))
        mean = np.mean(rows, axis=0)
        starts = windows.window_starts(len(waveform), window)
        ends = starts + min(window, len(waveform))
        return Prediction(
            genre=self.labels[int(mean.argmax())],
            probabilities=self._by_label(mean),
            timeline=[
                WindowPrediction(
                    start / self.sampling_rate, end / self.sampling_rate, self._by_label(row)
                )
                for start, end, row in zip(starts.tolist(), ends.tolist(), rows, strict=True)
            ],
            lost_seconds=decoded.lost_seconds,
        )

    def window_probabilities(self, cuts: list[np.ndarray]) -> np.ndarray:
        """Classify windows of equal length, at the model's sampling rate, in one pass.

        Args:
            cuts: float32, shape (samples,) each; memory grows with their number.

        Returns:
            float64, shape (windows, labels).
        """
        return self.feature_probabilities(windows.extract_features(self.feature_extractor, cuts))

    def feature_probabilities(self, features: torch.Tensor) -> np.ndarray:
        """Like `window_probabilities`, but for features: float32, shape (windows, ...)."""
        features = features.to(self.device, non_blocking=True)
        probabilities = probabilities_in(self.precision, self.model, features)
        return probabilities.cpu().double().numpy()  # MPS has no float64

    def _by_label(self, probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, probabilities.tolist(), strict=True))
