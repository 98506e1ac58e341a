"""Which tracks a model was trained on, in a file beside its weights; and which it has seen before.

A model that continues from another one has seen the other's tracks, too: an accuracy on them is
that of tracks it was trained on. The file has hashes only, so no file name leaks.
"""

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from datasets import Dataset

from data_prep.prepared import Preparation
from music_genre.loading import ModelFolder

TRACKS_FILE = "train_tracks.json"


@dataclass(frozen=True)
class SeenTracks:
    """What a model was trained on: SHA-256 of each track's id, and of the samples of each clip."""

    dataset: str
    track_ids: frozenset[str] = field(default_factory=frozenset)
    samples: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, dataset: str, clips: Dataset) -> "SeenTracks":
        """
        Args:
            clips: with the columns track_id and audio (16-bit WAV bytes).
        """
        samples = frozenset(_hash_samples(clip["bytes"]) for clip in clips["audio"])
        return cls(dataset, frozenset(map(_hash_id, clips["track_id"])), samples)

    @classmethod
    def read(cls, folder: Path) -> "SeenTracks | None":
        """Those of the model in a folder; None if it does not say."""
        try:
            known = json.loads((folder / TRACKS_FILE).read_text(encoding="utf-8"))
            return cls(
                str(known["dataset"]), frozenset(known["track_ids"]), frozenset(known["samples"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def joined(self, other: "SeenTracks | None") -> "SeenTracks":
        if other is None:
            return self
        ids = self.track_ids | other.ids_in(self.dataset)
        return SeenTracks(self.dataset, ids, self.samples | other.samples)

    def ids_in(self, dataset: str) -> frozenset[str]:
        """Equal ids say something within one dataset only."""
        return self.track_ids if dataset == self.dataset else frozenset()

    def write(self, folder: Path) -> None:
        content = {name: sorted(getattr(self, name)) for name in ("track_ids", "samples")}
        text = json.dumps({"dataset": self.dataset} | content, indent=1)
        (folder / TRACKS_FILE).write_text(text + "\n", encoding="utf-8")

    def count(self, dataset: str, clips: Dataset) -> int:
        """How many tracks of `clips` are among these."""
        ids = self.ids_in(dataset)
        rows = zip(clips["track_id"], clips["audio"], strict=True)
        return len(
            {
                track_id
                for track_id, clip in rows
                if _hash_id(track_id) in ids or _hash_samples(clip["bytes"]) in self.samples
            }
        )


def _hash_id(track_id: str) -> str:
    return hashlib.sha256(track_id.encode()).hexdigest()


def _hash_samples(wav: bytes) -> str:
    samples, _ = soundfile.read(io.BytesIO(wav), dtype="int16")
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def describe_base(
    found: ModelFolder, base: SeenTracks | None, preparation: Preparation, test: Dataset
) -> tuple[int | None, str | None]:
    """What the base model may know of the test tracks.

    Args:
        base: what it says of its own training.

    Returns:
        How many test tracks it was trained on, None if it does not say; and a warning, or None.
    """
    if base is not None:
        n, n_tracks = base.count(preparation.dataset_name, test), len(set(test["track_id"]))
        warning = (
            f"the base model was trained on {n} of these {n_tracks} test tracks, so the accuracy "
            "on them is not that of music it does not know"
        )
        return n, warning if n else None
    if preparation.kind == "gtzan" and _names_gtzan(found):
        return None, (
            "the base model's card or configuration names GTZAN: it may have been trained on these "
            "test tracks, so the accuracy on them says little"
        )
    return None, None


def _names_gtzan(found: ModelFolder) -> bool:
    files = [path for name in ("README.md", "config.json") if (path := found.path / name).is_file()]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    if found.commit:  # the name of a folder here says nothing
        texts.append(found.name)
    return any("gtzan" in text.lower() for text in texts)
