"""Names as people write them: one spelling for the same genre or artist, text that fits a line."""

import hashlib

from music_genre.genre_names import artist_key

MAX_LENGTH = 200  # of a name in the manifest


def known_artist(name: str) -> str:
    """The name as it is, and "" for "Unknown Artist" and the like, which would count as one."""
    return name if artist_key(name) else ""


def one_line(name: str) -> str:
    """A name with line breaks and other control characters as escapes."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return "".join(escaped)


def shown(name: str) -> str:
    """The end of a name of any length, on one line."""
    return one_line(name)[-MAX_LENGTH:]


def path_id(name: str) -> str:
    """An id from a file's path in its source: it stays when other files come or go."""
    text = one_line(name.replace("\\", "/")).removeprefix("./")
    if len(text) <= MAX_LENGTH:
        return text
    return f"{hashlib.sha256(text.encode()).hexdigest()[:12]}-{text[-MAX_LENGTH + 13 :]}"
