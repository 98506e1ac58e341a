"""Choose which decoded tracks are kept, and the split of each of them."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from data_prep import genres, gtzan, splits
from data_prep.leakage import leakage
from data_prep.names import shown
from data_prep.options import Options
from data_prep.prepared import plain_name
from data_prep.sources.music_source import MusicSource
from data_prep.track import Track
from music_genre.errors import InputError

REASONS_WITHOUT_SPLIT = {
    "filtered": "left out by the fault-filtered lists (faulty, or a repetition)",
    "given": "the source gives it no split",
}


def select_gtzan(tracks: list[Track], is_synthetic: bool, options: Options) -> dict:
    """Keep each track of GTZAN once, and choose splits.

    Returns the part of the preparation that belongs to this kind of source. Raises InputError:
    no track is in train.
    """
    usable = _longest_copies(tracks)
    if is_synthetic:  # the names of its clips are GTZAN's, its music is not
        for track in usable.values():
            track.artist = track.title = ""
    present = {track.genre for track in usable.values()}
    absent = [genre for genre in gtzan.GENRES if genre not in present]
    warnings = [f"the archives hold no usable track of {', '.join(absent)}."] if absent else []
    split = options.split
    if split is None:
        split, reasons = _default_split(usable, is_synthetic)
        warnings += reasons
    about = {
        "kind": "gtzan",
        "dataset_name": "GTZAN",
        "genres": list(gtzan.GENRES),
        "split_description": gtzan.DESCRIPTIONS[split],
    }
    return about | _put_into_splits(
        usable, splits.assign(usable, split, options.seed), split, warnings
    )


def select_custom(tracks: list[Track], source: MusicSource, options: Options) -> dict:
    """Leave out copies and genres of too few tracks, and choose splits.

    Returns the part of the preparation that belongs to this kind of source. Raises InputError:
    fewer than two genres are left, two hold the same files, or no track is in train.
    """
    if source.kind != "dataset":  # a dataset stays as it was published
        _leave_out_copies(tracks)
    warnings = genres.leave_out_small(tracks, genres.min_tracks_of(source, options))
    usable = {track.track_id: track for track in tracks if track.is_kept}
    method = options.split or splits.suggest(usable)
    given = {track.split for track in usable.values() if track.split}
    if method == "given" and not given:
        raise InputError(
            "--split given needs a column split, or folders train, validation and test."
        )
    assignment = splits.assign_custom(usable, method, options.seed)
    is_by_links = options.split is None and method in ("artist", "album")
    if is_by_links and "validation" not in assignment.values():
        warnings.append(
            f"all tracks belong together by {method}, so the split is random, and the accuracy may "
            "be too high."
        )
        method = "random"
        assignment = splits.assign_custom(usable, method, options.seed)
    description = splits.CUSTOM_DESCRIPTIONS[method]
    missing = [name for name in gtzan.SPLITS if name not in given]
    if method == "given" and missing:
        description += f", and {' and '.join(missing)} drawn from train"
    about = _put_into_splits(usable, assignment, method, warnings)
    about["warnings"] += _leak_warnings(method, about["leakage"])
    about["warnings"] += source.warnings if method == "given" else []
    names = {track.genre for track in usable.values() if track.is_kept}
    path = Path(source.path)
    about |= {
        "kind": source.kind,
        "dataset_name": options.name or shown(plain_name(path) if path.exists() else str(path)),
        # In the order of the source's ClassLabel; other spellings come after these.
        "genres": [name for name in source.genres if name in names]
        + sorted(names - set(source.genres)),
        "split_description": description,
        "license": options.license,
        "description": options.description,
    }
    return about | _said_of_dataset(source.known if method == "given" else {})


def _put_into_splits(
    tracks: Mapping[str, Track], assignment: Mapping[str, str], method: str, warnings: list[str]
) -> dict:
    if "train" not in assignment.values():
        raise InputError(
            f"The {method} split leaves no track to train on among these {len(tracks)}: "
            "use `--split random`."
        )
    for track_id, track in tracks.items():
        track.split = assignment.get(track_id, "")
        if not track.split:
            track.status = REASONS_WITHOUT_SPLIT[method]
    return {
        "split": method,
        "leakage": leakage(assignment, tracks),
        "warnings": warnings + _genre_warnings(tracks),
    }


def _genre_warnings(tracks: Mapping[str, Track]) -> list[str]:
    """One sentence for each split that lacks genres."""
    filled = {(track.split, track.genre) for track in tracks.values()}
    present = sorted({track.genre for track in tracks.values()})
    warnings = []
    for split in gtzan.SPLITS:
        missing = [genre for genre in present if (split, genre) not in filled]
        if missing:
            state = "is empty" if missing == present else f"has no track of {', '.join(missing)}"
            warnings.append(f"the {split} split {state}: another --split may fill it.")
    return warnings


def _default_split(usable: Mapping[str, Track], is_synthetic: bool) -> tuple[str, list[str]]:
    """Return `filtered` if it has a train track of each genre, otherwise another split and why."""
    if is_synthetic:
        return "random", []
    filtered = splits.assign(usable, "filtered")
    trained = {usable[t].genre for t, split in filtered.items() if split == "train"}
    missing = sorted({track.genre for track in usable.values()} - trained)
    if not missing:
        return "filtered", []
    return "artist", [
        f"the fault-filtered lists have no track of {', '.join(missing)} to train on among these "
        f"{len(usable)}, so the split is artist; --split filtered uses the lists anyway."
    ]


def _longest_copies(tracks: list[Track]) -> dict[str, Track]:
    """Keep each track once, as track_id -> track; `status` says why the others are left out."""
    kept = [track for track in tracks if track.is_kept]
    longest: dict[str, Track] = {}
    for track in sorted(kept, key=lambda track: track.seconds, reverse=True):
        best = longest.setdefault(track.track_id, track)
        if track is not best:
            track.status = f"a copy: the track is taken from {best.archive}"
    return longest


def _leave_out_copies(tracks: list[Track]) -> None:
    """Keep one of several tracks with the same samples, or none if their genres differ.

    Raises InputError: most of a genre's tracks are also in other genres.
    """
    kept = [track for track in tracks if track.is_kept]
    genres_of: dict[str, set[str]] = defaultdict(set)
    for track in kept:
        genres_of[track.sha256].add(track.genre)
    n_tracks = Counter(track.genre for track in kept)
    n_shared = Counter(track.genre for track in kept if len(genres_of[track.sha256]) > 1)
    for genre, n in n_shared.items():
        if 2 * n > n_tracks[genre]:
            raise InputError(
                f"{n} of {n_tracks[genre]} recordings of the genre {genre} are in another genre as "
                "well: leave one of the genres out, or merge them."
            )
    first: dict[str, Track] = {}
    for track in kept:
        if others := genres_of[track.sha256] - {track.genre}:
            track.status = f"its samples are in {min(others)} as well"
        elif track is not (same := first.setdefault(track.sha256, track)):
            track.status = f"a copy, sample for sample, of {same.member}"


def _said_of_dataset(known: Mapping) -> dict:
    """The split that the card of a dataset made by data_prep states, if it is plausible."""
    is_gtzan, split = known.get("kind") == "gtzan", str(known.get("split"))
    descriptions = gtzan.DESCRIPTIONS if is_gtzan else splits.CUSTOM_DESCRIPTIONS
    if split not in descriptions or not isinstance(known.get("seed"), int):
        return {}
    names = {"kind": "gtzan", "dataset_name": "GTZAN"} if is_gtzan else {}
    return names | {
        "split": split, "split_description": descriptions[split], "seed": known["seed"],
    }  # fmt: skip


def _leak_warnings(method: str, counts: Mapping[str, int]) -> list[str]:
    if method == "given" and counts["artist_in_train"]:
        return [
            f"the source's own split has {counts['artist_in_train']} test tracks by artists that "
            "are in train as well, so the accuracy will be too high: --split artist "
            "makes a new split."
        ]
    if method == "random" and 2 * counts["artist_unknown"] > counts["test_tracks"]:
        return [
            "neither artists nor albums are known, so tracks of one artist may be in train and in "
            "test, and the accuracy may be too high: artists come from tags, folders such as "
            "Genre/Artist/Album/, or a table's column artist."
        ]
    return []
