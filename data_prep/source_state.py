"""Tell a source from another one without reading it whole (it may be many gigabytes)."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from data_prep.archive import walk
from data_prep.options import SourceOptions
from data_prep.sources import metadata_table
from data_prep.sources.music_source import TABLE_SUFFIXES
from data_prep.sources.recognise import is_hub_id


def describe_state(path: Path, options: SourceOptions) -> dict[str, str]:
    """Where a source is and its state: of the files in a folder, of a table and the files in it.

    What cannot be read has a state as well; the preparation says what is wrong with it. The state
    of a dataset on the Hub is its commit, or "" where the Hub cannot be asked.
    """
    if is_hub_id(path):
        from data_prep.sources.labelled_dataset import ask_hub

        info = ask_hub(path.as_posix())
        return {"name": path.as_posix(), "path": path.as_posix(), "state": info.sha if info else ""}
    path = path.resolve()
    files: Iterable[Path] = [path]
    if path.is_dir():
        files = (folder / name for folder, names in walk(path) for name in sorted(names))
    elif path.suffix.lower() in TABLE_SUFFIXES:
        files = [path, *metadata_table.files_of(path, options)]
    state = hashlib.sha256()
    for file in files:
        try:
            status = file.stat()
        except OSError:  # a broken link, or there is none
            continue
        state.update(repr((str(file), status.st_size, status.st_mtime_ns)).encode())
    if options.synonyms and Path(options.synonyms).is_file():
        state.update(Path(options.synonyms).read_bytes())
    return {"name": path.name, "path": str(path), "state": state.hexdigest()}
