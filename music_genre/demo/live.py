"""Live listening: one visitor's microphone, classified once a second, shown without flickering."""

import base64
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from music_genre.audio import MIN_SAMPLING_RATE, AudioError
from music_genre.classifier import GenreClassifier
from music_genre.demo import pictures

CHUNK_SECONDS = 1.0  # length of a chunk; longer if the last answer took longer
MAX_CHUNK_SECONDS = 10  # longest chunk; the page drops older sound
MAX_SAMPLING_RATE = 192_000  # hertz, of a sound card; memory per listener grows with it
MIN_NEW_SECONDS = 0.5  # of new sound before the next prediction, even if chunks are short
QUIET_RMS = 1e-3  # full scale is 1; a silent room is below -60 dB
SMOOTHING = 0.35  # weight of the newest prediction in the smoothed one
TAKE_LEAD, HOLD_LEAD = 0.15, 0.05  # lead over the runner-up: to be named, and to stay named


def read_chunk(sound: Any) -> tuple[np.ndarray, int] | None:
    """Parse a chunk from the page: {"sampling_rate": hertz, "pcm": base64 of 16-bit mono samples}.

    Returns:
        The samples, float32, shape (samples,), and the sampling rate; None if the chunk is invalid.
    """
    try:
        sampling_rate, text = int(sound["sampling_rate"]), sound["pcm"]
        is_rate = MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE
        if not is_rate or len(text) > 4 * MAX_CHUNK_SECONDS * sampling_rate:
            return None
        pcm = np.frombuffer(base64.b64decode(text, validate=True), "<i2")
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    return (pcm / np.float32(32768), sampling_rate) if len(pcm) else None


@dataclass
class LiveSession:
    """One visitor's microphone: the last window of sound, and its classification so far."""

    waveform: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    sampling_rate: int = 0  # hertz
    seconds: float = 0.0  # of sound received so far
    is_quiet: bool = False
    probabilities: dict[str, float] | None = None  # smoothed
    genre: str | None = None  # None if no genre is clearly ahead
    n_predictions: int = 0  # since the last quiet moment
    history: deque[pictures.Cell] = field(default_factory=lambda: deque(maxlen=120))

    def add_chunk(self, chunk: np.ndarray, sampling_rate: int, window_seconds: float) -> None:
        """Add a chunk, float32 of shape (samples,); only the last window is kept."""
        self.seconds += len(chunk) / sampling_rate
        self.is_quiet = bool(np.sqrt(np.mean(chunk**2)) < QUIET_RMS)
        if self.is_quiet or sampling_rate != self.sampling_rate:
            self.waveform, self.n_predictions = self.waveform[:0], 0
        if not self.is_quiet:
            self.sampling_rate = sampling_rate
            window = int(window_seconds * sampling_rate)
            self.waveform = np.concatenate([self.waveform, chunk])[-window:]

    def classify(self, classifier: GenreClassifier) -> None:
        """Classify the last window and smooth the result with earlier predictions."""
        since = self.history[-1][1] if self.history else 0.0
        new = min(len(self.waveform) / max(self.sampling_rate, 1), self.seconds - since)
        if new < MIN_NEW_SECONDS:  # also after a quiet chunk, which empties the waveform
            return
        try:
            newest = classifier(self.waveform, self.sampling_rate).probabilities
        except AudioError:  # for example, all sound is above half the model's sampling rate
            return
        self.n_predictions += 1
        weight = max(SMOOTHING, 1 / self.n_predictions)  # at first, a plain mean
        before = self.probabilities or newest
        self.probabilities = {g: weight * p + (1 - weight) * before[g] for g, p in newest.items()}
        (best, share), (_, second_share) = pictures.best_two(self.probabilities)
        lead = HOLD_LEAD if best == self.genre else TAKE_LEAD
        self.genre = best if share - second_share >= lead else None
        since = max(since, self.seconds - 2 * CHUNK_SECONDS)
        self.history.append((since, self.seconds, self.probabilities))

    def as_html(self, labels: Sequence[str]) -> tuple[str, str]:
        """The headline and the pictures."""
        word, note, kind = "listening…", "the first answer comes after a second", "open"
        if self.is_quiet:
            note = "waiting for sound that is loud enough"
        if self.probabilities:
            (best, share), (second, second_share) = pictures.best_two(self.probabilities)
            word, note, kind = best, f"{share:.0%} sure", ""
            if self.genre is None:
                word, kind = "unsure", "open"
                note = f"{best} {share:.0%}, {second} {second_share:.0%}"
            note += ", quiet now" if self.is_quiet else ""
            note += f" · processed {pictures.clock(self.seconds)}"
        return pictures.headline(word, note, kind), pictures.live_picture(
            self.probabilities or dict.fromkeys(labels, 0.0), self.history, self.seconds
        )
