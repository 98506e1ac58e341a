"""The preparation: sources in, a finished dataset folder out, or nothing.

from data_prep.prepare import prepare
prepare(["data/GTZAN Genre Collection.zip"], Path("data/gtzan"))
prepare(["My genres"], Path("data/mine"))
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_prep import custom, gtzan, splits
from data_prep.archive import ArchiveError, MemberError
from data_prep.custom import Plan
from data_prep.decoding import decode_sources
from data_prep.excerpts import Cutting
from data_prep.feature_tables import FeatureTableError, add_track_ids
from data_prep.gtzan import GENRES, SPLITS
from data_prep.leakage import genre_warnings, leakage
from data_prep.options import SourceOptions
from data_prep.output_folder import (
    CLIPS,
    check_replaceable,
    move_into_place,
    remove_leftovers,
    working_folder,
    write_dataset,
)
from data_prep.prepared import SAMPLING_RATE, read_preparation
from data_prep.source_state import describe_state
from data_prep.sources import MusicSource, recognise
from data_prep.track import Track
from music_genre.errors import InputError

RECIPE_VERSION = 5  # raised when the same source would give another dataset
MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 4_000, 96_000  # hertz


class AnotherPreparationError(InputError):
    """The output folder holds a dataset that was prepared in another way."""


def prepare(
    archives: Sequence[str | Path],
    output_dir: Path,
    split: str | None = None,
    seed: int = 0,
    on_bad_clip: str = "drop",
    source_options: SourceOptions | None = None,
    sampling_rate: int = SAMPLING_RATE,
    overwrite: bool = False,
) -> dict:
    """Turn GTZAN archives, or one source of other genres, into a folder for `load_from_disk`.

    Args:
        archives: a zip, tar, folder or table each, or the id of a dataset on the Hub; several are
            merged for GTZAN, where a track that is in several is kept once, the longest.
        output_dir: made by this function.
        split: for GTZAN one of `splits.GTZAN_METHODS`, for others one of `splits.CUSTOM_METHODS`;
            None is the strictest that the source allows. `seed` is that of splits that are drawn.
        on_bad_clip: "drop" lists the clip with its reason in manifest.csv, "fail" raises.
        source_options: for sources other than GTZAN.
        sampling_rate: of the dataset, in hertz.
        overwrite: replace another preparation in `output_dir`, never anything else; and try again
            to read the files that could not be read for a reason that may pass.

    Returns:
        The content of `preparation.json`: options, sources, counts, leakage, warnings.

    Raises:
        AnotherPreparationError: `output_dir` holds one, and `overwrite` is False.
        InputError: with a sentence for the person who runs it; nothing is written.
    """
    if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
        raise InputError(
            f"--sampling_rate must be {MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE}, not "
            f"{sampling_rate}."
        )
    paths = [Path(archive).expanduser() for archive in archives]
    source_options = source_options or SourceOptions()
    options = {
        "recipe_version": RECIPE_VERSION,
        "asked_split": split,
        "seed": seed,
        "on_bad_clip": on_bad_clip,
        "sampling_rate": sampling_rate,
        "source_options": source_options.as_json(),
        "sources": [describe_state(path, source_options) for path in paths],
    }
    output_dir = output_dir.resolve()  # a link to a folder on another disk stays a link
    if done := _finished(output_dir, options, overwrite):
        remove_leftovers(output_dir)
        return done
    check_replaceable(output_dir)
    with working_folder(output_dir) as folder:
        # Restored, or by a run that ended just now.
        if done := _finished(output_dir, options, overwrite):
            return done
        preparation = _prepare(paths, folder, options, source_options)
        check_replaceable(output_dir)
        move_into_place(folder, output_dir)
    return preparation


def _prepare(paths: list[Path], folder: Path, options: dict, source_options: SourceOptions) -> dict:
    split, seed = options["asked_split"], options["seed"]
    sources = recognise_all(paths, source_options, split)
    if sources[0].is_gtzan:
        plan = Plan(Cutting(options["sampling_rate"], are_songs=False))
        for source in sources:
            print(source.describe(), flush=True)
    else:
        plan = custom.plan(sources[0], source_options, options["sampling_rate"])
    (folder / CLIPS).mkdir()
    tracks = decode_sources(sources, folder / CLIPS, options["on_bad_clip"], plan.cutting)
    feature_tables, warnings = _feature_tables(sources)
    is_synthetic = sources[0].has_marker or sources[0].known.get("is_synthetic") is True
    if sources[0].is_gtzan:
        about = _finish_gtzan(tracks, paths, split, seed, is_synthetic)
    else:
        about = custom.finish(tracks, sources[0], plan, split, seed, source_options)
    if is_synthetic:
        about["leakage"] = None
    about["warnings"] = warnings + about["warnings"]
    about["source"] = " and ".join(map(str, paths))
    about["is_synthetic"] = is_synthetic
    about["feature_tables"] = sorted(feature_tables)
    preparation = options | about | _counts(tracks, about["genres"])
    write_dataset(folder, tracks, feature_tables, preparation)
    return preparation


def recognise_all(
    paths: list[Path], options: SourceOptions, split: str | None
) -> list[MusicSource]:
    """
    Raises:
        InputError: a source is none, there are several that are not GTZAN, they mix recorded and
            synthesised music, or the split is not one of the source's.
    """
    sources = [recognise(path, options) for path in paths]
    if len(sources) > 1 and not all(source.is_gtzan for source in sources):
        raise ArchiveError(
            "Several sources are merged for GTZAN only: put the folders into one, or list all "
            "files in one table."
        )
    if len({source.has_marker for source in sources if source.tracks}) > 1:
        raise ArchiveError(
            "Some of these archives hold synthesised music and others do not: prepare them "
            "separately."
        )
    methods = splits.GTZAN_METHODS if sources[0].is_gtzan else splits.CUSTOM_METHODS
    if split not in (None, *methods):
        what = "GTZAN" if sources[0].is_gtzan else "your own genres"
        raise ArchiveError(
            f"--split {split} is not one for {what}: choose one of {', '.join(methods)}."
        )
    return sources


def _finished(output_dir: Path, options: dict, overwrite: bool) -> dict | None:
    """What the output folder holds, if it was prepared in this way.

    Raises:
        AnotherPreparationError: it was prepared in another way.
    """
    done = read_preparation(output_dir)
    if done is None:
        return None
    difference = _difference(done, options)
    if difference is None:
        is_again = overwrite and done["n_temporary"]
        return None if is_again else done
    if not overwrite:
        raise AnotherPreparationError(f"{output_dir} holds another preparation ({difference}).")
    return None


def _difference(done: dict, options: dict) -> str | None:
    if done.get("recipe_version") != options["recipe_version"]:
        return "made by another version of this program"
    was, now = (
        [{key: source.get(key) for key in ("path", "state")} for source in sources]
        for sources in (done["sources"], options["sources"])
    )
    if [source["path"] for source in was] != [source["path"] for source in now]:
        return f"of {' and '.join(str(source['path']) for source in was)}"
    changed = [
        a["path"] for a, b in zip(was, now, strict=True) if b["state"] and a["state"] != b["state"]
    ]
    if changed:
        return f"{changed[0]} has changed since"
    names = ("asked_split", "seed", "on_bad_clip", "sampling_rate", "source_options")
    different = [name for name in names if done.get(name) != options[name]]
    if different:
        return f"with another --{different[0].removeprefix('asked_').replace('source_', '')}"
    return None


def _feature_tables(sources: list[MusicSource]) -> tuple[dict[str, str], list[str]]:
    """GTZAN's tables of features with the column track_id, by name; and a warning for each bad one.

    Of several with one name, the first good one counts.
    """
    tables: dict[str, str] = {}
    bad: dict[str, str] = {}
    for source in sources:
        for name, member in source.feature_tables.items():
            try:
                tables.setdefault(name, add_track_ids(member.read()))
            except (MemberError, FeatureTableError) as error:
                bad[name] = str(error)
    return tables, [
        f"{name} is left out: {reason}."
        for name, reason in sorted(bad.items())
        if name not in tables
    ]


def _counts(tracks: list[Track], genres: list[str]) -> dict:
    kept = [track for track in tracks if track.is_kept]
    tracks_of: dict[str, list[str]] = {}
    for track in sorted(kept, key=lambda track: track.track_id):
        tracks_of.setdefault(track.sha256, []).append(track.track_id)
    counts = Counter((track.split, track.genre) for track in kept)
    return {
        "n_members": len(tracks),
        "n_kept": len(kept),
        "n_clips": sum(len(track.clips) for track in kept),
        "n_temporary": sum(track.is_temporary for track in tracks),
        "n_dropped": sum(not track.is_kept for track in tracks),
        "n_incomplete": sum(track.lost_seconds > 0 for track in kept),
        "lost_seconds": round(sum(track.lost_seconds for track in kept), 1),
        "seconds": round(sum(track.seconds for track in kept), 1),
        "counts": {name: {genre: counts[name, genre] for genre in genres} for name in SPLITS},
        "identical_samples": [ids for ids in tracks_of.values() if len(ids) > 1],
    }


# --- GTZAN ----------------------------------------------------------------------------------


def _finish_gtzan(
    tracks: list[Track], paths: list[Path], split: str | None, seed: int, is_synthetic: bool
) -> dict:
    """Choose the tracks and their splits; returns the part of the preparation that is GTZAN's."""
    usable = _longest_copies(tracks, paths)
    if is_synthetic:  # the names of its clips are GTZAN's, its music is not
        for track in usable.values():
            track.artist = track.title = ""
    assignments = {m: splits.assign(usable, m, seed) for m in splits.GTZAN_METHODS}
    warnings = _absent_genres(usable)
    if split is None:
        split, reason = _default_split(assignments["filtered"], usable, is_synthetic)
        warnings += [reason] if reason else []
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
        "leakage": leakage(assignment, usable),
        "warnings": warnings + genre_warnings(assignments, split, usable),
    }


