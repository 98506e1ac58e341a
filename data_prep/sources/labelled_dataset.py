"""A dataset with audio and genres: from the Hub, `save_to_disk` or a folder of Parquet files.

It needs a column `audio`, and genres as a ClassLabel or as text in `genre`, `label` or the column
that --columns genre=COLUMN names. `artist`, or the column that --columns names for it, and
`track_id` are used if they are text. Clips of one track, as data_prep cuts them from songs, have a
number in `start`. The dataset's own splits are kept.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
from datasets import Audio, ClassLabel, Dataset
from huggingface_hub import HfApi, constants

from data_prep.archive import Member
from data_prep.card import read_card
from data_prep.names import path_id, shown
from data_prep.sources.music_source import SPLIT_NAMES, MusicSource
from data_prep.track import Track
from music_genre.errors import InputError, first_line

HUB_SECONDS = 10  # timeout of a request to the Hub


def from_path(path: Path, is_saved: bool, columns: dict[str, str]) -> MusicSource:
    """Read a folder, from `save_to_disk` if it `is_saved`, or one Parquet file.

    `columns`: the names of genre and artist in the dataset.
    """
    try:
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files=str(path))
        else:
            load = datasets.load_from_disk if is_saved else datasets.load_dataset
            loaded = load(str(path))
    except Exception as error:  # `datasets` raises many kinds, for files, formats and network
        raise InputError(f"{path} cannot be loaded as a dataset: {first_line(error)}") from error
    return _source(path, loaded, [path], read_card(path / "README.md"), columns)


def from_hub(name: str, columns: dict[str, str]) -> MusicSource:
    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:
        raise InputError(
            f"{name} is neither a file or folder here nor a dataset of the Hub that can be loaded "
            f"({first_line(error)}). For a private one, run `hf auth login`; for one made by a "
            f"script, download the music with `hf download {name} --repo-type dataset --local-dir "
            "data`, and give the folder or archive to python -m data_prep."
        ) from error
    caches = [Path(constants.HF_HUB_CACHE), Path(datasets.config.HF_DATASETS_CACHE)]
    return _source(name, loaded, caches, read_card(name), columns)


def commit_of(name: str) -> str:
    """The commit of a dataset on the Hub; "" if it cannot be fetched."""
    try:
        return HfApi().dataset_info(name, timeout=HUB_SECONDS).sha
    except Exception:  # loading it reports the error
        return ""


def _source(
    path: Path | str,
    loaded: Dataset | dict[str, Dataset],
    roots: Sequence[Path],
    known: dict,
    columns: dict[str, str],
) -> MusicSource:
    """`roots`: the folders that a row's path may be in."""
    given = {"train": loaded} if isinstance(loaded, Dataset) else loaded
    given = {SPLIT_NAMES[n.lower()]: d for n, d in given.items() if n.lower() in SPLIT_NAMES}
    if "train" not in given:
        raise InputError(f"{path} needs a train split; it has {', '.join(loaded) or 'none'}.")
    given = {split: _choose_columns(clips, path, columns) for split, clips in given.items()}
    # The names of the ClassLabel, in its order; none if genres are text.
    genres = {tuple(getattr(clips.features["genre"], "names", ())) for clips in given.values()}
    if len(genres) > 1:
        raise InputError(f"{path} has different genres, or another order of them, in its splits.")
    tracks: dict[str, Track] = {}
    for split, clips in given.items():
        _add_tracks(tracks, clips, split, path)
    # A card is trusted only if it counts as many clips as there are.
    is_known = known and known["n_clips"] == sum(map(len, given.values()))
    return MusicSource(
        path, "dataset", "a dataset with genres", tracks, lambda: _members(given, roots),
        genres=list(genres.pop()), known=known if is_known else {}, warnings=_warnings(given),
    )  # fmt: skip


