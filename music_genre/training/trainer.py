"""The Trainer for clips: random crops in training, the mean over windows in evaluation."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import SequenceFeatureExtractor, Trainer
from transformers.trainer_utils import EvalPrediction

from music_genre import audio, windows
from music_genre.errors import InputError
from music_genre.evaluation.calibration import fit_temperature, with_temperature
from music_genre.evaluation.metrics import GenreMetrics, negative_log_likelihood
from music_genre.training.augmentation import equalize, mask_spectrograms, mix, random_crop
from music_genre.training.checkpoints import load_weights

PADDING = -100  # what the Trainer pads predictions with


@dataclass(frozen=True)
class Augmentation:
    """What happens to crops in training; see augmentation.py."""

    mixup: float = 0.0  # alpha of the beta distribution that shares are drawn from; 0 is without
    speed_perturbation: bool = False
    equalization: bool = False
    spec_augment: bool = False


class ClipDataset(torch.utils.data.Dataset):
    """Tracks for the Trainer: all windows of a track, as in evaluation.

    A track is one clip, or the excerpts of a song that data_prep cut it to.

    Args:
        clips: with the columns audio (WAV bytes), genre and track_id; with `start`, too, clips of
            one track_id are one track.
        window: samples.
        max_samples: take so many from the middle of a clip; None takes all.
    """

    def __init__(self, clips: Dataset, window: int, max_samples: int | None = None) -> None:
        self.clips, self.window, self.max_samples = clips, window, max_samples
        self.tracks = rows_of_tracks(clips)

    def middle(self, seconds: float) -> "ClipDataset":
        return ClipDataset(self.clips, self.window, int(seconds * audio.SAMPLING_RATE))

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, i: int) -> dict[str, Any]:
        rows = self.tracks[i]
        if self.max_samples:
            rows = [rows[len(rows) // 2]]
        cuts = []
        for row in rows:
            clip = self.clips[row]
            data = clip["audio"]["bytes"]
            n_left = audio.n_samples(data) - self.max_samples if self.max_samples else 0
            waveform = _read(data, max(0, n_left) // 2, self.max_samples or -1)
            cuts += windows.cut(waveform, self.window)
        return {"windows": cuts, "label": clip["genre"]}

    def of_tracks(self, column: str) -> list:
        """A column's value for each track."""
        values = self.clips[column]
        return [values[rows[0]] for rows in self.tracks]

    @property
    def artists(self) -> list[str]:
        """Of each track; empty where it is unknown."""
        has_artists = "artist" in self.clips.column_names
        return self.of_tracks("artist") if has_artists else [""] * len(self)

    def n_windows(self) -> int:
        """Of all clips."""
        return sum(
            len(windows.window_starts(audio.n_samples(clip["bytes"]), self.window))
            for clip in self.clips["audio"]
        )


def rows_of_tracks(clips: Dataset) -> list[list[int]]:
    """The rows of each track, in the order of their first ones."""
    if "start" not in clips.column_names:
        return [[row] for row in range(len(clips))]
    rows: dict[str, list[int]] = {}
    for row, track_id in enumerate(clips["track_id"]):
        rows.setdefault(track_id, []).append(row)
    return list(rows.values())