def _default_split(
    filtered: dict[str, str], usable: dict[str, Track], is_synthetic: bool
) -> tuple[str, str]:
    """`filtered`, if it has a track of each genre to train on; and why not, if not."""
    if is_synthetic:
        return "random", ""
    trained = {usable[t].genre for t, split in filtered.items() if split == "train"}
    missing = sorted({track.genre for track in usable.values()} - trained)
    if not missing:
        return "filtered", ""
    return "artist", (
        f"the fault-filtered lists have no track of {', '.join(missing)} to train on among these "
        f"{len(usable)}, so the split is artist; --split filtered takes the lists all the same."
    )


def _longest_copies(tracks: list[Track], paths: list[Path]) -> dict[str, Track]:
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
        names = " and ".join(map(str, paths))
        bad = next((f" The first: {t.member}: {t.status}." for t in tracks), "")
        raise ArchiveError(
            f"{names} holds no usable GTZAN clip, such as genres_original/blues/blues.00000.wav; "
            f"{len(tracks)} audio files were looked at.{bad}"
        )
    return longest


def _absent_genres(tracks: dict[str, Track]) -> list[str]:
    absent = [genre for genre in GENRES if genre not in {t.genre for t in tracks.values()}]
    return [f"the archives hold no usable clip of {', '.join(absent)}."] if absent else []
