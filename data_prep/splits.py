"""Assign tracks to train, validation and test; `leakage.py` measures what leaks between them.

- `filtered`: GTZAN's fault-filtered lists; no artist is on both sides. Comparable with papers.
- `artist`: about 80/10/10, stratified by genre, every artist on one side only; for any subset.
- `album`: the same with albums or folders, for unknown artists.
- `random`: 80/10/10, stratified by genre. For GTZAN it is comparable with the Hugging Face audio
  course only: most test tracks with a known artist have that artist in train.
- `given`: the splits that the source gives.

A drawn split keeps tracks with equal samples on the same side, and also tracks with the same title
by the same artist. GTZAN's `random` does not: it follows the course.
"""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from data_prep import gtzan
from data_prep.gtzan import SPLITS, filtered_split
from data_prep.track import Track
from music_genre.errors import InputError
from music_genre.genre_names import artist_key, same_name_key

GTZAN_METHODS = tuple(gtzan.DESCRIPTIONS)
CUSTOM_METHODS = ("artist", "album", "random", "given")  # for other sources
CUSTOM_DESCRIPTIONS = {
    "artist": "artist-grouped 80/10/10",
    "album": "album-grouped 80/10/10",
    "random": "random 80/10/10",
    "given": "the source's own",
}
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
LINKS = {  # what keeps tracks in the same split
    "artist": ("artist", "album without artist", "recording", "samples"),
    "album": ("album", "recording", "samples"),
    "random": ("recording", "samples"),
}
MIN_ALBUMS = 3  # per genre on average, so that each split can have one


def assign(tracks: Mapping[str, Track], method: str, seed: int = 0) -> dict[str, str]:
    """Choose a split for each track of GTZAN, by one of GTZAN_METHODS.

    `tracks` maps ids to tracks; for `artist` they need the hash of their samples. `filtered` does
    not use `seed`. Returns track_id -> "train", "validation" or "test", without the tracks that the
    filtered lists leave out as faulty.
    """
    if method == "filtered":
        return {t: split for t in sorted(tracks) if (split := filtered_split().get(t))}
    if method == "artist":
        return _assign_groups(tracks, ("artist", "samples"), seed)
    if method == "random":
        return _assign_at_random(tracks, seed)
    raise InputError(f"There is no split {method!r}: choose one of {', '.join(GTZAN_METHODS)}.")


def assign_custom(tracks: Mapping[str, Track], method: str, seed: int = 0) -> dict[str, str]:
    """Choose a split for each track of another source, by one of CUSTOM_METHODS.

    If `given` has no validation or test tracks, a part of train is used for them.
    """
    if method != "given":
        return _assign_groups(tracks, LINKS[method], seed)
    assignment = {t: track.split for t, track in tracks.items() if track.split}
    train = {t: tracks[t] for t, split in assignment.items() if split == "train"}
    missing = [split for split in SPLITS if split not in assignment.values()]
    if train and missing:
        shares = {"train": 1 - 0.1 * len(missing)} | dict.fromkeys(missing, 0.1)
        groups = _linked_groups(train, LINKS[suggest(train)])
        assignment |= _spread(groups, train, seed, shares)
    return assignment


def suggest(tracks: Mapping[str, Track]) -> str:
    """The default method for a source: the strictest one that its data allow."""
    n = len(tracks)
    if any(track.split not in ("", "train") for track in tracks.values()):
        return "given"
    if 2 * sum(bool(artist_key(track.artist)) for track in tracks.values()) > n:
        return "artist"
    albums = [track.album for track in tracks.values() if track.album]
    n_genres = len({track.genre for track in tracks.values()})
    if 2 * len(albums) > n and len(set(albums)) >= MIN_ALBUMS * n_genres:
        return "album"
    return "random"


def _assign_at_random(tracks: Mapping[str, Track], seed: int) -> dict[str, str]:
    rng = np.random.default_rng(seed)
    assignment = {}
    for genre in gtzan.GENRES:
        genre_tracks = [t for t in sorted(tracks) if tracks[t].genre == genre]
        genre_tracks = rng.permutation(genre_tracks).tolist()
        n = max(1, round(len(genre_tracks) / 10)) if len(genre_tracks) >= 3 else 0
        assignment |= dict.fromkeys(genre_tracks, "train")
        assignment |= dict.fromkeys(genre_tracks[n : 2 * n], "validation")
        assignment |= dict.fromkeys(genre_tracks[:n], "test")
    return assignment


