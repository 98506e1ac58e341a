"""Names of artists and files as text for one line of the manifest."""

import hashlib

from music_genre.genre_names import artist_key

MAX_LENGTH = 200  # of a name in the manifest


def known_artist(name: str) -> str:
    """Return the name, or "" for "Unknown Artist" and the like, which would count as one artist."""
    return name if artist_key(name) else ""


def one_line(name: str) -> str:
    """Return a name with line breaks and other control characters escaped."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return "".join(escaped)


def shown(name: str) -> str:
    """The end of a name, on one line and at most MAX_LENGTH characters long."""
    return one_line(name)[-MAX_LENGTH:]


def path_id(name: str) -> str:
    """An id from a file's path in its source: it stays the same when other files come or go."""
    text = one_line(name.replace("\\", "/")).removeprefix("./")
    if len(text) <= MAX_LENGTH:
        return text
    return f"{hashlib.sha256(text.encode()).hexdigest()[:12]}-{text[-MAX_LENGTH + 13 :]}"
