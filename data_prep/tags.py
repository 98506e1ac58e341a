"""Read artist, title, album and genres from the tags of an audio file; never write them.

mutagen reads them. A file whose tags cannot be read counts as a file without tags.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mutagen
from mutagen.easyid3 import EasyID3
from mutagen.id3 import ID3, ID3NoHeaderError

from data_prep.names import one_line

NAMES = {  # mutagen's keys in most kinds of tags, in ID3 of AIFF and WAV, and in ASF
    "artist": ("artist", "TPE1", "Author"),
    "title": ("title", "TIT2", "Title"),
    "album": ("album", "TALB", "WM/AlbumTitle"),
    "genre": ("genre", "TCON", "WM/Genre"),
}
MAX_LENGTH = 300  # characters of a value


@dataclass(frozen=True)
class Tags:
    artist: str = ""
    title: str = ""
    album: str = ""
    genres: tuple[str, ...] = ()


def read_tags(source: Path | bytes) -> Tags:
    """The tags of a file, given by its path or its bytes.

    mutagen inflates compressed tags without a limit, so this is called in decoder processes, whose
    memory is limited.
    """
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as opened:
            file = mutagen.File(opened, easy=True)
            if file is None or file.tags is None:
                return Tags()
            found = {name: _values(file.tags, name) for name in NAMES}
            if isinstance(file.tags, EasyID3) and found["genre"] == ("Blues",):
                found["genre"] = _genre_of_id3v2(opened)
    except Exception:  # whatever mutagen raises for broken files
        return Tags()
    first = {name: (values or ("",))[0] for name, values in found.items()}
    return Tags(first["artist"], first["title"], first["album"], found["genre"])


def _values(tags: mutagen.Tags, name: str) -> tuple[str, ...]:
    values = next((tags[key] for key in NAMES[name] if key in tags), [])
    values = getattr(values, "text", values)  # of ID3; mutagen has turned "(17)" into Rock
    texts = (one_line(str(value)).strip()[:MAX_LENGTH] for value in values)
    return tuple(text for text in texts if text)


def _genre_of_id3v2(file: BinaryIO) -> tuple[str, ...]:
    """The genre in ID3v2 only: for no genre, many programs write 0 in ID3v1, which is Blues."""
    file.seek(0)
    try:
        return _values(ID3(file, load_v1=False), "genre")
    except ID3NoHeaderError:
        return ()
