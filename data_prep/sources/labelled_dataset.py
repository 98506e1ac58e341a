"""A dataset with audio and genres: of the Hub, of `save_to_disk`, or a folder of Parquet files.

It needs a column `audio`, and genres as a ClassLabel or as text in `genre`, `label` or the column
that --columns genre=COLUMN names. `artist`, or what --columns names for it,
and `track_id` are used if they are text; clips of one track, as data_prep makes them of songs, have
a number in `start`. Its own splits are kept.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import datasets
import pyarrow.compute as pc
from datasets import Audio, ClassLabel, Dataset
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import DatasetInfo
from huggingface_hub.utils import httpx  # the client's own: not the package of that name

from data_prep.archive import Member
from data_prep.card import read_card
from data_prep.names import known_artist, path_id, shown
from data_prep.sources.music_source import SPLIT_NAMES, MusicSource
from data_prep.track import Track
from music_genre.errors import InputError

NUMBERS = ("float32", "float64", "int32", "int64")
HUB_SECONDS = 10  # to wait for its answer
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def from_path(path: Path, is_saved: bool, columns: dict[str, str]) -> MusicSource:
    """
    Args:
        path: of a folder, or of one Parquet file.
        is_saved: whether `save_to_disk` made it.
        columns: one of COLUMNS: what the dataset calls it.

    Raises:
        InputError: `datasets` cannot load it, or it lacks a column or the train split.
    """
    with _one_sentence(f"{path} holds neither music nor a dataset that can be loaded"):
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files=str(path))
        else:
            load = datasets.load_from_disk if is_saved else datasets.load_dataset
            loaded = load(str(path))
    return _source(path, loaded, [path], read_card(path / "README.md"), columns)


def from_hub(name: str, columns: dict[str, str]) -> MusicSource:
    """
    Raises:
        InputError: the Hub does not give it, or it lacks a column or the train split.
    """
    info = ask_hub(name)
    _check_no_script(name, info)
    with _one_sentence(f"{name} cannot be loaded"):
        loaded = datasets.load_dataset(name)
    try:
        card = Path(hf_hub_download(name, "README.md", repo_type="dataset"))
    except (HfHubHTTPError, httpx.HTTPError, OSError):  # there is none, or none in the cache
        card = None
    caches = [Path(constants.HF_HUB_CACHE), Path(datasets.config.HF_DATASETS_CACHE)]
    return _source(name, loaded, caches, read_card(card), columns)


def ask_hub(name: str) -> DatasetInfo | None:
    """What the Hub says of a dataset; None where it cannot be reached but its cache has it.

    Raises:
        InputError: there is no such dataset.
    """
    nowhere = f"{name} is neither a file or folder here nor a dataset that the Hub gives"
    try:  # one question: load_dataset asks many, and warns about each
        return HfApi().dataset_info(name, timeout=HUB_SECONDS)
    except (HfHubHTTPError, HFValidationError) as error:
        if getattr(getattr(error, "response", None), "status_code", 404) < 500:
            raise InputError(
                f"{nowhere}: there is none of this name that you may read. If it is private or "
                "gated, run `hf auth login`."
            ) from error
    except (httpx.HTTPError, OSError) as error:
        if not Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___")).is_dir():
            raise InputError(
                f"{nowhere}: the Hub cannot be reached, and its cache here does not have it."
            ) from error
    return None


def _check_no_script(name: str, info: DatasetInfo | None) -> None:
    """
    Raises:
        InputError: the dataset is made by a script of its own, as marsyas/gtzan is.
    """
    files = [file.rfilename for file in (info.siblings if info else None) or []]
    script = f"{name.split('/')[-1]}.py"
    if script not in files:
        return
    remedy = "download its music yourself, and give the folder or archive to python -m data_prep."
    if archive := next((file for file in files if file.endswith(ARCHIVES)), None):
        fetch = ["hf", "download", name, archive, "--repo-type", "dataset", "--local-dir", "data"]
        prepare = ["python", "-m", "data_prep", f"data/{archive}"]
        remedy = f"download its archive with `{shlex.join(fetch)}`, then `{shlex.join(prepare)}`."
    raise InputError(
        f"{name} is made by the script {script}, which `datasets` does not run any more: {remedy}"
    )


def _source(
    path: Path | str,
    loaded: Dataset | dict[str, Dataset],
    roots: Sequence[Path],
    known: dict,
    columns: dict[str, str],
) -> MusicSource:
    """
    Args:
        roots: the folders in which a row's path may lie.
    """
    given = {"train": loaded} if isinstance(loaded, Dataset) else loaded
    given = {SPLIT_NAMES[n.lower()]: d for n, d in given.items() if n.lower() in SPLIT_NAMES}
    if "train" not in given:
        raise InputError(f"{path} needs a train split; it has {', '.join(loaded) or 'none'}.")
    given = {split: _rename_columns(clips, path, columns) for split, clips in given.items()}
    common = set.intersection(*(set(clips.features or {}) for clips in given.values()))
    given = {split: _choose_columns(clips, path, common) for split, clips in given.items()}
    genres = _genres(given, path)
    tracks: dict[str, Track] = {}
    for split, clips in given.items():
        _add_tracks(tracks, clips, split, len(given) > 1, path)
    # A card is believed if it is said of these clips.
    is_known = known and known["n_clips"] == sum(map(len, given.values()))
    return MusicSource(
        path, "dataset", "a dataset with genres", tracks,
        partial(_open_members, given, [root.resolve() for root in roots]),
        genres=genres, known=known if is_known else {},
    )  # fmt: skip


def _rename_columns(clips: Dataset, path: Path | str, columns: dict[str, str]) -> Dataset:
    """The columns that --columns names, under the names that are read here."""
    features = clips.features or {}
    for name, column in columns.items():
        feature = features.get(column)
        is_text = getattr(feature, "dtype", "") == "string"
        if not (is_text or (name == "genre" and isinstance(feature, ClassLabel))):
            kinds = "a ClassLabel or text" if name == "genre" else "text"
            raise InputError(
                f"{path} has no column {column} that is {kinds}; it has "
                f"{', '.join(features) or 'no columns'}: name another one by --columns."
            )
    hidden = [n for n in columns if n in features and n not in columns.values()]
    return clips.remove_columns(hidden).rename_columns({c: n for n, c in columns.items()})


def _choose_columns(clips: Dataset, path: Path | str, common: set[str]) -> Dataset:
    """The columns `audio`, `genre`, and what is known of tracks in all splits (`common`)."""
    features = clips.features or {}
    texts = [n for n in ("genre", "label") if getattr(features.get(n), "dtype", "") == "string"]
    classes = [n for n, feature in features.items() if isinstance(feature, ClassLabel)]
    # A column of that name, or the only one that may be meant.
    labels = [n for n in ("genre", "label") if n in classes or n in texts][:1] or classes
    if "audio" not in features or len(labels) != 1:
        raise InputError(
            f"{path} needs a column `audio`, and genres as a ClassLabel or text in `genre` or "
            f"`label`, or in its only ClassLabel; it has {', '.join(features) or 'no columns'}. "
            "Name the column of genres by python -m data_prep --columns genre=COLUMN."
        )
    dtypes = {n: getattr(features[n], "dtype", "") for n in common}
    known = [n for n in ("track_id", "artist") if dtypes.get(n) == "string"]
    # Without ids, clips of one track cannot be told from those of another.
    known += ["start"] if "track_id" in known and dtypes.get("start") in NUMBERS else []
    clips = clips.select_columns(["audio", labels[0], *known])
    clips = clips if labels[0] == "genre" else clips.rename_column(labels[0], "genre")
    return clips.cast_column("audio", Audio(decode=False))


def _genres(given: dict[str, Dataset], path: Path | str) -> list[str]:
    """The names of the ClassLabel, in its order; none where genres are text."""
    features = [clips.features["genre"] for clips in given.values()]
    kinds = {tuple(getattr(feature, "names", ())) for feature in features}
    if len(kinds) > 1:
        raise InputError(f"{path} has other genres, or another order of them, in each split.")
    return list(kinds.pop())


def _add_tracks(
    tracks: dict[str, Track], clips: Dataset, split: str, is_given: bool, source: Path | str
) -> None:
    """The track of each row, by the row's name. Rows of one track have one.

    Args:
        is_given: whether the dataset says more than that all is for training.
    """
    ids = {track.track_id for track in tracks.values()}
    of_id: dict[str, Track] = {}
    genre = clips.features["genre"]
    audio = clips.with_format("arrow")[:]["audio"].combine_chunks()
    files = pc.struct_field(audio, "path").to_pylist()
    for i, row in enumerate(clips.remove_columns("audio")):
        name, given_id = f"{split}/{i}", row.get("track_id")
        if "start" in row and given_id in of_id:
            tracks[name] = of_id[given_id]
            continue
        track_id = path_id(given_id or PurePosixPath(files[i] or f"{i:05d}").stem)
        if track_id in ids:
            track_id = f"{name}/{track_id}"
        ids.add(track_id)
        value = row["genre"]
        if isinstance(genre, ClassLabel):
            value = None if value in (None, -1) else genre.int2str(value)
        track = Track(track_id, value or "", known_artist(row.get("artist") or ""))
        track.split = split if is_given else ""
        track.archive, track.member = str(source), shown(name)
        if not value:
            track.status = "the dataset has no genre for it"
        tracks[name] = of_id[given_id] = track


@contextmanager
def _open_members(given: dict[str, Dataset], roots: list[Path]) -> Iterator[Iterator[Member]]:
    def members() -> Iterator[Member]:
        for split, clips in given.items():
            for i, row in enumerate(clips):
                member = _member(f"{split}/{i}", row["audio"] or {}, roots)
                yield replace(member, start=row.get("start") or 0.0)

    yield members()


def _member(name: str, audio: dict, roots: list[Path]) -> Member:
    """A row's audio: its bytes, or a file of the dataset. Other paths are a stranger's text."""
    if audio.get("bytes"):
        return Member(name, data=audio["bytes"])
    if not audio.get("path"):
        return Member(name, problem="the dataset has no audio for it")
    for root in roots:
        path = (root / audio["path"]).resolve()
        if path.is_relative_to(root):
            return Member(name, path)
    return Member(name, problem="its file does not belong to the dataset")


@contextmanager
def _one_sentence(what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # `datasets` raises many kinds, for files, formats and network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{what}: {reason}") from error
