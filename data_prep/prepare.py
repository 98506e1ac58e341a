"""Turn sources into a finished dataset folder, or write nothing.

if __name__ == "__main__":  # decoder processes import the calling program
    prepare(["data/GTZAN Genre Collection.zip"], Path("data/gtzan"))
    prepare(["My genres"], Path("data/mine"))
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep import splits
from data_prep.archive import members_of
from data_prep.decoding import decode_sources
from data_prep.genres import choose_genres
from data_prep.gtzan import SPLITS
from data_prep.names import shown
from data_prep.options import Options
from data_prep.output_folder import (
    CLIPS,
    check_replaceable,
    move_into_place,
    working_folder,
    write_dataset,
)
from data_prep.prepared import read_preparation
from data_prep.selection import select_custom, select_gtzan
from data_prep.sources import metadata_table
from data_prep.sources.music_source import TABLE_SUFFIXES, MusicSource
from data_prep.sources.recognise import is_hub_id, is_table, recognise
from data_prep.track import Track
from music_genre import audio
from music_genre.errors import InputError

RECIPE_VERSION = 6  # increased when the same source would give a different dataset
STATE_SUFFIXES = audio.SUFFIXES | TABLE_SUFFIXES | {".arrow"}  # other files may change


def prepare(
    archives: Sequence[str | Path], output_dir: Path, overwrite: bool = False, **options: Any
) -> dict:
    """Turn GTZAN archives, or one source of other genres, into a folder for `load_from_disk`.

    Args:
        archives: zips, tars, folders, tables, or the id of a dataset on the Hub. Several are
            merged for GTZAN; a track that is in several is kept once, in its longest form.
        overwrite: replace a preparation in `output_dir`, never anything else.
        options: the fields of `Options`.

    Returns:
        The content of `preparation.json`: options, sources, counts, leakage, warnings.

    Raises:
        InputError: with a sentence for the user; nothing is written.
    """
    chosen = Options(**options)
    paths = [Path(archive).expanduser() for archive in archives]
    output_dir = output_dir.resolve()  # a link to a folder on another disk stays a link
    sources = [_describe_state(path, chosen, output_dir) for path in paths]
    asked = chosen.given() | {  # must match to reuse a preparation; messages show the keys
        "source": [source["path"] for source in sources],
        "version of this program": RECIPE_VERSION,
    }
    known = {"asked": asked, "sources": sources}
    with working_folder(output_dir) as folder:
        done = read_preparation(output_dir)
        if done and not overwrite and _is_current(done, known, output_dir):
            return done
        check_replaceable(output_dir)
        preparation = _prepare(paths, folder, chosen, known)
        check_replaceable(output_dir)
        move_into_place(folder, output_dir)
    return preparation


def _prepare(paths: list[Path], folder: Path, options: Options, known: dict) -> dict:
    sources = _recognise_all(paths, options)
    source = sources[0]
    is_gtzan = source.kind == "gtzan"
    if is_gtzan:
        print("\n".join(source.describe() for source in sources), flush=True)
    else:
        choose_genres(source, options)
    tracks = decode_sources(sources, folder / CLIPS, options)
    names = " and ".join(shown(str(path)) for path in paths)
    if not any(track.is_kept for track in tracks):
        raise InputError(f"{names} holds no usable audio: {tracks[0].member}: {tracks[0].status}.")
    about = {"source": names, "seed": options.seed, "sampling_rate": options.sampling_rate}
    if is_gtzan:
        about |= select_gtzan(tracks, source.has_marker, options)
    else:  # a dataset that data_prep made keeps its own seed
        about |= select_custom(tracks, source, options)
    about["is_synthetic"] = source.has_marker or source.known.get("is_synthetic") is True
    if about["is_synthetic"]:
        about["leakage"] = None
    preparation = known | about | _counts(tracks, about["genres"])
    write_dataset(folder, tracks, preparation)
    return preparation


def _recognise_all(paths: list[Path], options: Options) -> list[MusicSource]:
    sources = [recognise(path, options) for path in paths]
    is_gtzan = all(source.kind == "gtzan" for source in sources)
    if len(sources) > 1 and not is_gtzan:
        raise InputError(
            "Several sources are merged for GTZAN only: put the folders into one, or list all "
            "files in one table."
        )
    if len({source.has_marker for source in sources}) > 1:
        raise InputError("Synthesised and recorded music are not mixed: prepare them separately.")
    methods = splits.GTZAN_METHODS if is_gtzan else splits.CUSTOM_METHODS
    if options.split not in (None, *methods):
        what = "GTZAN" if is_gtzan else "your own genres"
        raise InputError(
            f"--split {options.split} is not available for {what}: choose one of "
            f"{', '.join(methods)}."
        )
    return sources


def _describe_state(path: Path, options: Options, output_dir: Path) -> dict[str, str]:
    """Return the path and state of a source without reading it: it may be many gigabytes.

    For a folder, the state covers its files except those in `output_dir`; for a table, the table
    and the files that it lists. For a dataset on the Hub it is the commit, or "" if the Hub cannot
    be asked.
    """
    if is_hub_id(path):
        from data_prep.sources.labelled_dataset import commit_of

        name = path.as_posix()
        return {"name": name, "path": name, "state": commit_of(name)}
    path = path.resolve()
    files = [path]
    if path.is_dir():
        there = (member.path for member in members_of(path, STATE_SUFFIXES))
        files = [file for file in there if not file.resolve().is_relative_to(output_dir)]
    elif is_table(path):
        files += [member.path for member in metadata_table.from_file(path, options).members()]
    if options.synonyms:
        files.append(Path(options.synonyms))
    state = hashlib.sha256()
    for file in filter(Path.exists, files):  # missing files are reported later
        status = file.stat()
        state.update(repr((str(file), status.st_size, status.st_mtime_ns)).encode())
    return {"name": shown(path.name), "path": str(path), "state": state.hexdigest()}


def _is_current(done: dict, known: dict, output_dir: Path) -> bool:
    """Whether a preparation matches what is asked for and the current state of its sources.

    Raises InputError: something else was asked for when it was made.
    """
    now = known["asked"]
    was = done.get("asked", now | {"version of this program": None})  # of an earlier version
    if others := sorted(n for n in was.keys() | now.keys() if was.get(n) != now.get(n)):
        raise InputError(
            f"{output_dir} holds another preparation (with a different {', '.join(others)}). To "
            f"train on it, give --dataset {output_dir}; to prepare again, give python -m data_prep "
            "another --output_dir, or --overwrite to replace it."
        )
    for was, now in zip(done["sources"], known["sources"], strict=True):
        if now["state"] not in ("", was["state"]):
            print(f"{now['path']} has changed: {output_dir} is prepared again.", flush=True)
            return False
    print(f"{output_dir} is prepared already: nothing to do.", flush=True)
    return True


def _counts(tracks: list[Track], genres: list[str]) -> dict:
    kept = [track for track in tracks if track.is_kept]
    counts = Counter((track.split, track.genre) for track in kept)
    return {
        "n_members": len(tracks),
        "n_kept": len(kept),
        "n_clips": sum(len(track.clips) for track in kept),
        "n_dropped": len(tracks) - len(kept),
        "seconds": round(sum(track.seconds for track in kept), 1),
        "counts": {name: {genre: counts[name, genre] for genre in genres} for name in SPLITS},
    }
