"""`--genre_from tags`: a music library in which some or all files have genre tags."""

import re
import unicodedata
from pathlib import Path

import joblib
from tqdm import tqdm

from data_prep.archive import Member, members_of, parts_of
from data_prep.decoding import MAX_SECONDS
from data_prep.genres import Spellings
from data_prep.options import Options
from data_prep.sources.music_source import MusicSource, new_track
from data_prep.tags import Tags, read_tags
from data_prep.track import Track
from music_genre.errors import InputError
from music_genre.genre_names import is_no_genre
from music_genre.isolation import DecoderPool, run_in_pool

SEPARATORS = re.compile(r"\s*[;,/|\\\0]\s*")  # between the genres in one tag


def from_archive(path: Path, options: Options) -> MusicSource:
    """Raises InputError: no file has a genre tag."""
    spellings = Spellings.read(options.synonyms)
    tracks = {}
    with DecoderPool(joblib.cpu_count()) as pool:
        audio = ((m.name, (m,)) for m in members_of(path) if m.is_clip)
        outcomes = run_in_pool(pool, read_member_tags, audio, MAX_SECONDS)
        for name, outcome in tqdm(outcomes, desc="Reading tags", unit=" files"):
            tags = outcome if isinstance(outcome, Tags) else Tags()  # decoding reports the error
            tracks[name] = _track(path, name, tags, spellings)
    if not any(track.genre for track in tracks.values()):
        raise InputError(
            f"None of the {len(tracks):,} audio files in {path} has a genre tag: put each genre's "
            "files into a folder of its name, or give a table of paths and genres."
        )
    return MusicSource(path, "tags", "genre tags", tracks)


def read_member_tags(member: Member) -> Tags:
    """Read tags in a decoder process, where the memory for inflated tags is limited."""
    return read_tags(member.path or member.read())


def _track(path: Path, name: str, tags: Tags, spellings: Spellings) -> Track:
    album = "/".join(parts_of(name)[:-1])  # the folder: many albums are called Greatest Hits
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
    """The genres of a file, each once. "Rap/Hip Hop" is one genre, because the synonyms list it."""
    genres = {}
    for text in tags.genres:
        text = unicodedata.normalize("NFC", text)
        for part in [text] if spellings.knows(text) else SEPARATORS.split(text):
            if part and not is_no_genre(part):
                genres.setdefault(spellings.key(part), part)
    return list(genres.values())
