"""Clips for training: random crops to train on, windows to validate on, whole tracks to score."""

import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from torch.utils import data

from music_genre import windows
from music_genre.training.augmentation import mix, random_crop
from music_genre.wav import num_samples, read_wav


class TrackDataset(data.Dataset):
    """All windows of each track, as a user of the model classifies it.

    Args:
        clips: the columns of a prepared dataset. The clips with one track_id are excerpts of a song
            and count as one track.
        window: length in samples.
    """

    def __init__(self, clips: Dataset, window: int) -> None:
        self.clips, self.window = clips, window
        self.tracks = rows_of_tracks(clips)

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, i: int) -> list[np.ndarray]:
        """The windows of a track, each float32, shape (window,)."""
        return [cut for w in self.waveforms(i) for cut in windows.cut(w, self.window)]

    def waveforms(self, i: int) -> list[np.ndarray]:
        """The waveforms of the track's clips; float32, shape (samples,) each."""
        return [read_wav(self.clips[row]["audio"]["bytes"]) for row in self.tracks[i]]

    def middle(self, i: int, seconds: float, sampling_rate: int) -> list[np.ndarray]:
        """The windows in the middle `seconds` of a track."""
        rows, length = self.tracks[i], int(seconds * sampling_rate)
        clip = self.clips[rows[len(rows) // 2]]["audio"]["bytes"]
        start = max(0, num_samples(clip) - length) // 2
        return windows.cut(read_wav(clip, start, length), self.window)

    def track_values(self, column: str) -> list:
        """A column's value for each track."""
        values = self.clips[column]
        return [values[rows[0]] for rows in self.tracks]

    @property
    def labels(self) -> np.ndarray:
        """The genre of each track; int, shape (tracks,)."""
        return np.array(self.track_values("genre"), dtype=int)

    @property
    def artists(self) -> list[str]:
        """The artist of each track; empty where it is unknown."""
        return self.track_values("artist")


def rows_of_tracks(clips: Dataset) -> list[list[int]]:
    """The rows of each track; tracks are in the order of their first rows."""
    rows: dict[str, list[int]] = {}
    for row, track_id in enumerate(clips["track_id"]):
        rows.setdefault(track_id, []).append(row)
    return list(rows.values())


class WindowDataset(data.Dataset):
    """Every window of a TrackDataset as a row, for the Trainer's validation.

    The `labels` of a row are two numbers, the genre and the track's index: `compute_metrics` takes
    the mean over the windows of a track.
    """

    def __init__(self, tracks: TrackDataset) -> None:
        self.tracks = tracks
        self.rows = [
            (track, row, int(start))
            for track, rows in enumerate(tracks.tracks)
            for row in rows
            for start in windows.window_starts(
                num_samples(tracks.clips[row]["audio"]["bytes"]), tracks.window
            )
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        track, row, start = self.rows[i]
        clip, window = self.tracks.clips[row], self.tracks.window
        samples = np.resize(read_wav(clip["audio"]["bytes"], start, window), window)
        return {"samples": samples, "labels": np.array([clip["genre"], track])}


class CropDataset(data.Dataset):
    """Random crops of clips, for training; an epoch has one for each window that fits into them.

    Genres take turns, and so do the clips of a genre, over all epochs: otherwise the model would
    learn to expect the genres that have more clips. A crop depends only on seed, epoch and its
    index, so a resumed run gets the same crops as an uninterrupted one.

    Args:
        mixup: alpha of the beta distribution that shares are drawn from; 0 turns mixup off.
    """

    def __init__(
        self,
        clips: Dataset,
        window: int,
        seed: int,
        mixup: float = 0.0,
        speed_perturbation: bool = False,
        spec_augment: bool = False,
    ) -> None:
        self.clips, self.window, self.seed, self.epoch = clips, window, seed, 0
        self.mixup, self.spec_augment = mixup, spec_augment
        self.speed_perturbation = speed_perturbation
        self.rows = clips.select_columns(["audio", "genre"])  # other columns cost time in each row
        some = clips.select(range(0, len(clips), max(1, len(clips) // 50)))["audio"]
        mean_length = np.mean([num_samples(clip["bytes"]) for clip in some])
        self.crops_per_clip = max(1, round(mean_length / window))
        self.num_labels = clips.features["genre"].num_classes
        genres = np.array(clips["genre"])
        self.rows_by_genre = [np.flatnonzero(genres == genre) for genre in np.unique(genres)]

    def __len__(self) -> int:
        return len(self.clips) * self.crops_per_clip

    def __getitem__(self, i: int) -> dict[str, Any]:
        """`samples`, shape (window,), and `labels`, a target of shape (num_labels,)."""
        if data.get_worker_info():
            # A launcher sends SIGTERM to all processes, but a run that saves needs its workers.
            # torch sets its own handler in each worker before this.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        rng = np.random.default_rng((self.seed, self.epoch, i))
        samples, target = self._crop(self.clip_in_turn(self.epoch * len(self) + i), rng)
        if self.mixup:
            share = rng.beta(self.mixup, self.mixup)
            other, other_target = self._crop(self.clip_in_turn(int(rng.integers(2**31))), rng)
            samples = mix(samples, other, share)
            target = share * target + (1 - share) * other_target
        item = {"samples": samples, "labels": target.astype(np.float32)}
        if self.spec_augment:
            item["mask_seed"] = int(rng.integers(2**31))
        return item

    def _crop(
        self, clip: dict[str, Any], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A crop of a clip, and its target, shape (num_labels,)."""
        crop = random_crop(clip["audio"]["bytes"], self.window, rng, self.speed_perturbation)
        return crop, np.eye(self.num_labels)[clip["genre"]]

    def augmented(self, rows: Sequence[int], n: int) -> list[np.ndarray]:
        """`n` random crops of these clips in turn, not mixed; none without speed perturbation."""
        if not self.speed_perturbation:
            return []
        rng = np.random.default_rng((self.seed, rows[0]))
        wavs = [self.rows[int(row)]["audio"]["bytes"] for row in rows[:n]]
        return [random_crop(wavs[i % len(wavs)], self.window, rng, True) for i in range(n)]

    def clip_in_turn(self, n: int) -> dict[str, Any]:
        """The clip of the n-th turn."""
        round_, genre = divmod(n, len(self.rows_by_genre))
        rows = self.rows_by_genre[genre]
        return self.rows[int(rows[round_ % len(rows)])]
