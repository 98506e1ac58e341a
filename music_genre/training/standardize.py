"""Make any audio dataset with genres look like one of data_prep: names, splits, WAV bytes."""

import hashlib
from pathlib import Path
from typing import Any

from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets

from data_prep import splits
from data_prep.leakage import leakage
from data_prep.names import known_artist
from data_prep.splits import SPLITS
from data_prep.track import Track
from music_genre import old_audio as audio
from music_genre.errors import InputError

MAX_SECONDS = 600
NUMBERS = ("float32", "float64", "int32", "int64")


def standardize(
    dataset: Dataset | DatasetDict, name: str, seed: int
) -> tuple[DatasetDict, str | None, dict[str, int] | None]:
    """Clips by split, with the columns of `load_data`; decoded once, then cached by `datasets`.

    Args:
        dataset: with a column `audio`, and genres as a ClassLabel or as text in `genre` or `label`.
            `artist` and `track_id` are used if they are text; clips of one track, as data_prep
            makes them of songs, have a number in `start`.
        name: for messages.
        seed: of the splits that are drawn from train, where validation or test is missing.

    Returns:
        The dataset; how its test split was drawn, `artist` or `random`, None if it was given; and
        what `leakage` counts, None if no artist is known.

    Raises:
        InputError: a column or the train split is missing, or a clip has no genre or cannot be
            decoded.
    """
    given = {"train": dataset} if isinstance(dataset, Dataset) else dataset
    if "train" not in given:
        raise InputError(f"{name} needs a train split; it has {', '.join(given) or 'none'}.")
    common = set.intersection(*(set(clips.features or {}) for clips in given.values()))
    given = {
        split: _rename_columns(given[split], name, common) for split in SPLITS if split in given
    }
    genres = _genres(given, name)
    decoded = DatasetDict(
        {split: _decode(clips.cast_column("genre", genres), name) for split, clips in given.items()}
    )
    keys, tracks = _tracks(decoded)
    assignment = splits.assign_own(tracks, "given", seed)
    train = {key: track for key, track in tracks.items() if track.split == "train"}
    drawn_by = None if "test" in decoded else splits.suggest(train)
    counts = leakage(assignment, tracks) if any(t.artist for t in tracks.values()) else None
    pool = concatenate_datasets(list(decoded.values())).remove_columns("sha256")
    rows = {s: [i for i, key in enumerate(keys) if assignment[key] == s] for s in SPLITS}
    return DatasetDict({s: pool.select(rows[s]) for s in SPLITS}), drawn_by, counts


def _tracks(decoded: DatasetDict) -> tuple[list[str], dict[str, Track]]:
    """A key for each clip of all splits in turn, and the tracks by key; its clips share one."""
    keys, tracks = [], {}
    for split, clips in decoded.items():
        genre = clips.features["genre"].int2str
        columns = clips.select_columns(["genre", "track_id", "artist", "sha256"])
        for i, row in enumerate(columns):
            key = f"{split}/{row['track_id'] if 'start' in clips.column_names else i}"
            keys.append(key)
            tracks[key] = Track(key, genre(row["genre"]), row["artist"], split=split,
                                sha256=row["sha256"])  # fmt: skip
    return keys, tracks


def missing_genres(splits: dict[str, Dataset]) -> list[str]:
    """One sentence for each split that lacks genres of the ClassLabel."""
    effects = {
        "train": "the model cannot learn them",
        "validation": "the model is compared and calibrated without them",
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


def _rename_columns(clips: Dataset, name: str, common: set[str]) -> Dataset:
    """The columns `audio`, `genre`, and what is known of tracks in all splits (`common`)."""
    features = clips.features or {}
    texts = [n for n in ("genre", "label") if getattr(features.get(n), "dtype", "") == "string"]
    classes = [n for n, feature in features.items() if isinstance(feature, ClassLabel)]
    # A column of that name, or the only one that may be meant.
    labels = [n for n in ("genre", "label") if n in classes or n in texts][:1] or classes
    if "audio" not in features or len(labels) != 1:
        raise InputError(
            f"{name} needs a column `audio`, and genres as a ClassLabel or text in `genre` or "
            f"`label`, or in its only ClassLabel; it has {', '.join(features) or 'no columns'}."
        )
    dtypes = {n: getattr(features[n], "dtype", "") for n in common}
    known = [n for n in ("track_id", "artist") if dtypes.get(n) == "string"]
    # Without ids, clips of one track cannot be told from those of another.
    known += ["start"] if "track_id" in known and dtypes.get("start") in NUMBERS else []
    clips = clips.select_columns(["audio", labels[0], *known])
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


def _decode(clips: Dataset, name: str) -> Dataset:
    """WAV bytes, with `track_id` and `artist` as text, and the hash of each clip's samples."""
    texts = dict.fromkeys(("track_id", "artist", "sha256"), Value("string"))
    clips = clips.cast_column("audio", Audio(decode=False))
    return clips.map(
        _to_wav,
        with_indices=True,
        desc="Decoding",
        features=Features(clips.features | texts),
        fn_kwargs={"name": name},
    )


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
    samples = audio.to_pcm16(waveform)
    return {
        "audio": {"bytes": audio.wav_bytes(samples), "path": None},
        "track_id": row.get("track_id") or Path(stored["path"] or f"{i:05d}").stem,
        "artist": known_artist(row.get("artist") or ""),
        "sha256": hashlib.sha256(samples).hexdigest(),
    }
