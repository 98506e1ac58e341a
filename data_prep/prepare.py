"""The preparation itself: archives in, a finished dataset folder out, or nothing.

Every clip is decoded once, in threads, and spooled to an Arrow file beside the output; only then is
it known which clips are kept and which split they belong to. The folder is built under a hidden
name and moved into place by one rename, so a run killed at any moment leaves no half of a dataset.
"""

import csv
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_prep import splits
from data_prep.archive import FEATURE_TABLES, ArchiveError, Member, MemberError, open_archive
from data_prep.gtzan import GENRES, SPLITS, artists_and_titles
from data_prep.synthetic import MARKER
from music_genre import audio
from music_genre.errors import InputError

RECIPE_VERSION = 1  # raised when the same archive would give another dataset
MIN_SECONDS, MAX_SECONDS = 1.0, 60.0  # a GTZAN clip lasts 30 s; excerpts of 2 to 3 s circulate
PREPARATION_FILE = "preparation.json"
MANIFEST_FILE = "manifest.csv"
KEPT = "kept"


class BadClipError(InputError):
    """With `--on_bad_clip fail`: a clip that would have been dropped."""


@dataclass
class Clip:
    """One row of manifest.csv: an audio member of an archive, and what became of it."""

    track_id: str
    genre: str
    split: str
    seconds: float
    sha256: str  # of the int16 samples at 16 kHz
    status: str  # KEPT, or why not
    archive: str
    member: str
    spool_row: int = -1

    @property
    def is_kept(self) -> bool:
        return self.status == KEPT


@dataclass
class Contents:
    """What reading the archives gave, besides the spooled audio."""

    clips: list[Clip] = field(default_factory=list)
    tables: dict[str, bytes] = field(default_factory=dict)
    is_synthetic: bool = False


def prepare(
    archives: list[Path],
    output_dir: Path,
    split: str = "filtered",
    seed: int = 0,
    on_bad_clip: str = "drop",
) -> dict:
    """Turn GTZAN archives into a dataset folder for `datasets.load_from_disk`.

    Args:
        archives: zip, tar or folder each; a track that is in several is kept once, the longest.
        output_dir: made by this function; an existing folder is replaced only if it made that too.
        split: one of `splits.METHODS`; `seed` is that of `artist` and `random`.
        on_bad_clip: "drop" lists the clip with its reason in manifest.csv, "fail" raises.

    Returns:
        The content of `preparation.json`: options, sources, counts, leakage.

    Raises:
        ArchiveError, BadClipError: with a sentence for the person who runs it; nothing is written.
    """
    options = {
        "recipe_version": RECIPE_VERSION,
        "split": split,
        "seed": seed,
        "on_bad_clip": on_bad_clip,
        "sources": [_identify(path) for path in archives],
    }
    if (done := read_preparation(output_dir)) and all(done.get(k) == options[k] for k in options):
        return done
    if output_dir.exists() and not done and (output_dir.is_file() or any(output_dir.iterdir())):
        raise ArchiveError(f"{output_dir} holds something else: choose another --output_dir.")

    work_dir = output_dir.with_name(f".{output_dir.name}.partial")
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    try:
        contents = _spool(archives, work_dir / "spool.arrow", on_bad_clip)
        _choose(contents.clips, archives, split, seed)
        preparation = options | _summary(contents)
        _write(contents, preparation, work_dir)
        _move_into_place(work_dir / "dataset", output_dir)
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)
    return preparation


