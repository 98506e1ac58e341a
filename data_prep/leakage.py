"""Count and describe what a model may know about the test tracks from train."""

from collections.abc import Mapping

from data_prep.splits import link_keys
from data_prep.track import Track


def leakage(assignment: Mapping[str, str], tracks: Mapping[str, Track]) -> dict[str, int]:
    """Count the test tracks that a model may know from train.

    Returns:
        Numbers of test tracks: all (`test_tracks`), those that share the artist, artist and title,
        album, or all samples with a train track (`artist_in_train`, `title_in_train`,
        `album_in_train`, `samples_in_train`), and those that cannot be checked (`artist_unknown`,
        `title_unknown`, `album_unknown`).
    """
    kinds = ("artist", "title", "album", "samples")
    keys = {track: link_keys(tracks[track]) for track in assignment}
    train = [keys[track] for track, split in assignment.items() if split == "train"]
    seen = {kind: {of[kind] for of in train} for kind in kinds}
    test = [track for track, split in assignment.items() if split == "test"]
    counts = {"test_tracks": len(test)}
    for kind in kinds:
        known = [keys[track][kind] for track in test if keys[track][kind]]
        counts[f"{kind}_in_train"] = sum(key in seen[kind] for key in known)
        if kind != "samples":
            counts[f"{kind}_unknown"] = len(test) - len(known)
    return counts


def describe_leakage(counts: Mapping[str, int] | None) -> str:
    """Describe the result of `leakage` in one line; `counts` is None for synthesised music."""
    if counts is None:
        return "synthesised: nothing to check"
    n = counts["test_tracks"]
    if not n:
        return "no test track, so nothing can leak into it"
    n_artists = n - counts["artist_unknown"]
    n_albums = n - counts.get("album_unknown", n)
    if n_artists:
        n_seen = counts["artist_in_train"]
        parts = [
            f"the artist of {n_artists} of {n} test tracks is known, and {n_seen} of these "
            f"({n_seen / n_artists:.0%}) are by an artist who is in train as well"
        ]
    else:
        parts = [
            f"no artist of the {n} test tracks is known, so whether train has the same artists "
            "cannot be checked"
        ]
    if n > counts.get("title_unknown", 0):
        parts.append(f"{counts['title_in_train']} have the same artist and title as one in train")
    if n_albums and not n_artists:
        n_seen = counts["album_in_train"]
        parts.append(f"{n_seen} of {n_albums} are from an album or folder that is in train as well")
    parts.append(f"{counts['samples_in_train']} are exact copies of tracks in train")
    return "; ".join(parts)
