"""Clips for the Trainer: random crops to train on, and all windows of a track to evaluate on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from music_genre import old_audio as audio
from music_genre import windows
from music_genre.training.augmentation import mix, random_crop
from music_genre.training.feature_store import N_NEW_EPOCHS, FeatureStore


@dataclass(frozen=True)
class Augmentation:
    """What happens to crops in training; see augmentation.py."""

    mixup: float = 0.0  # alpha of the beta distribution that shares are drawn from; 0 is without
    speed_perturbation: bool = False
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
            waveform = audio.read_wav(data, max(0, n_left) // 2, self.max_samples or -1)
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
    uninterrupted one gets. With frozen convolutions crops repeat after N_NEW_EPOCHS epochs, as
    features where there is room to keep these.
    """

    def __init__(
        self, clips: Dataset, window: int, seed: int, augmentation: Augmentation | None = None
    ) -> None:
        self.clips, self.window, self.seed, self.epoch = clips, window, seed, 0
        self.repeats = False  # after N_NEW_EPOCHS epochs
        self.store: FeatureStore | None = None  # where the features of repeated crops are, if any
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
        epoch = self.epoch % N_NEW_EPOCHS if self.repeats else self.epoch
        key = epoch * len(self) + i
        if self.store and (known := self.store.read(key)):
            return {"key": key, "features": known[0], "target": known[1]}
        rng = np.random.default_rng((self.seed, epoch, i))
        item = make_crop(
            self._clip_in_turn(key),
            lambda: self._clip_in_turn(int(rng.integers(2**31))),
            self.window,
            self.n_labels,
            self.augmentation,
            rng,
        )
        return item | ({"key": key} if self.store else {})

    def augmented(self, clips: Sequence[int], n: int) -> list[np.ndarray]:
        """Random crops of these clips in turn, not mixed; none if this run changes no crops."""
        if not self.augmentation.speed_perturbation:
            return []
        rng = np.random.default_rng((self.seed, clips[0]))
        data = [self.rows[int(clip)]["audio"]["bytes"] for clip in clips[:n]]
        return [random_crop(data[i % len(data)], self.window, rng, True) for i in range(n)]

    def _clip_in_turn(self, n: int) -> dict[str, Any]:
        """The clip whose turn is the n-th."""
        round_, genre = divmod(n, len(self.of_genre))
        clips = self.of_genre[genre]
        return self.rows[int(clips[round_ % len(clips)])]


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
    perturbs = augmentation.speed_perturbation
    samples = random_crop(clip["audio"]["bytes"], window, rng, perturbs)
    target = targets[clip["genre"]]
    if augmentation.mixup:
        share = rng.beta(augmentation.mixup, augmentation.mixup)
        other = partner()
        samples = mix(samples, random_crop(other["audio"]["bytes"], window, rng, perturbs), share)
        target = share * target + (1 - share) * targets[other["genre"]]
    item = {"crop": samples, "target": target.astype(np.float32)}
    return item | ({"mask_seed": int(rng.integers(2**31))} if augmentation.spec_augment else {})
