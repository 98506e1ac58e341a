"""The output folder: its files, and how it is replaced without losing anything.

A dataset is built in a hidden working folder beside the output folder and moved into place by one
rename, so a run that is killed at any moment leaves no half of a dataset. Nothing is removed that
data_prep did not write, by name.
"""

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import pyarrow as pa
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Value,
    disable_progress_bars,
    enable_progress_bars,
)
from datasets.table import InMemoryTable
from filelock import FileLock, Timeout

from data_prep.archive import ArchiveError
from data_prep.card import dataset_card
from data_prep.decoding import Contents
from data_prep.gtzan import SPLITS
from data_prep.names import known_artist
from data_prep.prepared import PREPARATION_FILE, read_preparation
from data_prep.track import MANIFEST_COLUMNS, Clip, Track
from music_genre import old_audio as audio

MANIFEST_FILE = "manifest.csv"
# Files of an output folder that may be replaced. `datasets` writes cache-*.arrow into it.
OWN_FILES = re.compile(
    r"README\.md|manifest\.csv|preparation\.json|dataset_dict\.json|features_(30|3)_sec\.csv|"
    rf"({'|'.join(SPLITS)})/(data-.*\.arrow|dataset_info\.json|state\.json|cache-.*\.arrow|tmp\w+)"
)
SPOOL, DATASET, REPLACED, LOCK = "spool.bin", "dataset", "replaced", "lock"


def check_replaceable(output_dir: Path) -> None:
    """Raise ArchiveError if `output_dir` holds anything that `prepare` did not write."""
    if not output_dir.exists():
        return
    if output_dir.is_file() or (not read_preparation(output_dir) and any(output_dir.iterdir())):
        raise ArchiveError(f"{output_dir} holds something else: choose another --output_dir.")
    for path in sorted(output_dir.rglob("*")):
        name = path.relative_to(output_dir).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not OWN_FILES.fullmatch(name):
            raise ArchiveError(
                f"{path} is not a file of data_prep: move it elsewhere, or choose another "
                "--output_dir."
            )


@contextmanager
def working_folder(output_dir: Path) -> Iterator[Path]:
    """The hidden folder beside `output_dir`, for one run at a time; removed at the end.

    What a killed run left there is removed, and a dataset that it was replacing comes back.

    Raises:
        ArchiveError: another run has it, or it is not a working folder of data_prep.
    """
    folder = _working_path(output_dir)
    lock_file = folder / LOCK
    if folder.is_file() or (folder.exists() and any(folder.iterdir()) and not lock_file.is_file()):
        raise ArchiveError(f"{folder} is not a working folder of data_prep: move it elsewhere.")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArchiveError(f"another run is preparing {output_dir}: wait for its end.") from error
    try:
        if (folder / REPLACED).exists() and not output_dir.exists():
            (folder / REPLACED).rename(output_dir)
        _clear(folder)
        yield folder
    finally:
        _clear(folder)
        with suppress(OSError):  # Windows does not remove a file that is open
            lock_file.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # it holds a user's file, or the next run's lock
            folder.rmdir()


def _working_path(output_dir: Path) -> Path:
    return output_dir.with_name(f".{output_dir.name}.partial")


def remove_leftovers(output_dir: Path) -> None:
    """Remove the working folder of a run that was killed when its dataset was already in place."""
    if _working_path(output_dir).exists():
        with suppress(ArchiveError), working_folder(output_dir):
            pass


def _clear(folder: Path) -> None:
    (folder / SPOOL).unlink(missing_ok=True)
    for name in (DATASET, REPLACED):
        shutil.rmtree(folder / name, ignore_errors=True)


def features_of(genres: list[str]) -> Features:
    return Features(
        file=Value("string"),
        audio=Audio(sampling_rate=audio.SAMPLING_RATE),
        genre=ClassLabel(names=genres),
        track_id=Value("string"),
        artist=Value("string"),
        start=Value("float32"),  # seconds into the track, of which this clip is a part
    )


def write_dataset(folder: Path, contents: Contents, preparation: dict) -> None:
    """Write the whole dataset into a working folder, from the spool file that lies there."""
    dataset = folder / DATASET
    kept = sorted((track for track in contents.tracks if track.is_kept), key=lambda t: t.track_id)
    _write_splits(kept, folder / SPOOL, dataset, preparation["genres"])
    for name, table in contents.tables.items():
        (dataset / name).write_text(table, encoding="utf-8", newline="")
    with (dataset / MANIFEST_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(MANIFEST_COLUMNS)
        for track in sorted(contents.tracks, key=lambda t: (t.track_id, t.member)):
            writer.writerow([getattr(track, name) for name in MANIFEST_COLUMNS])
    (dataset / "README.md").write_text(str(dataset_card(preparation)), encoding="utf-8")
    (dataset / PREPARATION_FILE).write_text(json.dumps(preparation, indent=2) + "\n")


def _write_splits(kept: list[Track], spool_path: Path, folder: Path, genres: list[str]) -> None:
    """Write a folder for `load_from_disk`, clip by clip.

    `save_to_disk` gets empty splits, for the files around the data. With the clips it would hold
    a hundred of them in memory at a time.
    """
    features = features_of(genres)
    schema = features.arrow_schema
    empty = {
        name: Dataset(InMemoryTable(schema.empty_table()), fingerprint=_fingerprint(kept, name))
        for name in SPLITS
    }
    disable_progress_bars()
    # One shard each: an empty split has a data file, too.
    DatasetDict(empty).save_to_disk(folder, num_shards=dict.fromkeys(SPLITS, 1))
    enable_progress_bars()
    with spool_path.open("rb") as spool:
        for split in SPLITS:
            (data_file,) = (folder / split).glob("data-*.arrow")
            with pa.OSFile(str(data_file), "wb") as out, pa.ipc.new_stream(out, schema) as stream:
                for track in (track for track in kept if track.split == split):
                    for clip in track.clips:
                        spool.seek(clip.offset)
                        row = _row(track, clip, spool.read(clip.n_bytes), genres)
                        stream.write_batch(pa.RecordBatch.from_pylist([row], schema))


def _fingerprint(kept: list[Track], split: str) -> str:
    """The key of `datasets` for what it caches: of the clips in a split, not of time or place."""
    clips = [(track.track_id, track.sha256) for track in kept if track.split == split]
    return hashlib.sha256(repr((split, clips)).encode()).hexdigest()[:16]


def _row(track: Track, clip: Clip, wav: bytes, genres: list[str]) -> dict:
    name = PurePosixPath(track.track_id).name
    return {
        "file": f"{track.genre}/{track.track_id}.wav",
        "audio": {"bytes": wav, "path": f"{name}.wav"},
        "genre": genres.index(track.genre),
        "track_id": track.track_id,
        "artist": known_artist(track.artist),
        "start": clip.start,
    }


def move_into_place(folder: Path, output_dir: Path) -> None:
    """Rename the finished dataset to `output_dir`; the old one, if any, is renamed first.

    Between the two renames there is no dataset; there is never half of one.
    """
    if output_dir.exists():
        output_dir.rename(folder / REPLACED)
    (folder / DATASET).rename(output_dir)
