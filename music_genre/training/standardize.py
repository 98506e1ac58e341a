"""Make any audio dataset with genres look like one of data_prep: names, splits, WAV bytes."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from music_genre import audio
from music_genre.errors import InputError

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1  # of the clips, for each split that is missing
MAX_SECONDS = 600


def standardize(dataset: Dataset | DatasetDict, name: str, seed: int) -> tuple[DatasetDict, bool]:
    """Clips by split, with the columns of `load_data`; decoded once, then cached by `datasets`.

    Args:
        dataset: with a column `audio`, and genres as a ClassLabel or as text in `genre` or `label`.
        name: for messages.
        seed: of the splits that are drawn from train, where validation or test is missing.

    Returns:
        The dataset, and whether a split was drawn.

    Raises:
        InputError: a column or the train split is missing, or a clip has no genre or cannot be
            decoded.
    """
    given = {"train": dataset} if isinstance(dataset, Dataset) else dataset
    if "train" not in given:
        raise InputError(f"{name} needs a train split; it has {', '.join(given) or 'none'}.")
    given = {split: _rename_columns(given[split], name) for split in SPLITS if split in given}
    genres = _genres(given, name)
    splits = {
        split: clips.cast_column("genre", genres).cast_column("audio", Audio(decode=False))
        for split, clips in given.items()
    }
    missing = [split for split in SPLITS if split not in splits]
    if missing:
        parts = _draw_splits(np.array(splits["train"]["genre"]), missing, seed)
        train = splits["train"]
        splits |= {split: train.select(rows) for split, rows in parts.items()}
    dataset = DatasetDict({split: splits[split] for split in SPLITS})
    features = Features(dataset["train"].features | {"track_id": Value("string")})
    return dataset.map(
        _to_wav, with_indices=True, desc="Decoding", features=features, fn_kwargs={"name": name}
    ), bool(missing)


def missing_genres(splits: dict[str, Dataset]) -> list[str]:
    """One sentence for each split that lacks genres of the ClassLabel."""
    effects = {
        "train": "the model cannot learn them",
        "validation": "the best checkpoint is chosen without them",
        "test": "its scores do not cover them",
    }
    sentences = []
    for split, clips in splits.items():
        names = clips.features["genre"].names
        present = set(clips["genre"]) if len(clips) else set()
        lacking = [genre for i, genre in enumerate(names) if i not in present]
        if lacking and present:
            sentences.append(f"{split} has no clip of {', '.join(lacking)}: {effects[split]}.")
    return sentences


def _rename_columns(clips: Dataset, name: str) -> Dataset:
    """The columns `audio` and `genre`, without others."""
    features = clips.features or {}
    texts = [n for n in ("genre", "label") if getattr(features.get(n), "dtype", "") == "string"]
    labels = [n for n, feature in features.items() if isinstance(feature, ClassLabel)] or texts
    if "audio" not in features or not labels:
        raise InputError(
            f"{name} needs a column `audio`, and genres in a ClassLabel or as text in `genre`; it "
            f"has {', '.join(features) or 'no columns'}."
        )
    clips = clips.select_columns(["audio", labels[0]])
    return clips if labels[0] == "genre" else clips.rename_column(labels[0], "genre")


def _genres(splits: dict[str, Dataset], name: str) -> ClassLabel:
    """One ClassLabel for all splits: numbers mean the same genre in each."""
    features = [clips.features["genre"] for clips in splits.values()]
    kinds = {tuple(getattr(feature, "names", ())) for feature in features}
    if len(kinds) > 1:
        raise InputError(f"{name} has other genres, or another order of them, in each split.")
    values = [value for clips in splits.values() for value in clips["genre"]]
    if any(value in (None, "", -1) for value in values):
        raise InputError(f"{name} has clips without a genre: leave them out.")
    names = list(kinds.pop()) or sorted(set(values))
    if len(names) < 2:
        raise InputError(f"{name} has only one genre: a classifier needs two or more.")
    return ClassLabel(names=names)


def _draw_splits(genres: np.ndarray, missing: list[str], seed: int) -> dict[str, list[int]]:
    """Rows of train, and of each missing split a tenth of every genre, but at least one clip.

    A genre of one or two clips keeps one for train, and is not in each of the others.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[int]] = {split: [] for split in ("train", *missing)}
    for genre in np.unique(genres):
        clips = rng.permutation(np.flatnonzero(genres == genre))
        n = max(1, round(HELD_OUT * len(clips)))
        for split in missing:
            taken, clips = np.split(clips, [min(n, len(clips) - 1)])
            rows[split] += taken.tolist()
        rows["train"] += clips.tolist()
    return {split: sorted(chosen) for split, chosen in rows.items()}


def _to_wav(row: dict[str, Any], i: int, name: str) -> dict[str, Any]:
    stored = row["audio"]
    try:
        waveform, _ = audio.decode(
            stored["bytes"] or stored["path"], MAX_SECONDS, to=audio.SAMPLING_RATE
        )
    except (audio.AudioError, OSError) as error:
        raise InputError(
            f"{name}: clip {stored['path'] or i} cannot be decoded: {error}. Leave it out."
        ) from error
    wav = audio.wav_bytes(audio.to_pcm16(waveform))
    track_id = Path(stored["path"] or f"{i:05d}").stem
    return {"audio": {"bytes": wav, "path": None}, "track_id": track_id}
