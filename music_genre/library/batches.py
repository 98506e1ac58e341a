"""Hear many files with one model: decoding runs ahead in threads, files share passes of the model.

    for answer in hear(GenreClassifier("runs/mine"), ["a.mp3", "b.flac"]):
        print(answer.path, answer.probabilities)

What is in memory at a time is bounded whatever the files: QUEUED windows wait for the model, and of
each file being decoded at most KEEP_SECONDS are held. The windows of a longer file spread over its
whole length, which only decoding tells for sure, so it is decoded twice: that is cheap beside the
model.
"""

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from music_genre import audio, windows
from music_genre.classifier import BATCH_SIZE, MIN_SECONDS

if TYPE_CHECKING:
    from music_genre.classifier import GenreClassifier

MAX_SECONDS = 24 * 3600.0  # of a file: a small one can claim, and decode to, any length
KEEP_SECONDS = 600.0
QUEUED = 4 * BATCH_SIZE


@dataclass
class Answer:
    """What is known of a file; `probabilities` is None where there is an `error`.

    duration: seconds; where only a part was heard, as the header claims, or None.
    probabilities: of each label, the mean over windows; float64, shape (labels,).
    is_passing: the error is not the file's: it could not be read this time.
    """

    path: str
    duration: float | None = None
    seconds_heard: float = 0.0
    probabilities: np.ndarray | None = None
    error: str | None = None
    is_passing: bool = False


@dataclass(eq=False)
class _Work:
    """A file on its way through the queue."""

    answer: Answer
    n_cut: int = 0
    n_heard: int = 0
    is_decoded: bool = False


class _Stopped(Exception):
    """The one who asked for answers wants no more."""


def hear(
    classifier: "GenreClassifier", paths: Iterable[str], seconds: float | None = None
) -> Iterator[Answer]:
    """Yield an answer for every file, as they come. No file's fault ends it.

    Args:
        seconds: how much of each to decode and hear, from its middle; None for all.

    Files answer as `GenreClassifier` does, up to rounding. Full windows are heard in batches of
    always the same size, for then a window's answer does not depend on its neighbours: a scan that
    was interrupted gives the same figures as one that was not.
    """
    decoder = _Decoder(classifier, iter(paths), seconds)
    threads = [threading.Thread(target=decoder.run, daemon=True) for _ in range(_n_threads())]
    for thread in threads:
        thread.start()
    try:
        yield from _answers(classifier, decoder.queue, len(threads))
    finally:
        decoder.stop.set()
        for thread in threads:
            thread.join()


def _n_threads() -> int:
    """As many as cores, shared among the processes that the launcher started on this machine."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (n_cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


class _Decoder:
    """What the threads do: (work, window) into the queue, and (work, None) at the end of a file."""

    def __init__(
        self, classifier: "GenreClassifier", paths: Iterator[str], seconds: float | None
    ) -> None:
        self.sampling_rate = classifier.feature_extractor.sampling_rate
        self.window = int(classifier.window_seconds * self.sampling_rate)
        self.paths, self.seconds = paths, seconds
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.queue: queue.Queue = queue.Queue(QUEUED)

    def run(self) -> None:
        try:
            while (path := self._next_path()) is not None:
                work = _Work(Answer(path))
                try:
                    for cut in self._cut(work.answer):
                        work.n_cut += 1
                        self._put((work, cut))
                except audio.AudioError as error:
                    work.answer.error = str(error)
                except OSError as error:
                    work.answer.error = f"it cannot be read: {error.strerror or error}"
                    work.answer.is_passing = True
                except _Stopped:
                    raise
                except Exception as error:  # whatever a decoder makes of a broken file
                    work.answer.error = f"it cannot be decoded ({type(error).__name__}: {error})"
                self._put((work, None))
            self._put(None)
        except _Stopped:
            pass
        except BaseException as error:
            self._put(error)

    def _next_path(self) -> str | None:
        with self.lock:
            return next(self.paths, None)

    def _put(self, item: object) -> None:
        while not self.stop.is_set():
            try:
                return self.queue.put(item, timeout=0.2)
            except queue.Full:
                pass
        raise _Stopped

    def _cut(self, answer: Answer) -> Iterator[np.ndarray]:
        """Yield a file's windows, float32, and fill in its answer's durations."""
        seconds, start, claimed = min(self.seconds or MAX_SECONDS, MAX_SECONDS), 0.0, None
        if self.seconds:
            with audio.open_audio(answer.path) as file:
                claimed = file.duration
            start = max(0.0, ((claimed or 0.0) - seconds) / 2)
        kept, n_samples = self._measure(answer.path, start, seconds)
        if start and not n_samples:  # the header claims more than there is
            start = 0.0
            kept, n_samples = self._measure(answer.path, start, seconds)
        if not n_samples:
            raise audio.AudioError("it holds no audio samples")
        if n_samples < MIN_SECONDS * self.sampling_rate:
            raise audio.AudioError(f"it is shorter than {MIN_SECONDS:g} s")
        answer.seconds_heard = n_samples / self.sampling_rate
        is_whole = not start and answer.seconds_heard < seconds
        answer.duration = answer.seconds_heard if is_whole else claimed
        blocks = self._blocks(answer.path, start, seconds) if kept is None else kept
        yield from windows.cut_blocks(
            blocks, windows.window_starts(n_samples, self.window), self.window
        )

    def _measure(
        self, path: str, start: float, seconds: float
    ) -> tuple[list[np.ndarray] | None, int]:
        """The blocks, or None where they are too many to keep; and the samples in them."""
        kept, n_samples = [], 0
        for block in self._blocks(path, start, seconds):
            n_samples += len(block)
            if kept is not None:
                kept.append(block)
            if n_samples > KEEP_SECONDS * self.sampling_rate:
                kept = None
            if self.stop.is_set():
                raise _Stopped
        return kept, n_samples

    def _blocks(self, path: str, start: float, seconds: float) -> Iterator[np.ndarray]:
        with audio.open_audio(path) as file:
            yield from audio.resample_blocks(
                file.blocks(start, seconds), file.sampling_rate, self.sampling_rate
            )


def _answers(classifier: "GenreClassifier", heard: queue.Queue, n_threads: int) -> Iterator[Answer]:
    waiting: list[tuple[_Work, np.ndarray]] = []
    while n_threads:
        item = heard.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            n_threads -= 1
        elif item[1] is None:
            item[0].is_decoded = True
            yield from _finished([item[0]])
        else:
            waiting.append(item)
            if len(waiting) == BATCH_SIZE:
                yield from _hear_batch(classifier, waiting)
                waiting = []
    if waiting:
        yield from _hear_batch(classifier, waiting, pad_to=BATCH_SIZE)


def _hear_batch(
    classifier: "GenreClassifier", batch: list[tuple[_Work, np.ndarray]], pad_to: int = 0
) -> Iterator[Answer]:
    cuts = [cut for _, cut in batch]
    cuts += [cuts[-1]] * (pad_to - len(cuts))
    for (work, _), probabilities in zip(batch, classifier.window_probabilities(cuts), strict=False):
        total = work.answer.probabilities
        work.answer.probabilities = probabilities if total is None else total + probabilities
        work.n_heard += 1
    yield from _finished(dict.fromkeys(work for work, _ in batch))


def _finished(works: Iterable[_Work]) -> Iterator[Answer]:
    for work in works:
        if work.is_decoded and work.n_heard == work.n_cut:
            answer = work.answer
            if answer.error:
                answer.probabilities, answer.seconds_heard = None, 0.0
            else:
                answer.probabilities = answer.probabilities / work.n_cut
            yield answer
