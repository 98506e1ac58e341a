"""Record the tracks a model was trained on in a file beside its weights, and check a base's record.

A model that continues from another one has also seen the other's tracks, so its accuracy on them
is accuracy on training data. The file holds only hashes, so no file name leaks.
"""

import hashlib
import io
import json
from pathlib import Path

import soundfile
from datasets import Dataset

from data_prep.prepared import Preparation
from music_genre.errors import InputError
from music_genre.loading import ModelFolder

TRACKS_FILE = "train_tracks.json"


def hash_tracks(dataset_name: str, clips: Dataset) -> dict[str, set[str]]:
    """For each track's id, two kinds of SHA-256: of dataset and id, and of each clip's samples.

    Args:
        clips: with the columns track_id and audio (16-bit WAV bytes).
    """
    hashes: dict[str, set[str]] = {}
    for track_id, clip in zip(clips["track_id"], clips["audio"], strict=True):
        samples, _ = soundfile.read(io.BytesIO(clip["bytes"]), dtype="int16")
        texts = f"{dataset_name}\n{track_id}".encode(), samples.astype("<i2").tobytes()
        hashes.setdefault(track_id, set()).update(hashlib.sha256(t).hexdigest() for t in texts)
    return hashes


def read_seen(folder: Path) -> set[str] | None:
    """Hashes of the tracks that the model in a folder was trained on; None if unknown."""
    try:
        return set(json.loads((folder / TRACKS_FILE).read_text(encoding="utf-8"))["tracks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_seen(seen: set[str], folder: Path) -> None:
    text = json.dumps({"tracks": sorted(seen)}, indent=1)
    (folder / TRACKS_FILE).write_text(text + "\n", encoding="utf-8")


def check_resumed(seen: set[str], folder: Path) -> None:
    """Check that a resumed run has the tracks that it began with.

    Raises:
        InputError: the tracks are others, so the run might be tested on what it was trained on.
    """
    if read_seen(folder) not in (None, seen):
        raise InputError(
            f"{folder} was trained on other tracks than the dataset has now: start a new run in "
            "another --output_dir, or resume with the dataset that it had."
        )


def describe_base(
    base: ModelFolder, seen: set[str] | None, preparation: Preparation, test: Dataset
) -> tuple[int | None, str | None]:
    """What the base model may know of the test tracks.

    Args:
        seen: hashes of the tracks the base was trained on, or None if unknown.

    Returns:
        How many test tracks it was trained on (None if unknown), and a warning or None.
    """
    if seen is not None:
        tracks = hash_tracks(preparation.dataset_name, test)
        n = sum(not hashes.isdisjoint(seen) for hashes in tracks.values())
        warning = (
            f"the base model was trained on {n} of these {len(tracks)} test tracks, so the "
            "accuracy on them does not show how well it does on new music"
        )
        return n, warning if n else None
    if preparation.kind == "gtzan" and _names_gtzan(base):
        return None, (
            "the base model's card or configuration names GTZAN: it may have been trained on these "
            "test tracks, so the accuracy on them says little"
        )
    return None, None


def _names_gtzan(base: ModelFolder) -> bool:
    files = [path for name in ("README.md", "config.json") if (path := base.path / name).is_file()]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    if base.commit:  # a local folder's name says nothing
        texts.append(base.name)
    return any("gtzan" in text.lower() for text in texts)
