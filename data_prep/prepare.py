"""The preparation: sources in, a finished dataset folder out, or nothing.

from data_prep.prepare import prepare
prepare([Path("data/GTZAN Genre Collection.zip")], Path("data/gtzan"))
prepare([Path("My genres")], Path("data/mine"))
"""

from collections import Counter
from pathlib import Path

from data_prep import gtzan, own, splits
from data_prep.archive import ArchiveError
from data_prep.decoding import Contents, decode_sources
from data_prep.folder import (
    SPOOL,
    check_replaceable,
    move_into_place,
    remove_leftovers,
    working_folder,
    write_dataset,
)
from data_prep.gtzan import GENRES, SPLITS
from data_prep.identity import identify
from data_prep.leakage import genre_warnings, leakage
from data_prep.options import SourceOptions
from data_prep.own import Plan
from data_prep.prepared import read_preparation
from data_prep.sources import Source, recognise
from data_prep.track import Track
from music_genre import old_audio as audio

RECIPE_VERSION = 4  # raised when the same source would give another dataset


def prepare(
    archives: list[Path],
    output_dir: Path,
    split: str | None = None,
    seed: int = 0,
    on_bad_clip: str = "drop",
    source_options: SourceOptions | None = None,
) -> dict:
    """Turn GTZAN archives, or one source of other genres, into a folder for `load_from_disk`.

    Args:
        archives: zip, tar, folder or table each; several are merged for GTZAN, where a track that
            is in several is kept once, the longest.
        output_dir: made by this function; replaced if it holds only files that this function wrote.
        split: for GTZAN one of `splits.METHODS`, by default `filtered`; for others one of
            `splits.OWN_METHODS`, by default what `splits.suggest` says. `seed` is that of `artist`,
            `album` and `random`.
        on_bad_clip: "drop" lists the clip with its reason in manifest.csv, "fail" raises.
        source_options: for sources other than GTZAN.

    Returns:
        The content of `preparation.json`: options, sources, counts, leakage, warnings.

    Raises:
        InputError: with a sentence for the person who runs it; nothing is written.
    """
    source_options = source_options or SourceOptions()
    options = {
        "recipe_version": RECIPE_VERSION,
        "asked_split": split,
        "seed": seed,
        "on_bad_clip": on_bad_clip,
        "source_options": source_options.as_json(),
        "sources": [identify(path, source_options) for path in archives],
    }
    output_dir = output_dir.resolve()  # a link to a folder on another disk stays a link
    if done := _finished(output_dir, options):
        remove_leftovers(output_dir)
        return done
    check_replaceable(output_dir)
    with working_folder(output_dir) as folder:
        if done := _finished(output_dir, options):  # restored, or by a run that ended just now
            return done
        sources = recognise_all(archives, source_options, split)
        plan = Plan() if sources[0].is_gtzan else own.plan(sources[0], source_options)
        contents = decode_sources(sources, folder / SPOOL, on_bad_clip, plan.cutting)
        if sources[0].is_gtzan:
            about = _finish_gtzan(contents, archives, split or "filtered", seed)
        else:
            about = own.finish(contents, sources[0], plan, split, seed, source_options)
        about |= {"source": " and ".join(map(str, archives))}
        preparation = options | about | _summary(contents, about["genres"])
        write_dataset(folder, contents, preparation)
        check_replaceable(output_dir)
        move_into_place(folder, output_dir)
    return preparation


def recognise_all(paths: list[Path], options: SourceOptions, split: str | None) -> list[Source]:
    """
    Raises:
        InputError: a source is none, there are several that are not GTZAN, or the split is not one
            of the source's.
    """
    sources = [recognise(path, options) for path in paths]
    if len(sources) > 1 and not all(source.is_gtzan for source in sources):
        raise ArchiveError(
            "Several sources are merged for GTZAN only: put the folders into one, or list all "
            "files in one table."
        )
    methods = splits.METHODS if sources[0].is_gtzan else splits.OWN_METHODS
    if split not in (None, *methods):
        what = "GTZAN" if sources[0].is_gtzan else "genres of your own"
        raise ArchiveError(
            f"--split {split} is not one for {what}: choose one of {', '.join(methods)}."
        )
    return sources


