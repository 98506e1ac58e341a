"""Choose the genres of a dataset: one spelling each, only those asked for, with enough tracks.

Spellings that differ in capitals, spaces and punctuation are one genre. `synonyms.txt` lists other
spellings that mean the same; a copy of it can be edited and given as --synonyms.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from data_prep.names import one_line
from data_prep.options import Options
from data_prep.sources.music_source import MusicSource
from data_prep.track import Track
from music_genre.errors import InputError
from music_genre.genre_names import is_no_genre, same_name_key

MIN_TRACKS = 10
SYNONYMS = Path(__file__).with_name("synonyms.txt")


@dataclass(frozen=True)
class Spellings:
    """Find the genre of a name in a file of synonyms, or else by the name without punctuation."""

    names: dict[str, str]  # key of a spelling -> the name to use

    @classmethod
    def read(cls, path: str | None) -> "Spellings":
        """Raises InputError: there is no such file, or a line is wrong."""
        file = Path(path) if path else SYNONYMS
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--synonyms {file} cannot be read as text in UTF-8.") from error
        names: dict[str, str] = {}
        for i, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, colon, others = line.partition(":")
            name = name.strip()
            if not colon or not name:
                raise InputError(f"{file}, line {i}: write Name: other spelling; another one.")
            for spelling in (name, *others.split(";")):
                key = same_name_key(spelling.strip())
                if key:
                    names.setdefault(key, name)
        return cls(names)

    def knows(self, name: str) -> bool:
        return same_name_key(name) in self.names

    def key(self, name: str) -> str:
        """A key that is equal for all names of a genre."""
        return same_name_key(self.names.get(same_name_key(name), name))


def min_tracks_of(source: MusicSource, options: Options) -> int:
    """How many tracks a genre must have. The labels of a dataset were chosen by its author."""
    return options.min_tracks or (1 if source.kind == "dataset" else MIN_TRACKS)


def choose_genres(source: MusicSource, options: Options) -> None:
    """Choose the genres and print what was found; tracks of other genres get a status.

    Raises InputError: fewer than two genres are left, or --genres names one that is not there.
    """
    # Folders and tables are named on purpose; synonyms are for tags, or if they are asked for.
    has_synonyms = source.kind == "tags" or options.synonyms
    spellings = Spellings.read(options.synonyms) if has_synonyms else Spellings({})
    tracks = source.each_track()
    spelled = _unify(tracks, spellings)
    no_genres: Counter[str] = Counter()
    if not source.genres:  # any name of a ClassLabel is a genre
        no_genres = _leave_out_no_genres(tracks, options.genres or "", spellings)
    print(source.describe())
    if no_genres:
        listed = ", ".join(f"{one_line(genre)} ({n:,})" for genre, n in no_genres.most_common())
        print(f"Left out, as these are not genres: {listed}. (--genres keeps those it names.)")
    if options.genres:
        _select(tracks, options.genres, spellings)
    for sentence in leave_out_small(tracks, min_tracks_of(source, options)):
        print(sentence[0].upper() + sentence[1:])
    counts = _count(tracks)
    print("Genres: " + ", ".join(f"{genre} {n:,}" for genre, n in counts.most_common()) + ".")
    for genre, found in sorted(spelled.items()):
        if genre in counts and set(found) != {genre}:
            print(f"  {genre}: " + ", ".join(f"{name} {n:,}" for name, n in found.most_common()))


def _count(tracks: list[Track]) -> Counter[str]:
    return Counter(track.genre for track in tracks if track.is_kept)


def _unify(tracks: list[Track], spellings: Spellings) -> dict[str, Counter[str]]:
    """Give the tracks of each genre the same name: from the synonyms, or else the most frequent.

    Returns genre -> number of tracks per spelling.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    kept = [track for track in tracks if track.is_kept]
    for track in kept:
        track.genre = " ".join(track.genre.split())
        found[spellings.key(track.genre)][track.genre] += 1
    names = {
        key: spellings.names.get(key) or max(sorted(counts), key=counts.get)
        for key, counts in found.items()
    }
    for track in kept:
        track.genre = names[spellings.key(track.genre)]
    return {names[key]: counts for key, counts in found.items()}


def _leave_out_no_genres(tracks: list[Track], wanted: str, spellings: Spellings) -> Counter[str]:
    """Leave out tracks whose genre means "no genre", such as "Unknown". Returns their counts.

    `wanted` is --genres; any name in it counts as a genre.
    """
    asked = {spellings.key(name) for name in wanted.split(",")}
    counts: Counter[str] = Counter()
    for track in tracks:
        genre = track.genre
        if track.is_kept and is_no_genre(genre) and spellings.key(genre) not in asked:
            track.status = f"{genre or 'nothing'} is not a genre"
            counts[genre] += 1
    return counts


def _select(tracks: list[Track], wanted: str, spellings: Spellings) -> None:
    """Leave out tracks of genres that are not asked for.

    `wanted`: names separated by commas, or how many of the most frequent genres to keep.
    """
    counts = _count(tracks)
    if wanted.strip().isdecimal():
        names = {name for name, _ in counts.most_common(int(wanted))}
    else:
        by_key = {spellings.key(name): name for name in counts}
        asked = [name.strip() for name in wanted.split(",") if name.strip()]
        if missing := [name for name in asked if spellings.key(name) not in by_key]:
            raise InputError(
                f"No track has the genre {missing[0]}; the most frequent are "
                f"{', '.join(name for name, _ in counts.most_common(12)) or 'none'}."
            )
        names = {by_key[spellings.key(name)] for name in asked}
    for track in tracks:
        if track.is_kept and track.genre not in names:
            track.status = f"its genre {track.genre} is not among --genres"


def leave_out_small(tracks: list[Track], min_tracks: int) -> list[str]:
    """Leave out genres of fewer than `min_tracks` tracks. Returns a sentence about them, if any.

    Raises InputError: fewer than two genres are left.
    """
    counts = _count(tracks)
    small = sorted(genre for genre, n in counts.items() if n < min_tracks)
    for track in tracks:
        if track.is_kept and track.genre in small:
            track.status = f"its genre {track.genre} has fewer than {min_tracks} tracks"
    if len(counts) - len(small) < 2:
        have = ", ".join(f"{one_line(genre)} {n:,}" for genre, n in counts.most_common(12))
        fewer = " (python -m data_prep --min_tracks N takes fewer.)" if len(counts) > 1 else ""
        raise InputError(
            f"A classifier needs two genres of at least {min_tracks} tracks each; here are "
            f"{have or 'none'}.{fewer}"
        )
    listed = ", ".join(f"{genre} ({counts[genre]})" for genre in small)
    return [f"left out, with fewer than {min_tracks} tracks: {listed}."] if small else []
