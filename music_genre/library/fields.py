"""Read and set the genre, or a custom field, in a file's tags with mutagen.

    read_field("song.mp3").values
    edit_copy("song.mp3", "copy.mp3", ["jazz", "blues"], "genre")

ID3 (MP3, AIFF, WAV), Vorbis comments (FLAC, Ogg, Opus) and MP4. A custom field is a TXXX frame in
ID3 and a freeform atom in MP4. mutagen decompresses frames without a size limit, so all this runs
in isolated processes (music_genre.isolation).
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import mutagen
from mutagen import aiff, flac, id3, mp3, mp4, ogg, wave
from mutagen.easyid3 import EasyID3
from mutagen.easymp4 import EasyMP4Tags

from music_genre.audio import packets_sha256
from music_genre.errors import InputError
from music_genre.library.decoding import sha256_of

SUFFIXES = (".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".m4b", ".aif", ".aiff", ".wav")
ID3_TYPES = (mp3.MP3, aiff.AIFF, wave.WAVE)
TAGGED_TYPES = (*ID3_TYPES, flac.FLAC, ogg.OggFileType, mp4.MP4)
GENRE = "genre"
SEPARATOR = "; "  # joins values in ID3v2.3, which holds only one; players split there
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,39}")


class TagError(InputError):
    """A file is left unchanged; the message says why."""


class Field(NamedTuple):
    """stored: the texts in the file, such as (17); None if it has no tags.

    values: what they mean, such as Rock.
    is_single: players expect one text, in which several values are joined.
    """

    stored: list[str] | None
    values: list[str]
    is_single: bool = False


def check_field(name: str) -> None:
    """Raises InputError if a custom field cannot have this name."""
    if not FIELD_NAME.fullmatch(name):
        raise InputError("--tag_field takes letters, digits and _, such as GENRE_PREDICTED.")
    if name.lower() in {*EasyID3.valid_keys, *EasyMP4Tags.Set, GENRE}:
        raise InputError(f"--tag_field {name} is a field that players use: choose another name.")


def check_genres(labels: Sequence[str]) -> None:
    """Raises InputError if a genre would mean another one in an ID3 tag."""
    for label in labels:
        if (meaning := id3.TCON(text=[label]).genres) != [label]:
            raise InputError(
                f"The genre {label} means {', '.join(meaning) or 'none'} in ID3 tags: write it "
                "into a field of its own, by --tag_field NAME."
            )


def read_field(path: str, name: str = GENRE) -> Field:
    """Read a field. Raises TagError: the file has broken tags, or none of a known kind."""
    with _explained():
        file = _open(path)
        if file.tags is None:
            is_mp3 = isinstance(file, mp3.MP3)
            values = _id3v1_genre(path) if is_mp3 and name == GENRE else []
            return Field(None, values, isinstance(file, ID3_TYPES))
        found = file.tags.get(_key(file, name))
        if not isinstance(file, ID3_TYPES):
            stored = [one.decode() if isinstance(one, bytes) else str(one) for one in found or []]
            return Field(stored, stored)
        stored = [str(text) for text in found.text] if found is not None else []
        values = found.genres if stored and name == GENRE else stored
        return Field(stored, values, file.tags.version[1] != 4)


def set_field(path: str, values: list[str] | None, name: str = GENRE) -> None:
    """Set a field. [] removes it; None removes all tags, unless other tags were added.

    Raises:
        TagError: as `read_field`, or its tags cannot be written.
    """
    with _explained():
        file = _open(path)
        if isinstance(file, ID3_TYPES):
            _set_in_id3(path, file, values, name)
            return
        if file.tags is None:
            file.add_tags()
        key = _key(file, name)
        if key in file.tags:
            del file.tags[key]
        if values and isinstance(file, mp4.MP4) and name != GENRE:
            values = [mp4.MP4FreeForm(value.encode()) for value in values]
        if values:
            file.tags[key] = values
        if values is None and not file.tags:
            file.delete()
        else:
            file.save()


def _set_in_id3(path: str, file: mutagen.FileType, values: list[str] | None, name: str) -> None:
    v1 = _id3v1(path) if isinstance(file, mp3.MP3) else b""
    v1_frames = (id3.ParseID3v1(v1, v2_version=3) or {}).values() if v1 else ()
    version = 3  # all players read it
    if file.tags is None:
        file.add_tags()
        for frame in v1_frames:  # players that find ID3v2 do not look at ID3v1
            file.tags.add(frame)
    elif file.tags.version[1] == 4:
        version = 4
    elif file.tags.version[1] == 2:
        file.tags.update_to_v23()
    file.tags.delall(_key(file, name))
    v1_by_key = {frame.HashKey: frame for frame in v1_frames}
    if values is None and all(v1_by_key.get(key) == one for key, one in file.tags.items()):
        id3.delete(path, delete_v1=False) if isinstance(file, mp3.MP3) else file.delete()
        return
    if values:
        frame = id3.TCON() if name == GENRE else id3.TXXX(desc=name)
        frame.encoding, frame.text = id3.Encoding.UTF16, values
        file.tags.add(frame)
    file.tags.save(path, v2_version=version, v23_sep=None)
    if v1:  # restore it: mutagen fills it in from the other frames
        with open(path, "r+b") as raw:
            raw.seek(-len(v1), 2)
            raw.write(v1)


def edit_copy(path: str, copy: str, values: list[str] | None, field: str) -> str:
    """Make a copy whose field has the new values, and flush it to the disk.

    Returns:
        The copy's SHA-256.

    Raises:
        TagError: more than the tag would change, or the tag cannot be written.
    """
    shutil.copyfile(path, copy)
    set_field(copy, values, field)
    if packets_sha256(path) != packets_sha256(copy):
        raise TagError("writing its tag would change more than the tag")
    with open(copy, "r+b") as file:  # Windows flushes only writable files
        os.fsync(file.fileno())
    return sha256_of(copy)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except TagError:
        raise
    except Exception as error:  # whatever mutagen raises for broken tags
        reason = f"{type(error).__name__}: {error}"
        raise TagError(f"its tags cannot be read or written ({reason})") from error


def _open(path: str) -> mutagen.FileType:
    """Open a file with its tags as they are: frames and versions are not converted."""
    file = mutagen.File(path)
    if not isinstance(file, TAGGED_TYPES):
        raise TagError("its content is of a kind that has no known tags")
    if isinstance(file, ID3_TYPES):
        is_old = file.tags is not None and file.tags.version[1] == 2  # ID3v2.2: other frame names
        file = type(file)(path, translate=is_old, load_v1=False)
    return file


def _key(file: mutagen.FileType, name: str) -> str:
    if isinstance(file, ID3_TYPES):
        return "TCON" if name == GENRE else f"TXXX:{name}"
    if isinstance(file, mp4.MP4):
        return "\xa9gen" if name == GENRE else f"----:com.apple.iTunes:{name}"
    return name


def _id3v1(path: str) -> bytes:
    """Return the ID3v1 tag, the last 128 bytes of a file; empty if there is none."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 128))
        data = file.read()
    return data if len(data) == 128 and data.startswith(b"TAG") else b""


def _id3v1_genre(path: str) -> list[str]:
    """Return the ID3v1 genre. 0 is Blues, but most programs write it for "no genre"."""
    v1 = _id3v1(path)
    is_known = v1 and 0 < v1[127] < len(id3.TCON.GENRES)
    return [id3.TCON.GENRES[v1[127]]] if is_known else []