def _finished(output_dir: Path, options: dict) -> dict | None:
    done = read_preparation(output_dir)
    if done and done.get("n_temporary"):  # tracks that could not be read that time
        return None
    return done if done and all(done.get(key) == options[key] for key in options) else None


# --- GTZAN ----------------------------------------------------------------------------------


def _finish_gtzan(contents: Contents, archives: list[Path], split: str, seed: int) -> dict:
    """Choose the tracks and their splits; returns the part of the preparation that is GTZAN's."""
    usable = _longest_copies(contents.tracks, archives)
    if contents.is_synthetic:  # the names of its clips are GTZAN's, its music is not
        for track in usable.values():
            track.artist = track.title = ""
    assignments = {m: splits.assign(usable, m, seed) for m in splits.METHODS}
    assignment = assignments[split]
    if "train" not in assignment.values():
        raise ArchiveError(
            f"The {split} split leaves no clip to train on among these {len(usable)}: "
            "use `--split random`."
        )
    for track_id, track in usable.items():
        track.split = assignment.get(track_id, "")
        if not track.split:
            track.status = "left out by the fault-filtered lists (faulty, or a repetition)"
    return {
        "kind": "gtzan",
        "dataset_name": "GTZAN",
        "genres": list(GENRES),
        "split": split,
        "split_description": gtzan.DESCRIPTIONS[split],
        "leakage": None if contents.is_synthetic else leakage(assignment, usable),
        "warnings": _table_warnings(contents)
        + _absent_genres(usable)
        + genre_warnings(assignments, split, usable),
    }


def _longest_copies(tracks: list[Track], archives: list[Path]) -> dict[str, Track]:
    """Keep each track once, as track_id -> track; `status` says why the others are left out.

    Raises:
        ArchiveError: no clip is usable.
    """
    longest: dict[str, Track] = {}
    for track in filter(lambda track: track.is_kept, tracks):
        best = longest.get(track.track_id)
        if best is None or track.seconds > best.seconds:
            longest[track.track_id] = track
    for track in filter(lambda track: track.is_kept, tracks):
        if track is not (best := longest[track.track_id]):
            track.status = f"a copy: the track is taken from {best.archive}"
    if not longest:
        names = " and ".join(str(path) for path in archives)
        bad = next((f" The first: {t.member}: {t.status}." for t in tracks), "")
        raise ArchiveError(
            f"{names} holds no usable GTZAN clip, such as genres_original/blues/blues.00000.wav; "
            f"{len(tracks)} audio files were looked at.{bad}"
        )
    return longest


def _absent_genres(tracks: dict[str, Track]) -> list[str]:
    absent = [genre for genre in GENRES if genre not in {t.genre for t in tracks.values()}]
    return [f"the archives hold no usable clip of {', '.join(absent)}."] if absent else []


def _table_warnings(contents: Contents) -> list[str]:
    return [
        f"{name} is left out: {reason}."
        for name, reason in sorted(contents.bad_tables.items())
        if name not in contents.tables
    ]


def _summary(contents: Contents, genres: list[str]) -> dict:
    kept = [track for track in contents.tracks if track.is_kept]
    tracks_of: dict[str, list[str]] = {}
    for track in sorted(kept, key=lambda track: track.track_id):
        tracks_of.setdefault(track.sha256, []).append(track.track_id)
    counts = Counter((track.split, track.genre) for track in kept)
    return {
        "is_synthetic": contents.is_synthetic,
        "sampling_rate": audio.SAMPLING_RATE,
        "n_members": len(contents.tracks),
        "n_kept": len(kept),
        "n_clips": sum(len(track.clips) for track in kept),
        "n_temporary": sum(track.is_temporary for track in contents.tracks),
        "n_dropped": sum(not track.is_kept for track in contents.tracks),
        "seconds": round(sum(track.seconds for track in kept), 1),
        "counts": {name: {genre: counts[name, genre] for genre in genres} for name in SPLITS},
        "identical_samples": [tracks for tracks in tracks_of.values() if len(tracks) > 1],
        "feature_tables": sorted(contents.tables),
    }
