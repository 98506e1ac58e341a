"""The output folder: its files, and how it is replaced.

A dataset is built in a hidden working folder beside the output folder and moved into place by one
rename, so a run that is killed at any moment never leaves half a dataset. Only files with names
that data_prep writes are removed.
"""

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from filelock import FileLock, Timeout

from data_prep.card import dataset_card
from data_prep.gtzan import SPLITS
from data_prep.names import known_artist
from data_prep.prepared import PREPARATION_FILE, read_preparation
from data_prep.track import MANIFEST_COLUMNS, Track
from music_genre.errors import InputError

MANIFEST_FILE = "manifest.csv"
# Files of an output folder that may be replaced. `datasets` writes cache-*.arrow into it.
OUTPUT_FILES = re.compile(
    r"README\.md|manifest\.csv|preparation\.json|dataset_dict\.json|"
    rf"({'|'.join(SPLITS)})/(data-.*\.arrow|dataset_info\.json|state\.json|cache-.*\.arrow|tmp\w+)"
)
CLIPS, DATASET, REPLACED = "clips", "dataset", "replaced"
WORKING_NAMES = {CLIPS, DATASET, REPLACED}


def check_replaceable(output_dir: Path) -> None:
    """Raise InputError if `output_dir` holds anything that `prepare` did not write."""
    if not output_dir.exists():
        return
    if output_dir.is_file() or (not read_preparation(output_dir) and any(output_dir.iterdir())):
        raise InputError(f"{output_dir} holds something else: choose another --output_dir.")
    for path in sorted(output_dir.rglob("*")):
        name = path.relative_to(output_dir).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not OUTPUT_FILES.fullmatch(name):
            raise InputError(
                f"{path} is not a file of data_prep: move it elsewhere, or choose another "
                "--output_dir."
            )


@contextmanager
def working_folder(output_dir: Path) -> Iterator[Path]:
    """Create the hidden folder beside `output_dir` for one run, and remove it at the end.

    If another run uses it, wait for that run. Files that a killed run left there are removed.
    Raises InputError: the folder is not data_prep's.
    """
    folder = output_dir.with_name(f".{output_dir.name}.partial")
    lock = FileLock(output_dir.with_name(f".{output_dir.name}.lock"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another run is preparing {output_dir}: waiting for its end.", flush=True)
        lock.acquire()
    try:
        if folder.exists() and not {path.name for path in folder.iterdir()} <= WORKING_NAMES:
            raise InputError(f"{folder} is not a working folder of data_prep: move it elsewhere.")
        shutil.rmtree(folder, ignore_errors=True)
        (folder / CLIPS).mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        with suppress(OSError):  # Windows does not remove a file that is open
            Path(lock.lock_file).unlink()
        lock.release()


def write_dataset(folder: Path, tracks: list[Track], preparation: dict) -> None:
    """Write the whole dataset into a working folder, from the clips in it."""
    dataset = folder / DATASET
    _save_splits(tracks, dataset, preparation)
    with (dataset / MANIFEST_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(MANIFEST_COLUMNS)
        for track in sorted(tracks, key=lambda t: (t.track_id, t.member)):
            writer.writerow([getattr(track, name) for name in MANIFEST_COLUMNS])
    (dataset / "README.md").write_text(str(dataset_card(preparation)), encoding="utf-8")
    (dataset / PREPARATION_FILE).write_text(json.dumps(preparation, indent=2) + "\n")


def _save_splits(tracks: list[Track], folder: Path, preparation: dict) -> None:
    """Save the splits; `save_to_disk` embeds the bytes of the WAV files, a hundred at a time."""
    genres = preparation["genres"]
    features = Features(
        file=Value("string"),
        audio=Audio(sampling_rate=preparation["sampling_rate"]),
        genre=ClassLabel(names=genres),
        track_id=Value("string"),
        artist=Value("string"),
        start=Value("float32"),  # seconds into the track that this clip is a part of
    )
    kept = sorted((track for track in tracks if track.is_kept), key=lambda track: track.track_id)
    splits = {}
    for split in SPLITS:
        split_tracks = [track for track in kept if track.split == split]
        rows = [row for track in split_tracks for row in _rows(track, genres)]
        # The key of the caches of `datasets`: it depends on a split's clips, not on time or path.
        clips = repr([(track.track_id, track.sha256) for track in split_tracks])
        splits[split] = Dataset(
            pa.Table.from_pylist(rows, features.arrow_schema),
            fingerprint=hashlib.sha256(clips.encode()).hexdigest()[:16],
        )
    # An empty split needs a file too.
    num_shards = {split: None if len(clips) else 1 for split, clips in splits.items()}
    DatasetDict(splits).save_to_disk(folder, num_shards=num_shards)


def _rows(track: Track, genres: list[str]) -> Iterator[dict]:
    for clip in track.clips:
        yield {
            "file": f"{track.genre}/{track.track_id}.wav",
            "audio": {"bytes": None, "path": str(clip.path)},
            "genre": genres.index(track.genre),
            "track_id": track.track_id,
            "artist": known_artist(track.artist),
            "start": clip.start,
        }


def move_into_place(folder: Path, output_dir: Path) -> None:
    """Rename the finished dataset to `output_dir`; the old one, if any, is renamed first.

    A run that is killed between the two renames leaves no dataset; the next run prepares it again.
    """
    if output_dir.exists():
        output_dir.rename(folder / REPLACED)
    (folder / DATASET).rename(output_dir)
