"""`--genre_from tags`: a music library whose files carry genre tags, some of them or all."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from data_prep.archive import ArchiveError, Member, MemberError, open_archive
from data_prep.genres import Spellings
from data_prep.options import SourceOptions
from data_prep.sources.source import Source, is_hidden, new_track, parts_of
from data_prep.tags import Tags, read_tags
from data_prep.track import Track

SEPARATORS = re.compile(r"\s*[;,/|\\\0]\s*")  # between the genres in one tag


def from_archive(path: Path, options: SourceOptions) -> Source:
    """
    Raises:
        ArchiveError: no file has a genre tag.
    """
    spellings = Spellings.read(options.synonyms)
    tracks = {}
    with open_archive(path) as members:
        audio = (m for m in members if m.is_clip and not is_hidden(m.name))
        for name, tags in tqdm(_read_all(audio), desc="Reading tags", unit=" files"):
            tracks[name] = _track(path, name, tags, spellings)
    if not any(track.genre for track in tracks.values()):
        raise ArchiveError(
            f"None of the {len(tracks):,} audio files in {path} has a genre tag: put each genre's "
            "files into a folder of its name, or give a table of paths and genres."
        )
    return Source(path, "tags", "genre tags", tracks)


def _read_all(members: Iterable[Member]) -> Iterator[tuple[str, Tags]]:
    def read(member: Member) -> tuple[str, Tags]:
        try:
            return member.name, read_tags(member.path or member.read())
        except MemberError:  # decoding it says why
            return member.name, Tags()

    n_ahead = 2 * (os.cpu_count() or 1)  # a member of an archive is up to 64 MB in memory
    pending = []
    with ThreadPoolExecutor(n_ahead) as pool:
        for member in members:
            pending.append(pool.submit(read, member))
            if len(pending) > n_ahead:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()


def _track(path: Path, name: str, tags: Tags, spellings: Spellings) -> Track:
    album = "/".join(parts_of(name)[:-1])  # a folder: many albums are called Greatest Hits
    track = new_track(path, name, artist=tags.artist, title=tags.title, album=album)
    genres = _genres_of(tags, spellings)
    if len(genres) > 1:
        track.status = f"its tag has several genres: {', '.join(genres)}"
    elif genres:
        (track.genre,) = genres
    else:
        track.status = "no genre tag"
    return track


def _genres_of(tags: Tags, spellings: Spellings) -> list[str]:
    """The genres of a file, each once. "Rap/Hip Hop" is one genre, since the synonyms know it."""
    genres = {}
    for text in tags.genres:
        text = unicodedata.normalize("NFC", text)
        for part in [text] if spellings.knows(text) else SEPARATORS.split(text):
            if part:
                genres.setdefault(spellings.key(part), part)
    return list(genres.values())
