"""Music in an object store: s3://, gs://, hf:// and whatever else fsspec opens.

    for path, name, size, version in list_objects("s3://bucket/music"):
        data = read_object("s3://bucket/music", name)

Decoder processes import this module, so fsspec is imported where it is used.
"""

import hashlib
from collections.abc import Iterator

from music_genre.errors import InputError


def is_url(place: object) -> bool:
    return "://" in str(place)


def list_objects(url: str) -> Iterator[tuple[str, str, int, int]]:
    """List the objects below a URL: path from there, name in the store, size and version.

    The size is in bytes, and 0 if the store does not report it. The version is a number that
    changes when anything that the store reports about the object changes.

    Raises:
        InputError: the store cannot be listed.
    """
    import fsspec

    try:
        filesystem, top = fsspec.url_to_fs(url)
        objects = filesystem.find(top, detail=True)
    except Exception as error:  # each store has its own errors, and so has a missing package
        raise InputError(f"{url} cannot be listed: {error or type(error).__name__}") from error
    for name, about in objects.items():
        version = hashlib.sha256(repr(about).encode()).digest()[:8]
        path, size = name.removeprefix(top).lstrip("/"), about.get("size") or 0
        yield path, name, size, int.from_bytes(version, signed=True)


def read_object(url: str, name: str) -> bytes:
    """Read an object by its name in the store of `url`. Raises OSError: it cannot be read."""
    import fsspec

    try:
        return fsspec.url_to_fs(url)[0].cat_file(name)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # each store has its own errors
        raise OSError(f"{type(error).__name__}: {error}") from error
