"""Tell a source from another one without reading it whole (it may be many gigabytes)."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from data_prep.options import SourceOptions
from data_prep.sources import table
from data_prep.sources.source import TABLE_SUFFIXES


def identify(path: Path, options: SourceOptions) -> dict:
    """Name and state of a source: of the files in a folder, of a table and the files in it.

    What cannot be read has a state as well; the preparation says what is wrong with it.
    """
    if not path.is_file():
        files: Iterable[Path] = sorted(p for p in path.rglob("*") if p.is_file())
    elif path.suffix.lower() in TABLE_SUFFIXES:
        files = [path, *table.files_of(path, options)]
    else:
        files = [path]
    state = hashlib.sha256()
    for file in files:
        status = file.stat()
        state.update(repr((str(file), status.st_size, status.st_mtime_ns)).encode())
    if options.synonyms and Path(options.synonyms).is_file():
        state.update(Path(options.synonyms).read_bytes())
    return {"name": path.resolve().name, "state": state.hexdigest()}