def read_preparation(folder: Path) -> dict | None:
    """What `prepare` wrote about a folder; None where it is not one of its own."""
    try:
        return json.loads((folder / PREPARATION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _identify(path: Path) -> dict:
    """Tell an archive from another one without reading it whole (it may be 1.2 GB)."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    listing = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return {"name": path.name, "state": hashlib.sha256(repr(listing).encode()).hexdigest()}


# --- decoding -------------------------------------------------------------------------------


def _spool(archives: list[Path], spool_path: Path, on_bad_clip: str) -> Contents:
    """Decode every clip of the archives into an Arrow file; bad ones stay in the list, with why."""
    import pyarrow as pa

    contents = Contents()
    schema = _features().arrow_schema
    n_rows = 0
    with pa.OSFile(str(spool_path), "wb") as file, pa.ipc.new_file(file, schema) as spool:
        for path in archives:
            for clip, wav in _decode_archive(path, contents):
                contents.clips.append(clip)
                if clip.is_kept:
                    clip.spool_row = n_rows
                    n_rows += 1
                    spool.write_batch(pa.RecordBatch.from_pylist([_row(clip, wav)], schema=schema))
                elif on_bad_clip == "fail":
                    raise BadClipError(
                        f"{clip.member} in {clip.archive} cannot be used: {clip.status}. "
                        "Leave out `--on_bad_clip fail` to go on without it."
                    )
    return contents


def _decode_archive(path: Path, contents: Contents) -> Iterator[tuple[Clip, bytes]]:
    """Clips with their WAVs, in the archive's order, decoded in as many threads as there are cores.

    Few are in memory at once. What else the archive tells is put into `contents`.
    """
    import torch
    from tqdm import tqdm

    n_threads = os.cpu_count() or 1
    n_torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the clips are the parallelism: more threads each only get in the way
    pending: deque[Future] = deque()
    try:
        with (
            open_archive(path) as members,
            ThreadPoolExecutor(n_threads) as pool,
            tqdm(desc=f"Decoding {path.name}", unit=" clips") as bar,
        ):
            for member in _clips_only(members, contents):
                pending.append(pool.submit(_decode_member, path.name, member))
                if len(pending) > 2 * n_threads:
                    yield pending.popleft().result()
                    bar.update()
            while pending:
                yield pending.popleft().result()
                bar.update()
    finally:
        torch.set_num_threads(n_torch_threads)


def _clips_only(members: Iterator[Member], contents: Contents) -> Iterator[Member]:
    for member in members:
        if member.is_clip:
            yield member
        elif member.basename == MARKER:
            contents.is_synthetic = True
        elif member.basename in FEATURE_TABLES:
            with suppress(MemberError):
                contents.tables.setdefault(member.basename, member.read())


def _decode_member(archive_name: str, member: Member) -> tuple[Clip, bytes]:
    track_id = member.track_id or ""
    clip = Clip(
        track_id=track_id,
        genre=splits.genre_of(track_id) if track_id else "",
        split="",
        seconds=0.0,
        sha256="",
        status=KEPT,
        archive=archive_name,
        # A name can be of any length and hold line breaks; the manifest is for people.
        member=member.name[-200:].encode("unicode_escape").decode(),
    )
    try:
        if not track_id:
            raise audio.AudioError("its name is not that of a GTZAN clip, such as blues.00000.wav")
        waveform, sampling_rate = audio.decode(member.read(), MAX_SECONDS + 1)
        clip.seconds = round(len(waveform) / sampling_rate, 3)
        if clip.seconds < MIN_SECONDS:
            raise audio.AudioError(f"shorter than {MIN_SECONDS:g} s")
        if clip.seconds > MAX_SECONDS:
            raise audio.AudioError(f"longer than {MAX_SECONDS:g} s: not a clip of GTZAN")
        if audio.is_silent(waveform):
            raise audio.AudioError("digital silence")
        pcm = audio.to_pcm16(audio.resample(waveform, sampling_rate))
        clip.sha256 = hashlib.sha256(pcm).hexdigest()
        return clip, audio.wav_bytes(pcm)
    except (MemberError, audio.AudioError) as error:
        clip.status = str(error)
        return clip, b""


# --- choosing -------------------------------------------------------------------------------


def _choose(clips: list[Clip], archives: list[Path], split: str, seed: int) -> None:
    """Keep each track once and give it a split; say in `status` why a clip is left out."""
    longest: dict[str, Clip] = {}
    for clip in filter(lambda clip: clip.is_kept, clips):
        best = longest.get(clip.track_id)
        if best is None or clip.seconds > best.seconds:
            longest[clip.track_id], clip = clip, best
        if clip:
            clip.status = f"a copy: the track is taken from {longest[clip.track_id].archive}"
    if not longest:
        names = " and ".join(str(path) for path in archives)
        bad = next((f" The first: {c.member}: {c.status}." for c in clips), "")
        raise ArchiveError(
            f"{names} holds no usable GTZAN clip, such as genres_original/blues/blues.00000.wav; "
            f"{len(clips)} audio files were looked at.{bad}"
        )
    assignment = splits.assign({t: clip.sha256 for t, clip in longest.items()}, split, seed)
    for track_id, clip in longest.items():
        clip.split = assignment.get(track_id, "")
        if not clip.split:
            clip.status = "left out by the fault-filtered lists (faulty, or a repetition)"
    if "train" not in assignment.values():
        raise ArchiveError(
            f"The {split} split leaves no clip to train on among these {len(longest)}: "
            "take `--split random`."
        )


def _summary(contents: Contents) -> dict:
    kept = [clip for clip in contents.clips if clip.is_kept]
    sha256_of = {clip.track_id: clip.sha256 for clip in kept}
    tracks_of: dict[str, list[str]] = {}
    for track_id in sorted(sha256_of):
        tracks_of.setdefault(sha256_of[track_id], []).append(track_id)
    return {
        "is_synthetic": contents.is_synthetic,
        "n_members": len(contents.clips),
        "n_kept": len(kept),
        "n_dropped": sum(not clip.is_kept for clip in contents.clips),
        "seconds": round(sum(clip.seconds for clip in kept), 1),
        "counts": {
            name: {g: sum(c.split == name and c.genre == g for c in kept) for g in GENRES}
            for name in SPLITS
        },
        "leakage": splits.leakage({clip.track_id: clip.split for clip in kept}, sha256_of),
        "identical_samples": [tracks for tracks in tracks_of.values() if len(tracks) > 1],
        "feature_tables": sorted(contents.tables),
    }


# --- writing --------------------------------------------------------------------------------


def _features():
    from datasets import Audio, ClassLabel, Features, Value

    return Features(
        file=Value("string"),
        audio=Audio(sampling_rate=audio.SAMPLING_RATE),
        genre=ClassLabel(names=list(GENRES)),
        track_id=Value("string"),
        artist=Value("string"),
    )


def _row(clip: Clip, wav: bytes) -> dict:
    name = f"{clip.track_id}.wav"
    return {
        "file": f"{clip.genre}/{name}",
        "audio": {"bytes": wav, "path": name},
        "genre": GENRES.index(clip.genre),
        "track_id": clip.track_id,
        "artist": artists_and_titles().get(clip.track_id, ("", ""))[0],
    }


def _write(contents: Contents, preparation: dict, work_dir: Path) -> None:
    from data_prep.card import dataset_card

    folder = work_dir / "dataset"
    kept = sorted((clip for clip in contents.clips if clip.is_kept), key=lambda c: c.track_id)
    _write_splits(kept, work_dir / "spool.arrow", folder)
    for name, data in contents.tables.items():
        _write_feature_table(data, folder / name)
    with (folder / MANIFEST_FILE).open("w", encoding="utf-8", newline="") as file:
        columns = [name for name in asdict(contents.clips[0]) if name != "spool_row"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, sorted(contents.clips, key=lambda c: (c.track_id, c.member))))
    (folder / "README.md").write_text(str(dataset_card(preparation)), encoding="utf-8")
    (folder / PREPARATION_FILE).write_text(json.dumps(preparation, indent=2) + "\n")


def _write_splits(kept: list[Clip], spool_path: Path, folder: Path) -> None:
    """A folder for `load_from_disk`, written clip by clip.

    `save_to_disk` is given one clip a split, for the files around the data. With all of them it
    would map the whole spool into memory and copy a hundred clips at a time.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetDict, disable_progress_bars, enable_progress_bars
    from datasets.table import InMemoryTable

    schema = _features().arrow_schema
    # The same archive gives the same folder, byte for byte: no fingerprint of time or place.
    fingerprint = hashlib.sha256("".join(clip.sha256 for clip in kept).encode()).hexdigest()[:16]
    with pa.OSFile(str(spool_path)) as file, pa.ipc.open_file(file) as spool:
        rows = {name: [c.spool_row for c in kept if c.split == name] for name in SPLITS}
        firsts = {
            name: pa.Table.from_batches([spool.get_batch(i) for i in rows[name][:1]], schema)
            for name in SPLITS
        }
        disable_progress_bars()
        DatasetDict(
            {n: Dataset(InMemoryTable(t), fingerprint=fingerprint) for n, t in firsts.items()}
        ).save_to_disk(folder, num_shards=dict.fromkeys(SPLITS, 1))  # a file for an empty one, too
        enable_progress_bars()
        for data_file in folder.glob("*/data-*.arrow"):
            with pa.OSFile(str(data_file), "wb") as out, pa.ipc.new_stream(out, schema) as stream:
                for i in rows[data_file.parent.name]:
                    stream.write_batch(spool.get_batch(i))


def _write_feature_table(data: bytes, path: Path) -> None:
    """Copy a CSV of the Kaggle archive, each row led by the track it belongs to."""
    lines = data.decode("utf-8", errors="replace").splitlines()
    with path.open("w", encoding="utf-8", newline="") as file:
        for i, row in enumerate(csv.reader(lines)):
            track_id = ".".join(row[0].split(".")[:2]) if row else ""
            csv.writer(file, lineterminator="\n").writerow(
                ["track_id" if i == 0 else track_id, *row]
            )


def _move_into_place(folder: Path, output_dir: Path) -> None:
    """Two renames at most; between them there is no dataset, never half of one."""
    if output_dir.exists():
        output_dir.rename(folder.with_name("replaced"))
    folder.rename(output_dir)