class CropDataset(torch.utils.data.Dataset):
    """Random crops of clips, for training.

    An epoch has as many crops as windows fit into the clips. Genres take turns, and so do the clips
    of a genre: otherwise the model would learn to expect the genres that have more clips. A crop
    depends on seed, epoch and its index alone, so a resumed run gets the crops that an
    uninterrupted one gets.
    """

    def __init__(
        self, clips: Dataset, window: int, seed: int, augmentation: Augmentation | None = None
    ) -> None:
        self.clips, self.window, self.seed, self.epoch = clips, window, seed, 0
        self.rows = clips.select_columns(["audio", "genre"])  # the others cost time in each row
        self.augmentation = augmentation or Augmentation()
        some = clips.select(range(0, len(clips), max(1, len(clips) // 50)))["audio"]
        mean_length = np.mean([audio.n_samples(clip["bytes"]) for clip in some])
        self.crops_per_clip = max(1, round(mean_length / window))
        self.n_labels = clips.features["genre"].num_classes
        genres = np.array(clips["genre"])
        self.of_genre = [np.flatnonzero(genres == genre) for genre in np.unique(genres)]

    def __len__(self) -> int:
        return len(self.clips) * self.crops_per_clip

    def __getitem__(self, i: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, self.epoch, i))
        return make_crop(
            self._clip_in_turn(self.epoch * len(self) + i),
            lambda: self._clip_in_turn(int(rng.integers(2**31))),
            self.window,
            self.n_labels,
            self.augmentation,
            rng,
        )

    def augmented(self, clips: Sequence[int], n: int) -> list[np.ndarray]:
        """Random crops of these clips in turn, not mixed; none if this run changes no crops."""
        if not (self.augmentation.speed_perturbation or self.augmentation.equalization):
            return []
        rng = np.random.default_rng((self.seed, clips[0]))
        data = [self.rows[int(clip)]["audio"]["bytes"] for clip in clips[:n]]
        return [crop(data[i % len(data)], self.window, self.augmentation, rng) for i in range(n)]

    def _clip_in_turn(self, n: int) -> dict[str, Any]:
        """The clip whose turn is the n-th."""
        round_, genre = divmod(n, len(self.of_genre))
        clips = self.of_genre[genre]
        return self.rows[int(clips[round_ % len(clips)])]


@contextmanager
def one_thread() -> Iterator[None]:
    """For crops: waking threads takes longer than these small operations."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


@one_thread()
def crop(
    data: bytes, window: int, augmentation: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """A random crop, shape (window,), of a clip's WAV bytes."""
    read, length = partial(_read, data), audio.n_samples(data)
    samples = random_crop(read, length, window, rng, augmentation.speed_perturbation)
    return equalize(samples, rng) if augmentation.equalization else samples


def make_crop(
    clip: dict[str, Any],
    partner: Callable[[], dict[str, Any]],
    window: int,
    n_labels: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """A crop of a clip with its target, shape (labels,); mixed with one of the partner."""
    targets = np.eye(n_labels)
    samples = crop(clip["audio"]["bytes"], window, augmentation, rng)
    target = targets[clip["genre"]]
    if augmentation.mixup:
        share = rng.beta(augmentation.mixup, augmentation.mixup)
        other = partner()
        samples = mix(samples, crop(other["audio"]["bytes"], window, augmentation, rng), share)
        target = share * target + (1 - share) * targets[other["genre"]]
    item = {"crop": samples, "target": target.astype(np.float32)}
    return item | ({"mask_seed": int(rng.integers(2**31))} if augmentation.spec_augment else {})


def _read(data: bytes, start: int = 0, frames: int = -1) -> np.ndarray:
    return audio.read_wav(data, start, frames).astype(np.float32) / 32768


class ClipTrainer(Trainer):
    """A Trainer that evaluates whole clips: the mean over windows, as in `GenreClassifier`.

    With several processes, accelerate's data loader gives each its part of every batch.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is ours, a mean over the crops

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross entropy with targets of shape (crops, labels), which mixup makes."""
        targets = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits.float(), targets, label_smoothing=self.args.label_smoothing_factor
        )
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise InputError(
                f"The loss at step {self.state.global_step + 1} is {loss.item()}: the run stops. "
                "Try a lower --learning_rate, or --precision fp32."
            )
        return loss

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_weights(self.model, Path(self.state.best_model_checkpoint))

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():  # in training the model is wrapped to compute in its precision
            window_probabilities = windows.clip_probabilities(model, inputs["windows"])
        # Clips differ in their number of windows; between batches the Trainer pads like this too.
        padded = torch.nn.utils.rnn.pad_sequence(window_probabilities, True, padding_value=PADDING)
        return None, padded, inputs["labels"]

    def estimate_evaluation(self, datasets: dict[str, ClipDataset]) -> tuple[float, float]:
        """Seconds that a validation in training, and all scoring after it, will take.

        From one batch of validation clips in each precision, before the model is wrapped.
        """
        n_windows = {name: datasets[name].n_windows() for name in ("validation", "test")}
        n_short = len(datasets["validation"]) + len(datasets["test"])
        in_training, after = (
            self._seconds_per_window(datasets["validation"], context) / self.args.world_size
            for context in (self.accelerator.autocast, nullcontext)
        )
        n_scored = 2 * sum(n_windows.values()) + n_short  # twice: by windows and in one pass
        return n_windows["validation"] * in_training, n_scored * after

    def estimate_step(self) -> float:
        """Seconds of a training step without the optimizer's part; nothing is changed.

        Of one batch, before the model is wrapped.
        """
        model, items = (
            self.model.train(),
            range(min(len(self.train_dataset), self.args.train_batch_size)),
        )
        batch = self.data_collator([self.train_dataset[i] for i in items])
        with torch.random.fork_rng():
            for _ in range(2):  # the first one warms up
                start = time.monotonic()
                with self.accelerator.autocast():
                    loss = self.compute_loss(model, self._prepare_inputs(dict(batch)))
                loss.backward()
                loss.item()  # waits for a GPU
        model.zero_grad()
        return (time.monotonic() - start) * self.args.gradient_accumulation_steps

    def _seconds_per_window(
        self, dataset: ClipDataset, context: Callable[[], AbstractContextManager]
    ) -> float:
        model, items = self.model.eval(), range(min(len(dataset), self.args.eval_batch_size))
        for _ in range(2):  # the first one warms up
            start = time.monotonic()
            batch = self._prepare_inputs(self.data_collator([dataset[i] for i in items]))
            with context(), torch.no_grad():
                window_probabilities = windows.clip_probabilities(model, batch["windows"])
            n_windows = len(torch.cat(window_probabilities).cpu())  # .cpu() waits for a GPU
        return (time.monotonic() - start) / n_windows

    def score(self, dataset: ClipDataset) -> tuple[list[np.ndarray], np.ndarray]:
        """Classify every clip once, in fp32, as a user of the model does.

        Returns:
            Per clip the probabilities of its windows, shape (windows, labels); and the labels.
        """
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        output = self.predict(dataset)
        return without_padding(output.predictions), output.label_ids


def without_padding(predictions: np.ndarray) -> list[np.ndarray]:
    """Per clip shape (windows, labels), from shape (clips, most windows, labels)."""
    return [clip[clip[:, 0] != PADDING] for clip in predictions]


def make_collate(feature_extractor: SequenceFeatureExtractor, input_name: str):
    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        if "crop" in items[0]:
            crops = [item["crop"] for item in items]
            features = windows.extract_features(feature_extractor, crops)
            if "mask_seed" in items[0] and features.ndim == 3:
                features = mask_spectrograms(features, items[0]["mask_seed"])
            targets = torch.from_numpy(np.stack([item["target"] for item in items]))
            return {"labels": targets, input_name: features}
        # Labels come first: the Trainer takes the first tensor's length for the number of clips.
        labels = torch.tensor([item["label"] for item in items])
        of_clips = [windows.extract_features(feature_extractor, item["windows"]) for item in items]
        return {"labels": labels, "windows": of_clips}

    return collate


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    return validation_metrics(without_padding(prediction.predictions), prediction.label_ids)


def validation_metrics(
    window_probabilities: list[np.ndarray], references: np.ndarray
) -> dict[str, float]:
    """The metrics that epochs are compared by.

    `calibrated_loss` is the loss under the best temperature: the confidence of a model says little
    about how good it is, and is calibrated in the end anyway.
    """
    probabilities = np.stack([clip.mean(0) for clip in window_probabilities])
    calibrated = with_temperature(
        window_probabilities, fit_temperature(window_probabilities, references)
    )
    return GenreMetrics().compute(predictions=probabilities.argmax(-1), references=references) | {
        "loss": negative_log_likelihood(probabilities, references),
        "calibrated_loss": negative_log_likelihood(calibrated, references),
    }
