"""Classify many files with one model: processes decode ahead, and files share batches.

    for prediction in classify_files(GenreClassifier("runs/mine"), ["a.mp3", "b.flac"]):
        print(prediction.path, prediction.probabilities)

Memory is bounded: QUEUE_SIZE windows wait for the model, and of each file being decoded at most
`audio.KEEP_SECONDS` are held.
"""

import math
import os
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from music_genre import old_audio as audio
from music_genre import windows
from music_genre.classifier import BATCH_SIZE, MAX_FILE_SECONDS, MIN_SECONDS, GenreClassifier
from music_genre.decoder_pool import TRIES, DecoderError, Decoders

QUEUE_SIZE = 4 * BATCH_SIZE  # windows
DECODERS = Decoders(seconds=60, stalled_after=300)


@dataclass
class FilePrediction:
    """The result for one file; `probabilities` is None where there is an `error`.

    duration: seconds; where only a part was processed, what the header claims, or None.
    probabilities: of each label, the mean over windows; float64, shape (labels,).
    is_temporary: the file could not be read this time, and the next scan tries again.
    """

    path: str
    duration: float | None = None
    seconds_processed: float = 0.0
    probabilities: np.ndarray | None = None
    error: str | None = None
    is_temporary: bool = False


@dataclass(eq=False)
class _FileInProgress:
    prediction: FilePrediction
    n_windows: int = 0
    n_classified: int = 0
    is_decoded: bool = False


class _Stopped(Exception):
    """The caller closed the generator."""


def classify_files(
    classifier: GenreClassifier, paths: Iterable[str], seconds: float | None = None
) -> Iterator[FilePrediction]:
    """Yield a prediction for every file, in the order they finish; a broken file ends nothing.

    Args:
        seconds: how much of each file to decode and classify, from its middle; None for all.

    The probabilities are those of `GenreClassifier`, up to rounding. All batches have the same
    size, so that a window's result does not depend on its neighbours: an interrupted scan gives the
    same figures as an uninterrupted one.
    """
    decoder = _Decoder(classifier, iter(paths), seconds)
    threads = [threading.Thread(target=decoder.run, daemon=True) for _ in range(_n_threads())]
    for thread in threads:
        thread.start()
    try:
        yield from _predictions(classifier, decoder.queue, len(threads))
    finally:
        decoder.stop.set()
        for thread in threads:
            thread.join(timeout=5)  # a long file is decoded to its end, which may take longer


def _n_threads() -> int:
    """As many as cores, shared among the processes that the launcher started on this machine."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (n_cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


class _Decoder:
    """Each thread queues (file, window), then (file, None) at a file's end and None at its own.

    A thread waits for a decoder process, and resamples and cuts what comes from it.
    """

    def __init__(
        self, classifier: GenreClassifier, paths: Iterator[str], seconds: float | None
    ) -> None:
        self.sampling_rate = classifier.feature_extractor.sampling_rate
        self.window = int(classifier.window_seconds * self.sampling_rate)
        self.paths, self.seconds = paths, seconds
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.queue: queue.Queue = queue.Queue(QUEUE_SIZE)

    def run(self) -> None:
        try:
            while (path := self._next_path()) is not None:
                file, n_tries = None, 0
                while file is None:
                    n_tries += 1
                    file = self._decode_file(path, n_tries)
                self._put((file, None))
            self._put(None)
        except _Stopped:
            pass
        except BaseException as error:
            self._put(error)

    def _decode_file(self, path: str, n_tries: int) -> _FileInProgress | None:
        """Queue a file's windows. None if it is to be tried again: the windows then lead nowhere.

        Raises:
            InputError: no file can be decoded.
        """
        file = _FileInProgress(FilePrediction(path))
        prediction = file.prediction
        try:
            for window in self._windows(prediction, is_fresh=n_tries > 1):
                file.n_windows += 1
                self._put((file, window))
        except DecoderError as error:
            if error.is_worth_retrying and n_tries < TRIES:
                return None
            prediction.error, prediction.is_temporary = str(error), error.is_temporary
        except audio.AudioError as error:
            prediction.error = str(error)
        except OSError as error:
            prediction.error = f"it cannot be read: {error.strerror or error}"
            prediction.is_temporary = True
        return file

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

    def _windows(self, prediction: FilePrediction, is_fresh: bool) -> Iterator[np.ndarray]:
        """Yield a file's windows, float32, and fill in the durations of its prediction.

        is_fresh: decode it in a process that is new.
        """
        open_file = partial(DECODERS.open_audio, is_fresh=is_fresh)
        path, start, claimed = prediction.path, 0.0, None
        if self.seconds:
            with open_file(path) as file:
                claimed = file.duration
            start = max(0.0, ((claimed or 0.0) - self.seconds) / 2)
        try:
            blocks, n_samples = self._decode(path, start, open_file)
        except DecoderError:
            raise
        except audio.AudioError:
            if not start:
                raise
            start = 0.0  # the header claims more than there is
            blocks, n_samples = self._decode(path, start, open_file)
        if n_samples < MIN_SECONDS * self.sampling_rate:
            raise audio.AudioError(f"it is shorter than {MIN_SECONDS:g} s")
        prediction.seconds_processed = n_samples / self.sampling_rate
        is_whole = not start and prediction.seconds_processed < (self.seconds or math.inf)
        prediction.duration = prediction.seconds_processed if is_whole else claimed
        starts = windows.window_starts(n_samples, self.window)
        n_cut, is_silent = 0, True
        for window in windows.cut_blocks(blocks, starts, self.window):
            n_cut += 1
            is_silent = is_silent and audio.is_silent(window)
            yield window
        if n_cut < len(starts):
            raise audio.AudioError("it changed while it was read")
        if is_silent:
            raise audio.AudioError("it is silent" if is_whole else "its middle is silent")

    def _decode(
        self, path: str, start: float, open_file: audio.Opener
    ) -> tuple[Iterable[np.ndarray], int]:
        seconds = self.seconds or math.inf
        return audio.decode_in_blocks(
            path, MAX_FILE_SECONDS, self.sampling_rate, start, seconds, open_file
        )


def _predictions(
    classifier: GenreClassifier, decoded: queue.Queue, n_threads: int
) -> Iterator[FilePrediction]:
    batch: list[tuple[_FileInProgress, np.ndarray]] = []
    while n_threads:
        item = decoded.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            n_threads -= 1
        elif item[1] is None:
            item[0].is_decoded = True
            yield from _finished([item[0]])
        else:
            batch.append(item)
            if len(batch) == BATCH_SIZE:
                yield from _classify_batch(classifier, batch)
                batch = []
    if batch:
        yield from _classify_batch(classifier, batch)


def _classify_batch(
    classifier: GenreClassifier, batch: list[tuple[_FileInProgress, np.ndarray]]
) -> Iterator[FilePrediction]:
    cuts = [window for _, window in batch]
    cuts += [cuts[-1]] * (BATCH_SIZE - len(cuts))
    for (file, _), probabilities in zip(batch, classifier.window_probabilities(cuts), strict=False):
        total = file.prediction.probabilities
        file.prediction.probabilities = probabilities if total is None else total + probabilities
        file.n_classified += 1
    yield from _finished(dict.fromkeys(file for file, _ in batch))


def _finished(files: Iterable[_FileInProgress]) -> Iterator[FilePrediction]:
    for file in files:
        if file.is_decoded and file.n_classified == file.n_windows:
            prediction = file.prediction
            if prediction.error:
                prediction.probabilities, prediction.seconds_processed = None, 0.0
            else:
                prediction.probabilities = prediction.probabilities / file.n_windows
            yield prediction