def _assign_groups(
    tracks: Mapping[str, Track], links: Collection[str], seed: int
) -> dict[str, str]:
    """Split 80/10/10, with linked tracks on one side and, if possible, each genre in each split."""
    groups = _linked_groups(tracks, links)
    return _fill_missing_genres(_spread(groups, tracks, seed, SHARES), groups, tracks)


def _spread(
    groups: list[list[str]], tracks: Mapping[str, Track], seed: int, shares: Mapping[str, float]
) -> dict[str, str]:
    """Give each group of tracks to the split that lacks its genre most, the largest group first.

    On GTZAN's 1,000 tracks this gives 10 to 14 test tracks per genre; scikit-learn's
    StratifiedGroupKFold gave 6 to 24, and for one of four seeds no blues in validation.
    """
    groups = list(groups)
    np.random.default_rng(seed).shuffle(groups)
    groups.sort(key=len, reverse=True)
    n_of_genre = Counter(track.genre for track in tracks.values())
    assignment: dict[str, str] = {}
    filled: Counter[tuple[str, str]] = Counter()
    for group in groups:
        n_in_group = Counter(tracks[t].genre for t in group)
        wanted = {(s, g): shares[s] * n_of_genre[g] for s in shares for g in n_in_group}
        # A large group (35 of GTZAN's tracks are by Bob Marley) must not overfill a small split.
        fitting = [
            s
            for s in shares
            if all(filled[s, g] + n <= max(1, 1.5 * wanted[s, g]) for g, n in n_in_group.items())
        ]
        lacking = {
            s: sum(n * (1 - filled[s, g] / wanted[s, g]) for g, n in n_in_group.items())
            for s in fitting or ["train"]
        }
        split = max(lacking, key=lacking.get)
        assignment |= dict.fromkeys(group, split)
        filled.update((split, tracks[t].genre) for t in group)
    return assignment


def _fill_missing_genres(
    assignment: dict[str, str], groups: list[list[str]], tracks: Mapping[str, Track]
) -> dict[str, str]:
    """Move a group from train if validation or test has no track of its genre.

    With few tracks by few artists, a group is large compared with a tenth of the tracks. The
    smallest group is moved, if train keeps twice as many tracks of the genre.
    """
    filled = Counter((split, tracks[t].genre) for t, split in assignment.items())
    for group in sorted(groups, key=len):
        genre, n = tracks[group[0]].genre, len(group)
        split = next((s for s in ("test", "validation") if not filled[s, genre]), None)
        is_movable = assignment[group[0]] == "train" and 3 * n <= filled["train", genre]
        if split and is_movable and all(tracks[t].genre == genre for t in group):
            assignment |= dict.fromkeys(group, split)
            filled.update({(split, genre): n, ("train", genre): -n})
    return assignment


def _linked_groups(tracks: Mapping[str, Track], links: Collection[str]) -> list[list[str]]:
    """Group the ids of tracks that are linked, directly or through others; each group is sorted."""
    from scipy.cluster.hierarchy import DisjointSet  # takes long to import

    groups = DisjointSet(sorted(tracks))
    first_with: dict[tuple[str, str], str] = {}
    for track_id in groups:
        for kind, key in link_keys(tracks[track_id]).items():
            if key and kind in links:
                groups.merge(first_with.setdefault((kind, key), track_id), track_id)
    return [sorted(group) for group in groups.subsets()]


def link_keys(track: Track) -> dict[str, str]:
    """The keys that linked tracks have in common, by kind of link; "" if a key is unknown."""
    artist, title = artist_key(track.artist), same_name_key(track.title)
    return {
        "artist": artist,
        "title": f"{artist}/{title}" if artist and title else "",
        # Without an artist, the same title in the same genre may be the same song.
        "recording": f"{artist or track.genre}/{title}" if title else "",
        "album": track.album,
        "album without artist": "" if artist else track.album,
        "samples": track.sha256,
    }
