"""The genre, or a field of one's own, in a file's tags: read and set, by mutagen.

ID3 (MP3), Vorbis comments (FLAC, Ogg, Opus) and MP4. A field of one's own is a TXXX frame in ID3
and a freeform atom in MP4.
"""

import re

import mutagen
from mutagen.easyid3 import EasyID3
from mutagen.easymp4 import EasyMP4Tags

from music_genre.errors import InputError

SUFFIXES = (".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".m4b")
TYPES = ("EasyMP3", "EasyMP4", "FLAC", "OggVorbis", "OggOpus", "OggFLAC")  # of mutagen
GENRE = "genre"
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,39}")


class TagError(InputError):
    """A file is left as it is; the message says why."""


def check_field(name: str) -> str | None:
    """What is wrong with the name of a field of one's own; None if nothing is."""
    if not FIELD_NAME.fullmatch(name):
        return "--tag_field takes letters, digits and _, such as GENRE_PREDICTED."
    known = {*EasyID3.valid_keys, *EasyMP4Tags.Set, GENRE}
    if name.lower() in known - _registered:
        return f"--tag_field {name} is a field that players use: take a name of its own."
    return None


_registered: set[str] = set()  # fields of one's own that mutagen was told of


def _register(name: str) -> None:
    key = name.lower()
    if key != GENRE and key not in _registered:
        EasyID3.RegisterTXXXKey(key, name)
        EasyMP4Tags.RegisterFreeformKey(key, name)
        _registered.add(key)


def read_field(path: str, name: str = GENRE) -> list[str]:
    """The values of a field, without empty ones.

    Raises:
        TagError: the file has no tags that are known here, or broken ones.
    """
    return _values(_open(path, name), name)


def set_field(path: str, value: str, name: str = GENRE) -> list[str]:
    """Set a field to one value. Returns the values that it had.

    Raises:
        TagError: as `read_field`, or its tags cannot be written.
    """
    file = _open(path, name)
    try:
        if file.tags is None:
            file.add_tags()
        before = [str(one) for one in file.get(name, [])]
        if before != [value]:
            file[name] = [value]
            # Old players do not read ID3v2.4, so a tag keeps its version.
            is_old = type(file).__name__ == "EasyMP3" and _begins_with(path, b"ID3\x03")
            file.save(**({"v2_version": 3} if is_old else {}))
        return before
    except Exception as error:  # whatever mutagen raises for broken tags
        raise TagError(f"its tags cannot be written ({type(error).__name__}: {error})") from error


def _open(path: str, name: str) -> mutagen.FileType:
    _register(name)
    try:
        file = mutagen.File(path, easy=True)
    except Exception as error:  # whatever mutagen raises for broken tags
        raise TagError(f"its tags cannot be read ({type(error).__name__}: {error})") from error
    if type(file).__name__ not in TYPES:
        raise TagError("its content is of a kind that has no known tags")
    return file


def _values(file: mutagen.FileType, name: str) -> list[str]:
    if file.tags is None:
        return []
    return [text for value in file.get(name, []) if (text := str(value).strip())]


def _begins_with(path: str, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic
