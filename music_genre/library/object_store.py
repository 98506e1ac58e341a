"""Music in an object store: s3://, gs://, hf:// and whatever else fsspec opens.

    for path, size, version in list_objects("s3://bucket/music"):
        data = read_object(f"s3://bucket/music/{path}")

Decoder processes import this, so that fsspec is imported where it is used.
"""

import posixpath
from collections.abc import Iterator

from music_genre.errors import InputError


def is_url(place: object) -> bool:
    return "://" in str(place)


def list_objects(url: str) -> Iterator[tuple[str, int | None, int]]:
    """Each object below a URL: its path from there, its size in bytes, and its version.

    The version is a number that is another one when the store says that the object changed.

    Raises:
        InputError: the store cannot be listed.
    """
    import fsspec

    try:
        filesystem, top = fsspec.url_to_fs(url)
        filesystem.invalidate_cache()  # of an earlier scan by this process
        objects = filesystem.find(top, detail=True)
    except Exception as error:  # each store has errors of its own, and so has a missing package
        raise InputError(f"{url} cannot be listed: {error or type(error).__name__}") from error
    for name, about in objects.items():
        yield posixpath.relpath(name, top), about.get("size"), filesystem.checksum(name) % 2**63


def read_object(url: str) -> bytes:
    """Raises OSError where it cannot be read."""
    import fsspec

    try:
        filesystem, path = fsspec.url_to_fs(url)
        return filesystem.cat_file(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # each store has errors of its own
        raise OSError(f"{type(error).__name__}: {error}") from error
