"""The tracks of a GTZAN archive rearranged as other people have their music.

    python tests/data_prep/rearranged.py "../shared/data/GTZAN Genre Collection.zip" /tmp/music

Writes into a folder: `folders/` (Genre/Artist/Album/track.wav), `table/` (numbered WAVs and
tracks.csv with artists and titles), `library/` (MP3 and FLAC files with tags, every third without
a genre), and `folders.zip`. The audio of GTZAN may not be published: keep it private.
"""

import csv
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import mutagen
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_prep.archive import open_archive
from data_prep.gtzan import artists_and_titles, genre_of, track_id_of
from tests.hostile_inputs import by_pyav

SPELLINGS = {"hiphop": ("Hip-Hop", "hip hop", "Rap/Hip Hop"), "rock": ("Rock", "rock", "ROCK")}
Song = tuple[str, str, str, str, bytes]  # track_id, genre, artist, title, WAV


def songs_of(archive: Path) -> Iterator[Song]:
    """Those that can be decoded, with a name for what GTZAN does not name."""
    with open_archive(archive) as members:
        for member in members:
            track_id = track_id_of(member.name) if member.is_clip else None
            if track_id:
                artist, title = artists_and_titles()[track_id]
                yield track_id, genre_of(track_id), artist, title or track_id[-5:], member.read()


def rearrange(archive: Path, folder: Path, per_genre: int = 100) -> None:
    songs: dict[str, list[Song]] = {}
    for song in sorted(songs_of(archive)):
        songs.setdefault(song[1], []).append(song)
    chosen = [song for of_genre in songs.values() for song in of_genre[:per_genre]]
    table = []
    for i, (track_id, genre, artist, title, data) in enumerate(chosen):
        name = f"{_file_name(title)} {track_id[-5:]}.wav"
        _write(folder / "folders" / genre / _file_name(artist or "x") / "Album" / name, data)
        _write(folder / "table" / "audio" / f"{i:03d}.wav", data)
        table.append(
            {"path": f"audio/{i:03d}.wav", "genre": genre, "artist": artist, "title": title}
        )
        _write_tagged(folder / "library" / f"{i:03d}", data, (genre, artist, title), i)
    with (folder / "table" / "tracks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    shutil.make_archive(str(folder / "folders"), "zip", folder / "folders")


def _write_tagged(stem: Path, data: bytes, names: tuple[str, str, str], i: int) -> None:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    path = stem.with_suffix((".mp3", ".flac")[i % 2])
    if path.suffix == ".mp3":
        _write(path, by_pyav(samples, "mp3", "libmp3lame", rate, bit_rate=192_000))
    else:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="FLAC")
        _write(path, buffer.getvalue())
    file = mutagen.File(path, easy=True)
    if file.tags is None:
        file.add_tags()
    genre, artist, title = names
    spellings = SPELLINGS.get(genre, (genre.capitalize(),))
    file["artist"], file["title"] = artist or "Unknown Artist", title
    if i % 3:
        file["genre"] = spellings[i % len(spellings)]
    file.save()


def _file_name(text: str) -> str:
    return text.replace("/", "-").strip(". ") or "x"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    rearrange(Path(sys.argv[1]), Path(sys.argv[2]))
