"""Write genres into the music of a test and undo that, and see what is in its files then."""

from pathlib import Path

import mutagen
import pyarrow as pa

from music_genre import audio
from music_genre.library import tags
from music_genre.library.files import find_files
from music_genre.library.table import schema_of
from music_genre.library.tags import Tagging

LABELS = ["rock", "jazz", "blues"]


def rows_of(music: Path, jazz: float = 0.7, rock: float = 0.2) -> pa.Table:
    files = find_files([music]).files.to_pylist()
    probabilities = {"p_rock": rock, "p_jazz": jazz, "p_blues": 1 - jazz - rock}
    genre = "jazz" if jazz > rock else "rock"
    more = {"genre": genre, **probabilities, "is_temporary": False}
    return pa.Table.from_pylist([file | more for file in files], schema_of(LABELS))


def sure(probability: float = 0.6, **options) -> Tagging:
    return Tagging(probability, **options)


def write(music: Path, tagging: Tagging | None = None, is_agreed: bool = True, **row) -> str:
    tagging, folder = tagging or sure(replace=True), music.parent
    found, rows = find_files([music]), rows_of(music, **row)
    return tags.write_tags(found, rows, tagging, folder / "log", folder / "parts", is_agreed)


def undo(music: Path) -> str:
    folder = music.parent
    return tags.undo_tags(find_files([music]), folder / "log", folder / "parts", LABELS)


def all_tags(path: Path) -> dict[str, list[str]] | None:
    """What mutagen, and so a player, sees; with ID3v1, and nothing changed by mutagen."""
    options = {"translate": False} if path.suffix in (".mp3", ".aiff", ".wav") else {}
    file = mutagen.File(path)
    file = type(file)(path, **options)
    if not file.tags:
        return None
    return {key: str(value) for key, value in file.tags.items()}


def state(music: Path) -> dict[str, tuple]:
    return {
        path.name: (all_tags(path), audio.packets_sha256(path), path.stat().st_mode)
        for path in sorted(music.iterdir())
    }


def keep(music: Path, *names: str) -> None:
    for path in music.iterdir():
        if path.name not in names:
            path.unlink()


def data(music: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(music.iterdir())}
