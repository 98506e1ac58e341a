"""Clips for training: from an archive, a prepared folder, a dataset on the Hub, or synthesised."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets import Audio, Dataset, DatasetDict
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx  # the client's own: not the package of that name

from data_prep.card import read_card
from data_prep.gtzan import DESCRIPTIONS
from data_prep.prepare import prepare
from data_prep.prepared import default_output_dir, read_preparation
from data_prep.sources.recognise import is_gtzan, is_source
from data_prep.splits import OWN_DESCRIPTIONS
from data_prep.synthetic import write_archive
from music_genre.errors import InputError
from music_genre.loading import without_warnings
from music_genre.training.options import ARCHIVE_SUFFIXES, SYNTHETIC, check_dataset_name
from music_genre.training.standardize import standardize

DATA_DIR = Path("data")
SYNTHETIC_NAME = "synthesised music"
QUICKSTART = "accelerate launch train_hf.py configs/quickstart.json"


@dataclass
class Source:
    """Where the clips came from; what the report and the card say about them."""

    name: str
    split: str
    split_description: str
    is_synthetic: bool = False
    leakage: dict[str, int] | None = None  # None where tracks and artists are not known


def find_archives() -> list[Path]:
    """The GTZAN archives in data/, newest first."""
    found = [
        path
        for path in DATA_DIR.glob("*")
        if path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.stem != SYNTHETIC
    ]
    newest_first = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path for path in newest_first if _is_gtzan(path)]


def _is_gtzan(path: Path) -> bool:
    """True for a damaged archive as well, which must not go unseen."""
    try:
        return is_gtzan(path)
    except InputError:
        return True


def print_once(text: str) -> None:
    """By the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        print(text)


def load_data(name: str | None, split: str | None, seed: int) -> tuple[dict[str, Dataset], Source]:
    """Clips by split, with the columns audio (WAV bytes, 16 kHz), genre (ClassLabel), track_id.

    Also artist, empty where it is unknown, and start where a track may have several clips.

    Args:
        name: a source of data_prep (a folder of genres, a table, an archive), a prepared dataset,
            a folder of Parquet files, `synthetic` or a dataset on the Hub; None is the newest GTZAN
            archive in data/.
        split: of a source; None is its default. What is prepared already keeps its own.
        seed: of splits that are drawn.

    Raises:
        InputError: there is no such dataset, or it cannot be used.
    """
    folder = Path(name).expanduser() if name else _newest_archive()
    check_dataset_name(str(folder))
    if name == SYNTHETIC:
        return _load_prepared(_prepare_synthetic(seed), split)
    if not folder.exists():
        return _load_from_hub(name, split, seed)
    if folder.is_file() or (_is_foreign(folder) and is_source(folder)):
        source, folder = folder, _prepared_folder(folder, split)
        prepare([source], folder, split, seed)
    if read_preparation(folder):
        return _load_prepared(folder, split)
    with _one_sentence(f"{name} holds neither music nor a dataset that can be loaded"):
        load = datasets.load_dataset if _is_foreign(folder) else datasets.load_from_disk
        dataset = load(str(folder))
    return _standardize(dataset, folder.absolute().name, split, seed, folder / "README.md")


def _prepared_folder(source: Path, split: str | None) -> Path:
    return default_output_dir([source], split or ("filtered" if _is_gtzan(source) else None))


def _newest_archive() -> Path:
    archives = find_archives()
    if not archives:
        raise InputError(
            f"There is no GTZAN archive in {DATA_DIR}/: put the zip there, or give its path as "
            f"--dataset. To try without data: {QUICKSTART}"
        )
    others = f", the newest of {len(archives)} GTZAN archives there" if archives[1:] else ""
    print_once(f"Training on {archives[0]}{others}.")
    return archives[0]


