"""Clips for training: from an archive, a prepared folder, a dataset on the Hub, or synthesised."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from music_genre.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DATA_DIR = Path("data")
ARCHIVE_PATTERNS = ("*.zip", "*.tar.gz", "*.tgz")
SYNTHETIC = "synthetic"


def find_archive() -> Path | None:
    """The GTZAN archive in data/, the newest if there are several."""
    found = [
        path
        for pattern in ARCHIVE_PATTERNS
        for path in DATA_DIR.glob(pattern)
        if path.stem != SYNTHETIC
    ]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


@dataclass
class Source:
    """Where the clips came from; what the report and the card say of them."""

    name: str
    split: str
    is_synthetic: bool = False
    leakage: dict[str, int] | None = None


def load_data(name: str | None, split: str, seed: int) -> tuple[dict[str, "Dataset"], Source]:
    """Clips by split, with the columns audio (WAV bytes, 16 kHz), genre (ClassLabel), track_id."""
    from data_prep.prepare import prepare, read_preparation

    name = name or find_archive()
    if name is None:
        raise InputError(
            f"There is no GTZAN archive in {DATA_DIR}/: put the zip there, or say --dataset "
            "ARCHIVE. For a try without data: accelerate launch train_hf.py configs/quickstart.json"
        )
    folder = Path(name)
    if name == SYNTHETIC:
        folder = prepare_synthetic(seed)
    elif folder.exists() and not (folder / "dataset_dict.json").is_file():
        stem = folder.name.removesuffix(".gz").rsplit(".", 1)[0].lower().replace(" ", "-")
        archive, folder = folder, DATA_DIR / f"{stem}-{split}"
        prepare([archive], folder, split, seed)
    if not folder.exists():
        return load_from_hub(str(name), seed)

    from datasets import Audio, load_from_disk

    preparation = read_preparation(folder)
    dataset = load_from_disk(str(folder))
    if not preparation:
        return bring_to_form(dataset, str(name), seed)
    source = Source(
        "synthesised music" if preparation["is_synthetic"] else "GTZAN",
        preparation["split"],
        preparation["is_synthetic"],
        preparation["leakage"],
    )
    return dataset.cast_column("audio", Audio(decode=False)), source


def prepare_synthetic(seed: int) -> Path:
    from data_prep.prepare import prepare
    from data_prep.synthetic import write_archive

    archive = DATA_DIR / f"{SYNTHETIC}.zip"
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        write_archive(archive)
    folder = DATA_DIR / SYNTHETIC
    prepare([archive], folder, "random", seed)
    return folder


def load_from_hub(name: str, seed: int) -> tuple[dict[str, "Dataset"], Source]:
    """A dataset on the Hub, with the columns of `load_data`."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        return bring_to_form(load_dataset(name), name, seed)
    except InputError:
        raise
    except (DatasetNotFoundError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name} is neither a file or folder here nor a dataset that the Hub gives: {reason}"
        ) from error


def bring_to_form(
    dataset: "DatasetDict", name: str, seed: int
) -> tuple[dict[str, "Dataset"], Source]:
    """Make any audio dataset with genres look like one of data_prep; decoded once, then cached."""
    split = "its own"
    dataset["train"] = _in_form(dataset.get("train"), name)
    for other in ("validation", "test"):
        if other in dataset:
            dataset[other] = _in_form(dataset[other], name)
    if "validation" not in dataset:
        split = "random"
        held_out = dataset["train"].train_test_split(
            0.1 if "test" in dataset else 0.2, seed=seed, stratify_by_column="genre"
        )
        dataset["train"], dataset["validation"] = held_out["train"], held_out["test"]
        if "test" not in dataset:
            halves = held_out["test"].train_test_split(0.5, seed=seed, stratify_by_column="genre")
            dataset["validation"], dataset["test"] = halves["train"], halves["test"]
    return dataset.map(_to_wav, with_indices=True, desc="Decoding"), Source(name, split)


def _in_form(split: "Dataset | None", name: str) -> "Dataset":
    """The column with classes called `genre`, and audio as it is stored."""
    from datasets import Audio, ClassLabel

    features = (split.features if split is not None else None) or {}
    label = next((n for n, f in features.items() if isinstance(f, ClassLabel)), None)
    if "audio" not in features or label is None:
        raise InputError(
            f"{name} needs a train split with a column `audio` and a ClassLabel, such as `genre`; "
            f"it has {', '.join(features) or 'no train split'}."
        )
    split = split.cast_column("audio", Audio(decode=False))
    return split if label == "genre" else split.rename_column(label, "genre")


def _to_wav(row: dict[str, Any], i: int) -> dict[str, Any]:
    from music_genre import audio

    stored = row["audio"]
    waveform, _ = audio.decode(stored["bytes"] or stored["path"], 600, to=audio.SAMPLING_RATE)
    pcm = audio.to_pcm16(waveform)
    track_id = Path(stored["path"] or f"{i:05d}").stem
    return {"audio": {"bytes": audio.wav_bytes(pcm), "path": None}, "track_id": track_id}
