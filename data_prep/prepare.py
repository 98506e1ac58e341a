"""The preparation: archives in, a finished dataset folder out, or nothing.

from data_prep.prepare import prepare
prepare([Path("data/GTZAN Genre Collection.zip")], Path("data/gtzan"))
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from data_prep import splits
from data_prep.archive import ArchiveError
from data_prep.decoding import Clip, Contents, decode_archives
from data_prep.folder import (
    SPOOL,
    check_replaceable,
    move_into_place,
    read_preparation,
    remove_leftovers,
    working_folder,
    write_dataset,
)
from data_prep.gtzan import GENRES, SPLITS, artists_and_titles

RECIPE_VERSION = 2  # raised when the same archive would give another dataset


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
        output_dir: made by this function; replaced if it holds only files that this function wrote.
        split: one of `splits.METHODS`; `seed` is that of `artist` and `random`.
        on_bad_clip: "drop" lists the clip with its reason in manifest.csv, "fail" raises.

    Returns:
        The content of `preparation.json`: options, sources, counts, leakage, warnings.

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
    output_dir = output_dir.resolve()  # a link to a folder on another disk stays a link
    if done := _finished(output_dir, options):
        remove_leftovers(output_dir)
        return done
    check_replaceable(output_dir)
    with working_folder(output_dir) as folder:
        if done := _finished(output_dir, options):  # restored, or by a run that ended just now
            return done
        contents = decode_archives(archives, folder / SPOOL, on_bad_clip)
        names = {} if contents.is_synthetic else artists_and_titles()
        usable = _longest_copies(contents.clips, archives)
        hashes = {track_id: clip.sha256 for track_id, clip in usable.items()}
        assignments = {m: splits.assign(hashes, m, seed, names) for m in splits.METHODS}
        _assign_splits(usable, split, assignments[split])
        preparation = options | _summary(contents)
        preparation["warnings"] = _table_warnings(contents) + genre_warnings(assignments, split)
        write_dataset(folder, contents, preparation, names)
        check_replaceable(output_dir)
        move_into_place(folder, output_dir)
    return preparation


def _finished(output_dir: Path, options: dict) -> dict | None:
    done = read_preparation(output_dir)
    return done if done and all(done.get(key) == options[key] for key in options) else None


def _identify(path: Path) -> dict:
    """Tell an archive from another one without reading it whole (it may be 1.2 GB)."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    listing = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return {"name": path.name, "state": hashlib.sha256(repr(listing).encode()).hexdigest()}


def _longest_copies(clips: list[Clip], archives: list[Path]) -> dict[str, Clip]:
    """Keep each track once, as track_id -> clip; `status` says why the other copies are left out.

    Raises:
        ArchiveError: no clip is usable.
    """
    longest: dict[str, Clip] = {}
    for clip in filter(lambda clip: clip.is_kept, clips):
        best = longest.get(clip.track_id)
        if best is None or clip.seconds > best.seconds:
            longest[clip.track_id] = clip
    for clip in filter(lambda clip: clip.is_kept, clips):
        if clip is not (best := longest[clip.track_id]):
            clip.status = f"a copy: the track is taken from {best.archive}"
    if not longest:
        names = " and ".join(str(path) for path in archives)
        bad = next((f" The first: {c.member}: {c.status}." for c in clips), "")
        raise ArchiveError(
            f"{names} holds no usable GTZAN clip, such as genres_original/blues/blues.00000.wav; "
            f"{len(clips)} audio files were looked at.{bad}"
        )
    return longest


def _assign_splits(usable: dict[str, Clip], method: str, assignment: Mapping[str, str]) -> None:
    """Give each clip its split, or say in `status` that the filtered lists leave it out.

    Raises:
        ArchiveError: no clip is in train.
    """
    if "train" not in assignment.values():
        raise ArchiveError(
            f"The {method} split leaves no clip to train on among these {len(usable)}: "
            "use `--split random`."
        )
    for track_id, clip in usable.items():
        clip.split = assignment.get(track_id, "")
        if not clip.split:
            clip.status = "left out by the fault-filtered lists (faulty, or a repetition)"


def _table_warnings(contents: Contents) -> list[str]:
    return [
        f"{name} is left out: {reason}."
        for name, reason in sorted(contents.bad_tables.items())
        if name not in contents.tables
    ]


def genre_warnings(assignments: Mapping[str, Mapping[str, str]], method: str) -> list[str]:
    """One sentence for each split that lacks genres, with the methods that do not lack them.

    Args:
        assignments: what `splits.assign` returns for each method. `random` and `artist` give
            every usable clip a split.
        method: the chosen one.
    """
    filled = {m: {(s, splits.genre_of(t)) for t, s in a.items()} for m, a in assignments.items()}
    present = {genre for _, genre in filled["random"]}
    absent = [genre for genre in GENRES if genre not in present]
    warnings = [f"the archives hold no usable clip of {', '.join(absent)}."] if absent else []
    for split in SPLITS:
        missing = [g for g in GENRES if g in present and (split, g) not in filled[method]]
        if not missing:
            continue
        better = [m for m in filled if all((split, genre) in filled[m] for genre in missing)]
        is_empty = len(missing) == len(present)
        state = "is empty" if is_empty else f"has no clip of {', '.join(missing)}"
        remedy = f"--split {' or '.join(better)} fills it" if better else "no --split fills it"
        warnings.append(f"the {split} split {state}: {remedy}.")
    return warnings


def _summary(contents: Contents) -> dict:
    kept = [clip for clip in contents.clips if clip.is_kept]
    sha256_of = {clip.track_id: clip.sha256 for clip in kept}
    tracks_of: dict[str, list[str]] = {}
    for track_id in sorted(sha256_of):
        tracks_of.setdefault(sha256_of[track_id], []).append(track_id)
    split_of = {clip.track_id: clip.split for clip in kept}
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
        "leakage": None if contents.is_synthetic else splits.leakage(split_of, sha256_of),
        "identical_samples": [tracks for tracks in tracks_of.values() if len(tracks) > 1],
        "feature_tables": sorted(contents.tables),
    }
