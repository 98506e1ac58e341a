"""Custom genres: which tracks of a source are decoded and kept, and in which split they are."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep import genres, gtzan, splits
from data_prep.excerpts import Cutting
from data_prep.genres import MIN_TRACKS, Spellings
from data_prep.leakage import genre_warnings, leakage, shared_artists
from data_prep.options import SourceOptions
from data_prep.prepared import plain_name
from data_prep.sources import MusicSource
from data_prep.track import Track
from music_genre.errors import InputError

MAX_ALBUM = 50  # tracks; a folder of more is no album, and holds music of many


@dataclass
class Plan:
    """What is settled before anything is decoded."""

    cutting: Cutting
    min_tracks: int = MIN_TRACKS


def plan(source: MusicSource, options: SourceOptions, sampling_rate: int) -> Plan:
    """Choose the genres, and say what was found; tracks of others get a status.

    Raises:
        InputError: fewer than two genres are left, or --genres names one that is not there.
    """
    defaults = Cutting()
    cutting = Cutting(
        sampling_rate,
        options.clips_per_track or defaults.clips_per_track,
        options.clip_seconds or defaults.clip_seconds,
    )
    # The labels of a dataset were chosen by who made it.
    min_tracks = options.min_tracks or (1 if source.kind == "dataset" else MIN_TRACKS)
    # Folders and tables are made on purpose; synonyms are for tags, or for who asks for them.
    has_synonyms = source.kind == "tags" or options.synonyms
    spellings = Spellings.read(options.synonyms) if has_synonyms else Spellings({})
    tracks = list({id(track): track for track in source.tracks.values()}.values())
    _leave_out_namesakes(tracks)
    spelled = genres.unify(tracks, spellings)
    print(source.describe())
    for sentence in genres.leave_out_no_genres(tracks, options.genres, spellings):
        print(sentence)
    if options.genres:
        genres.select(tracks, options.genres, spellings)
    for sentence in genres.leave_out_small(tracks, min_tracks):
        print(sentence[0].upper() + sentence[1:])
    counts = Counter(track.genre for track in tracks if track.is_kept)
    print("Genres: " + ", ".join(f"{genre} {n:,}" for genre, n in counts.most_common()) + ".")
    for line in genres.describe_spellings(spelled, set(counts)):
        print(line, flush=True)
    return Plan(cutting, min_tracks)


def finish(
    tracks: list[Track],
    source: MusicSource,
    plan: Plan,
    split: str | None,
    seed: int,
    options: SourceOptions,
) -> dict:
    """Leave out copies and genres of too few tracks, and choose splits.

    Returns:
        The part of the preparation that belongs to this kind of source.

    Raises:
        InputError: fewer than two genres are left, two hold the same files, or nothing is in train.
    """
    if source.kind != "dataset":  # which stays as it was published
        _leave_out_copies(tracks)
    warnings = genres.leave_out_small(tracks, plan.min_tracks)
    usable = {track.track_id: track for track in tracks if track.is_kept}
    _forget_large_albums(usable)
    method = split or splits.suggest(usable)
    if method == "given":
        usable = _with_split(usable)
    assignment = splits.assign_custom(usable, method, seed)
    if "train" not in assignment.values():
        raise InputError(
            f"The {method} split leaves no track to train on among these {len(usable)}: "
            "use `--split random`."
        )
    description = _describe_split(method, usable)
    for track_id, track in usable.items():
        track.split = assignment[track_id]
    counts = leakage(assignment, usable)
    assignments = {m: splits.assign_custom(usable, m, seed) for m in ("artist", "random")}
    warnings += genre_warnings(assignments | {method: assignment}, method, usable)
    warnings += _leak_warnings(method, counts, shared_artists(assignment, usable))
    names = {track.genre for track in usable.values()}
    about = {
        "kind": source.kind,
        "dataset_name": options.name or _name_of(source),
        "genres": [name for name in source.genres if name in names] or sorted(names),
        "split": method,
        "split_description": description,
        "leakage": counts,
        "warnings": warnings,
        "license": options.license,
        "description": options.description,
    }
    return about | _said_of_dataset(source.known if method == "given" else {})


def _name_of(source: MusicSource) -> str:
    path = Path(source.path)
    return plain_name(path) if path.exists() else str(source.path)


def _describe_split(method: str, tracks: Mapping[str, Track]) -> str:
    """In words. Where the source gives no test or validation split, a part of train becomes it."""
    description = splits.CUSTOM_DESCRIPTIONS[method]
    given = {track.split for track in tracks.values()}
    missing = [split for split in gtzan.SPLITS if split not in given]
    if method != "given" or not missing:
        return description
    train = {t: track for t, track in tracks.items() if track.split == "train"}
    drawn = splits.CUSTOM_DESCRIPTIONS[splits.suggest(train)].split()[0]
    return f"{description}, and {' and '.join(missing)} drawn from train ({drawn})"


def _said_of_dataset(known: Mapping) -> dict:
    """What the card of a dataset says that data_prep made, as far as it can be believed."""
    is_gtzan = known.get("kind") == "gtzan"
    descriptions = gtzan.DESCRIPTIONS if is_gtzan else splits.CUSTOM_DESCRIPTIONS
    split = known.get("split")
    if not isinstance(split, str) or split not in descriptions:
        return {}
    names = {"kind": "gtzan", "dataset_name": "GTZAN"} if is_gtzan else {}
    return names | {"split": split, "split_description": descriptions[split]}


def _leave_out_namesakes(tracks: list[Track]) -> None:
    """Two files may differ in the encoding of an accent alone; an id belongs to one of them."""
    seen: set[str] = set()
    for track in tracks:
        if track.is_kept and track.track_id in seen:
            track.status = "another file has this name, written in other characters"
        elif track.is_kept:
            seen.add(track.track_id)


def _leave_out_copies(tracks: list[Track]) -> None:
    """Keep one of several tracks with the same samples; none, if their genres differ.

    Raises:
        InputError: most of one genre's tracks are another one's as well.
    """
    same: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        if track.is_kept:
            same[track.sha256].append(track)
    n_of_genre = Counter(track.genre for track in tracks if track.is_kept)
    shared: Counter[tuple[str, str]] = Counter()
    for copies in same.values():
        found = sorted({track.genre for track in copies})
        shared.update((a, b) for i, a in enumerate(found) for b in found[i + 1 :])
    for (a, b), n in shared.items():
        if 2 * n > min(n_of_genre[a], n_of_genre[b]):
            raise InputError(
                f"The genres {a} and {b} hold the same recordings ({n} of {n_of_genre[a]} and "
                f"{n_of_genre[b]}): leave one of them out, or merge them."
            )
    for first, *copies in same.values():
        other = next((track for track in copies if track.genre != first.genre), None)
        if other:
            for track in (first, *copies):
                twin = other if track.genre != other.genre else first
                track.status = f"its samples are in {twin.genre} as well ({twin.member})"
            continue
        for copy in copies:
            copy.status = f"a copy, sample for sample, of {first.member}"


def _forget_large_albums(tracks: Mapping[str, Track]) -> None:
    sizes = Counter(track.album for track in tracks.values())
    for track in tracks.values():
        if sizes[track.album] > MAX_ALBUM:
            track.album = ""


def _with_split(tracks: Mapping[str, Track]) -> dict[str, Track]:
    """The tracks that the source gives a split.

    Raises:
        InputError: it gives none.
    """
    for track in tracks.values():
        if not track.split:
            track.status = "the source gives it no split"
    given = {track_id: track for track_id, track in tracks.items() if track.is_kept}
    if not given:
        raise InputError(
            "--split given needs a column split, or folders train, validation and test."
        )
    return given


def _leak_warnings(method: str, counts: Mapping[str, int], shared: list[str]) -> list[str]:
    if method == "given" and shared:
        return [
            f"the source's own split has {counts['artist_in_train']} test tracks by artists that "
            f"are in train as well ({', '.join(shared[:3])}), so the accuracy will be too high: "
            "--split artist splits anew."
        ]
    if method == "random" and 2 * counts["artist_unknown"] > counts["test_tracks"]:
        return [
            "neither artists nor albums are known, so tracks of one artist may be in train and in "
            "test, and the accuracy may be too high: artists come from tags, folders such as "
            "Genre/Artist/Album/, or a table's column artist."
        ]
    return []
