"""Which files are being processed, on disk: so that a file that ends the whole scan is met once.

A decoder's crash costs one file, but the OOM killer or a power cut may end the program. The next
scan takes the files that were being processed then last, and one at a time; the one that ends it
again is given up.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from music_genre.library.table import File, LineWriter, lines_of

SUFFIX = ".started"
GIVEN_UP = (
    "the scan ended while it was processed with others, and again when it was processed alone"
)


class Journal:
    """A context: leaving it, by whatever exception, says that nothing is being processed.

    interrupted: the files that earlier scans have not ended, and whether each was alone.
    """

    def __init__(self, parts: Path, shard: str) -> None:
        self.interrupted: dict[str, bool] = {}
        for line in lines_of(parts, shard, SUFFIX):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "started" in entry:
                self.interrupted[entry["started"]] = entry["is_alone"]
            else:
                self.interrupted.pop(entry["ended"], None)
        self._writer = LineWriter(parts, shard, SUFFIX)
        self._of_this_shard = f"*-{shard}-*{SUFFIX}"

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._writer.close()
        finally:
            self._writer.path.unlink()
        if kind is None:  # earlier ones have been made up for
            for path in self._writer.path.parent.glob(self._of_this_shard):
                path.unlink()

    def starting(self, files: Iterable[File], is_alone: bool = False) -> Iterator[str]:
        """Pass on the paths, each written down before."""
        for file in files:
            self._writer.append({"started": file.path, "is_alone": is_alone})
            yield file.path

    def end(self, path: str) -> None:
        self._writer.append({"ended": path})