def _is_foreign(folder: Path) -> bool:
    """Whether neither data_prep nor `save_to_disk` made a folder."""
    return not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _load_prepared(folder: Path, split: str | None) -> tuple[DatasetDict, Source]:
    preparation = read_preparation(folder)
    if "dataset_name" not in preparation:
        raise InputError(
            f"{folder} was prepared by an earlier version: prepare it again, as its README says."
        )
    if split not in (None, preparation["split"]):
        raise InputError(
            f"{folder} has the {preparation['split']} split: leave out --split {split}, or prepare "
            "the archive again with it."
        )
    print_once(
        f"Prepared in {folder}: {preparation['n_kept']} of {preparation['n_members']} audio files; "
        "manifest.csv says why the others are left out."
        if preparation["n_dropped"]
        else f"Prepared in {folder}: {preparation['n_kept']} audio files."
    )
    dataset = datasets.load_from_disk(str(folder)).cast_column("audio", Audio(decode=False))
    split = "its own" if preparation["split"] == "given" else preparation["split"]
    description, is_synthetic = preparation["split_description"], preparation["is_synthetic"]
    name = SYNTHETIC_NAME if is_synthetic else preparation["dataset_name"]
    return dataset, Source(name, split, description, is_synthetic, preparation["leakage"])


def _prepare_synthetic(seed: int) -> Path:
    archive = DATA_DIR / f"{SYNTHETIC}.zip"
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        write_archive(archive)
    folder = DATA_DIR / SYNTHETIC
    prepare([archive], folder, "random", seed)
    return folder


def _load_from_hub(name: str, split: str | None, seed: int) -> tuple[DatasetDict, Source]:
    nowhere = f"{name} is neither a file or folder here nor a dataset that the Hub gives"
    with _one_sentence(nowhere), without_warnings("huggingface_hub"):
        try:  # one question: load_dataset asks many, and warns about each
            HfApi().dataset_info(name, timeout=10)
        except (HfHubHTTPError, HFValidationError) as error:
            if getattr(error.response, "status_code", 404) < 500:
                raise InputError(
                    f"{nowhere}: there is none of this name that you may read. If it is private "
                    "or gated, run `hf auth login`."
                ) from error
        except (httpx.HTTPError, OSError) as error:
            cache = Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___"))
            if not cache.is_dir():
                raise InputError(
                    f"{nowhere}: the Hub cannot be reached, and its cache here does not have it."
                ) from error
        dataset = datasets.load_dataset(name)
        try:
            card = Path(hf_hub_download(name, "README.md", repo_type="dataset"))
        except (HfHubHTTPError, httpx.HTTPError, OSError):  # there is none, or none in the cache
            card = None
    return _standardize(dataset, name, split, seed, card)


def _standardize(
    dataset: Dataset | DatasetDict, name: str, split: str | None, seed: int, card: Path | None
) -> tuple[DatasetDict, Source]:
    if split:
        raise InputError(f"{name} keeps its own splits: leave out --split {split}.")
    dataset, drawn_by, leakage = standardize(dataset, name, seed)
    if drawn_by:
        return dataset, Source(name, drawn_by, OWN_DESCRIPTIONS[drawn_by], leakage=leakage)
    source = Source(name, "its own", "its own split", leakage=leakage)
    return dataset, _as_prepared(source, read_card(card), dataset)


def _as_prepared(source: Source, known: dict, dataset: DatasetDict) -> Source:
    """Named as in the folder that data_prep pushed, if these are its clips.

    Args:
        known: of `read_card`; values that data_prep does not know are not used.
    """
    if not known or known["n_clips"] != sum(map(len, dataset.values())):
        return source
    is_gtzan, is_synthetic = known["kind"] == "gtzan", known["is_synthetic"] is True
    description = (DESCRIPTIONS if is_gtzan else OWN_DESCRIPTIONS).get(str(known["split"]))
    if not description:
        return source
    name = SYNTHETIC_NAME if is_synthetic else "GTZAN" if is_gtzan else source.name
    split = "its own" if known["split"] == "given" else known["split"]
    return Source(name, split, description, is_synthetic, None if is_synthetic else source.leakage)


@contextmanager
def _one_sentence(what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # `datasets` raises many kinds, for files, formats and network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{what}: {reason}") from error