def _warnings(given: dict[str, Dataset]) -> list[str]:
    """Warnings about the splits of a dataset of excerpts, whose rows name their tracks."""
    ids = {
        split: set(filter(None, clips["track_id"])) if "start" in clips.column_names else set()
        for split, clips in given.items()
    }
    if n := len(ids["train"] & ids.get("test", set())):
        return [
            f"excerpts of {n} track{'s' * (n > 1)} are in train and in test, so the accuracy will "
            "be too high: put all excerpts of a track into one split."
        ]
    return []


def _choose_columns(clips: Dataset, path: Path | str, columns: dict[str, str]) -> Dataset:
    """Select `audio` and `genre`, and those of `artist`, `track_id` and `start` that exist."""
    dtypes = {name: getattr(feature, "dtype", "") for name, feature in clips.features.items()}
    texts = {name for name, dtype in dtypes.items() if dtype == "string"}
    labels = texts | {n for n, feature in clips.features.items() if isinstance(feature, ClassLabel)}
    genre = columns.get("genre") or next((n for n in ("genre", "label") if n in labels), "")
    artist = columns.get("artist", "artist")
    is_usable = "audio" in dtypes and genre in labels
    if not is_usable or columns.get("artist", "") not in {"", *texts}:
        raise InputError(
            f"{path} needs a column `audio`, genres as a ClassLabel or text in `genre` or `label`, "
            f"and artists as text; it has {', '.join(dtypes) or 'no columns'}. Name the ones to "
            "use with python -m data_prep --columns genre=COLUMN artist=COLUMN."
        )
    chosen = {"audio": "audio", genre: "genre"}
    chosen |= {artist: "artist"} if artist in texts else {}
    if "track_id" in texts:  # without ids, clips of one track cannot be told from those of another
        is_number = dtypes.get("start", "").startswith(("float", "int"))
        chosen |= {"track_id": "track_id"} | ({"start": "start"} if is_number else {})
    clips = clips.select_columns(list(chosen)).rename_columns(chosen)
    return clips.cast_column("audio", Audio(decode=False))


def _add_tracks(tracks: dict[str, Track], clips: Dataset, split: str, source: Path | str) -> None:
    """Add the track of each row under the row's name. Rows of the same track share one."""
    ids = {track.track_id for track in tracks.values()}
    track_by_id: dict[str, Track] = {}
    genre = clips.features["genre"]
    for i, row in enumerate(clips.remove_columns("audio")):
        name, given_id = f"{split}/{i}", row.get("track_id")
        if given_id in track_by_id and given_id and "start" in row:
            tracks[name] = track_by_id[given_id]
            continue
        track_id = path_id(given_id or name)
        if track_id in ids:
            track_id = f"{name}/{track_id}"
        ids.add(track_id)
        value = row["genre"]
        if isinstance(genre, ClassLabel):
            value = None if value in (None, -1) else genre.int2str(value)
        # In a new split, excerpts of a song that several splits hold stay together by its title.
        title = given_id or "" if "start" in row else ""
        track = Track(track_id, value or "", row.get("artist") or "", title, split=split)
        track.archive, track.member = shown(str(source)), shown(name)
        if not value:
            track.status = "the dataset has no genre for it"
        tracks[name] = track_by_id[given_id] = track


def _members(given: dict[str, Dataset], roots: Sequence[Path]) -> Iterator[Member]:
    roots = [root.resolve() for root in roots]
    for split, clips in given.items():
        for i, row in enumerate(clips):
            yield _member(f"{split}/{i}", row["audio"] or {}, row.get("start") or 0.0, roots)


def _member(name: str, audio: dict, start: float, roots: list[Path]) -> Member:
    """A row's audio: its bytes, or a file of the dataset. Paths elsewhere are not trusted."""
    if audio.get("bytes"):
        return Member(name, data=audio["bytes"], start=start)
    paths = [(root / audio["path"]).resolve() for root in roots if audio.get("path")]
    for root, path in zip(roots, paths, strict=False):
        if path.is_relative_to(root):
            return Member(name, path, start=start)
    return Member(name, problem="the dataset has no audio for it")
