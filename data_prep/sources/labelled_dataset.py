"""A dataset with audio and genres: of the Hub, of `save_to_disk`, or a folder of Parquet files.

It needs a column `audio`, and genres as a ClassLabel or as text in `genre`, `label` or the column
that --columns genre=COLUMN names. `artist`, or what --columns names for it, and `track_id` are used
if they are text; clips of one track, as data_prep makes them of songs, have a number in `start`.
Its own splits are kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
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


def from_path(path: Path, is_saved: bool, columns: dict[str, str]) -> MusicSource:
    """`path`: of a folder, of `save_to_disk` if it `is_saved`, or of one Parquet file.

    `columns`: what the dataset calls genre and artist.
    """
    with _one_sentence(f"{path} holds neither music nor a dataset that can be loaded"):
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files=str(path))
        else:
            load = datasets.load_from_disk if is_saved else datasets.load_dataset
            loaded = load(str(path))
    return _source(path, loaded, [path], read_card(path / "README.md"), columns)


def from_hub(name: str, columns: dict[str, str]) -> MusicSource:
    info = ask_hub(name)
    files = [file.rfilename for file in (info.siblings if info else None) or []]
    if f"{name.split('/')[-1]}.py" in files:  # as marsyas/gtzan
        raise InputError(
            f"{name} is made by a script, which `datasets` does not run any more: download its "
            f"music by `hf download {name} --repo-type dataset --local-dir data`, and give the "
            "folder or archive to python -m data_prep."
        )
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

    Raises InputError: there is no such dataset.
    """
    try:  # one question: load_dataset asks many, and warns about each
        return HfApi().dataset_info(name, timeout=HUB_SECONDS)
    except (httpx.HTTPError, OSError, HFValidationError) as error:
        is_refused = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        is_cached = Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___")).is_dir()
        if is_cached and not is_refused:
            return None
        raise InputError(
            f"{name} is neither a file or folder here nor a dataset that the Hub gives you "
            f"({_first_line(error)}). For a private one, run `hf auth login`."
        ) from error


def _source(
    path: Path | str,
    loaded: Dataset | dict[str, Dataset],
    roots: Sequence[Path],
    known: dict,
    columns: dict[str, str],
) -> MusicSource:
    """`roots`: the folders in which a row's path may lie."""
    given = {"train": loaded} if isinstance(loaded, Dataset) else loaded
    given = {SPLIT_NAMES[n.lower()]: d for n, d in given.items() if n.lower() in SPLIT_NAMES}
    if "train" not in given:
        raise InputError(f"{path} needs a train split; it has {', '.join(loaded) or 'none'}.")
    given = {split: _choose_columns(clips, path, columns) for split, clips in given.items()}
    # The names of the ClassLabel, in its order; none where genres are text.
    genres = {tuple(getattr(clips.features["genre"], "names", ())) for clips in given.values()}
    if len(genres) > 1:
        raise InputError(f"{path} has other genres, or another order of them, in each split.")
    tracks: dict[str, Track] = {}
    for split, clips in given.items():
        _add_tracks(tracks, clips, split, len(given) > 1, path)
    # A card is believed if it is said of these clips.
    is_known = known and known["n_clips"] == sum(map(len, given.values()))
    return MusicSource(
        path, "dataset", "a dataset with genres", tracks,
        lambda: nullcontext(_members(given, roots)),
        genres=list(genres.pop()), known=known if is_known else {},
    )  # fmt: skip


def _choose_columns(clips: Dataset, path: Path | str, columns: dict[str, str]) -> Dataset:
    """The columns `audio` and `genre`, and of `artist`, `track_id` and `start` those it has."""
    features = clips.features or {}
    dtypes = {name: getattr(feature, "dtype", "") for name, feature in features.items()}
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    texts = [name for name, dtype in dtypes.items() if dtype == "string"]
    # A column of that name, or the only one that may be meant.
    genre = [name for name in ("genre", "label") if name in classes + texts][:1] or classes
    genre = [columns["genre"]] if "genre" in columns else genre
    artist = columns.get("artist", "artist")
    is_usable = "audio" in features and len(genre) == 1 and genre[0] in classes + texts
    if not is_usable or ("artist" in columns and artist not in texts):
        raise InputError(
            f"{path} needs a column `audio`, genres as a ClassLabel or text in `genre` or `label`, "
            f"and artists as text; it has {', '.join(features) or 'no columns'}. Name those to use "
            "by python -m data_prep --columns genre=COLUMN artist=COLUMN."
        )
    chosen = {"audio": "audio", genre[0]: "genre"}
    chosen |= {artist: "artist"} if artist in texts else {}
    if "track_id" in texts:  # without ids, clips of one track cannot be told from those of another
        names = ["track_id"] + ["start"] * (dtypes.get("start") in NUMBERS)
        chosen |= dict(zip(names, names, strict=True))
    clips = clips.select_columns(list(chosen)).rename_columns(chosen)
    return clips.cast_column("audio", Audio(decode=False))


def _add_tracks(
    tracks: dict[str, Track], clips: Dataset, split: str, is_given: bool, source: Path | str
) -> None:
    """The track of each row, by the row's name. Rows of one track have one.

    `is_given`: whether the dataset says more than that all is for training.
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


def _members(given: dict[str, Dataset], roots: Sequence[Path]) -> Iterator[Member]:
    roots = [root.resolve() for root in roots]
    for split, clips in given.items():
        for i, row in enumerate(clips):
            yield _member(f"{split}/{i}", row["audio"] or {}, row.get("start") or 0.0, roots)


def _member(name: str, audio: dict, start: float, roots: list[Path]) -> Member:
    """A row's audio: its bytes, or a file of the dataset. Other paths are a stranger's text."""
    if audio.get("bytes"):
        return Member(name, data=audio["bytes"], start=start)
    if not audio.get("path"):
        return Member(name, problem="the dataset has no audio for it")
    for root in roots:
        path = (root / audio["path"]).resolve()
        if path.is_relative_to(root):
            return Member(name, path, start=start)
    return Member(name, problem="its file does not belong to the dataset")


@contextmanager
def _one_sentence(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # `datasets` raises many kinds, for files, formats and network
        raise InputError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
