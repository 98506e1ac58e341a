"""What the tags of an audio file say: artist, title, album, genres. Read by mutagen, never written.

A file whose tags cannot be read is a file without tags.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import mutagen
from mutagen.id3 import ID3

from data_prep.names import one_line

ID3_FRAMES = {"artist": "TPE1", "title": "TIT2", "album": "TALB", "genre": "TCON"}  # in WAV, AIFF
MAX_LENGTH = 300  # characters of a value


@dataclass(frozen=True)
class Tags:
    artist: str = ""
    title: str = ""
    album: str = ""
    genres: tuple[str, ...] = ()


def read_tags(source: Path | bytes) -> Tags:
    """The tags of a file, given by its path or its bytes."""
    try:
        file = mutagen.File(source if isinstance(source, Path) else io.BytesIO(source), easy=True)
        if file is None or file.tags is None:
            return Tags()
        found = {name: _values(file.tags, name) for name in ID3_FRAMES}
    except Exception:  # whatever mutagen raises for broken files
        return Tags()
    first = {name: (values or ("",))[0] for name, values in found.items()}
    return Tags(first["artist"], first["title"], first["album"], found["genre"])


def _values(tags: object, name: str) -> tuple[str, ...]:
    if isinstance(tags, ID3):
        frame = tags.get(ID3_FRAMES[name])
        # "(17)" is Rock.
        values = [] if frame is None else frame.genres if name == "genre" else frame.text
    else:
        values = tags.get(name) or []
    texts = (one_line(str(value)).strip()[:MAX_LENGTH] for value in values)
    return tuple(text for text in texts if text)
