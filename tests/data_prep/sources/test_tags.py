"""`--genre_from tags`: a library whose files carry genre tags, some of them or all."""

import io
from pathlib import Path

import mutagen
import numpy as np
import pytest
from mutagen import id3

from data_prep.tags import Tags, read_tags
from music_genre.errors import InputError
from tests.data_prep.archives import make_zip, manifest
from tests.data_prep.music import clip, prepared, tag
from tests.hostile_inputs import PYAV_FORMATS, by_pyav


@pytest.fixture
def library(tmp_path) -> Path:
    """FLAC files: spellings of three genres, some without a tag, one with two genres."""
    folder = tmp_path / "Music"
    folder.mkdir()
    genres = ["Hip-Hop"] * 4 + ["hip hop"] * 2 + ["Rap/Hip Hop"] + ["Techno"] * 6 + ["Ambient"] * 2
    genres += [["Ambient", "Unknown"]]
    for i, genre in enumerate([*genres, "", "", ["Techno", "Ambient"]]):
        path = folder / f"{i}.flac"
        path.write_bytes(clip(i, "FLAC"))
        tag(path, artist=f"Artist {i}", title=f"Song {i}", **({"genre": genre} if genre else {}))
    return folder


def test_spellings_are_merged_and_what_maps_where_is_printed(library, tmp_path, capsys):
    done = prepared(library, tmp_path / "out", genre_from="tags")
    printed = capsys.readouterr().out
    assert "genre tags: 3 genres, 19 files." in printed
    assert "Genres: Hip-Hop 7, Techno 6, Ambient 3." in printed
    assert "  Hip-Hop: Hip-Hop 4, hip hop 2, Rap/Hip Hop 1" in printed
    assert done["genres"] == ["Ambient", "Hip-Hop", "Techno"]
    assert done["split"] == "artist"
    status = {name: row["status"] for name, row in manifest(tmp_path / "out").items()}
    assert status["16.flac"] == "no genre tag"
    assert status["18.flac"] == "its tag has several genres: Techno, Ambient"


def test_genres_by_name_and_by_number(library, tmp_path, monkeypatch):
    files = {f"A/B/{path.name}": path.read_bytes() for path in library.iterdir()}
    monkeypatch.setattr("data_prep.archive.MAX_MEMBER_BYTES", 2**17)
    archive = make_zip(tmp_path / "m.zip", files | {"A/too large.flac": bytes(2**18)})
    named = prepared(archive, tmp_path / "a", genre_from="tags", genres="ambient, Rap")
    assert named["genres"] == ["Ambient", "Hip-Hop"]
    assert manifest(tmp_path / "a")["A/B/0.flac"]["album"] == "A/B", "not every B"
    most = prepared(library, tmp_path / "b", genre_from="tags", genres="2")
    assert most["genres"] == ["Hip-Hop", "Techno"]
    with pytest.raises(InputError, match="No track has the genre Polka; the most frequent are Hip"):
        prepared(library, tmp_path / "c", genre_from="tags", genres="Polka,Techno")


def test_a_file_of_synonyms_replaces_the_projects(library, tmp_path):
    synonyms = tmp_path / "mine.txt"
    synonyms.write_text("# mine\nElectronic: Techno; Ambient\nDance: Techno\n")
    done = prepared(library, tmp_path / "out", genre_from="tags", synonyms=str(synonyms))
    assert done["genres"] == ["Electronic", "Hip-Hop"], "Rap/Hip Hop is two genres now"
    # The file with two genres has one.
    assert manifest(tmp_path / "out")["18.flac"]["genre"] == "Electronic"
    synonyms.write_text("Electronic: Techno\nDance, House\n")
    with pytest.raises(InputError, match="line 2: write Name: other spelling"):
        prepared(library, tmp_path / "out", genre_from="tags", synonyms=str(synonyms))


def test_artists_of_a_folder_per_genre_come_from_tags(library, tmp_path):
    by_genre = tmp_path / "by genre"
    for i in range(13):
        folder = {0: "A/Solo/Album", 2: "A/Various Artists/Hits"}.get(i, "A" if i < 7 else "B")
        target = by_genre / folder / f"{i}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        (library / f"{i}.flac").rename(target)
    done = prepared(by_genre, tmp_path / "out")
    assert done["split"] == "artist"
    assert done["leakage"]["artist_unknown"] == 0
    rows = manifest(tmp_path / "out")
    names = ("A/Solo/Album/0.flac", "A/1.flac", "A/Various Artists/Hits/2.flac")
    said = [(rows[name]["artist"], rows[name]["title"]) for name in names]
    known = [("Solo", "Song 0"), ("Artist 1", "Song 1"), ("Artist 2", "Song 2")]
    assert said == known, "a folder of one artist says it first"


def audio_file(path: Path) -> Path:
    formats = PYAV_FORMATS | {"wav": ("wav", "pcm_s16le", 8_000)}
    container, codec, rate = formats[path.suffix[1:]]
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, rate).astype(np.float32)
    path.write_bytes(by_pyav(noise, container, codec, rate))
    return path


@pytest.mark.parametrize(
    ("ending", "names"),
    [
        ("m4a", ("\xa9ART", "\xa9nam", "\xa9alb", "\xa9gen")),
        ("wma", ("Author", "Title", "WM/AlbumTitle", "WM/Genre")),
        ("opus", ("artist", "title", "album", "genre")),
        ("wav", ("TPE1", "TIT2", "TALB", "TCON")),
    ],
)
def test_each_kind_of_tags_is_read(tmp_path, ending, names):
    path = audio_file(tmp_path / f"a.{ending}")
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    values = (["Ann", "Bo"], "A song" * 90, "Songs", ["Rock", "Pop"])
    for name, value in zip(names, values, strict=True):
        file[name] = getattr(id3, name)(text=value) if ending == "wav" else value
    file.save()
    expected = Tags("Ann", "A song" * 50, "Songs", ("Rock", "Pop"))
    assert read_tags(path) == read_tags(path.read_bytes()) == expected


def test_genres_of_mp3s_are_numbers_and_id3v1s_zero_is_none(tmp_path):
    """Rekordbox and old programs write "(17)" for rock; 0, which is blues, where none is known."""
    path = audio_file(tmp_path / "a.mp3")
    plain = path.read_bytes()
    tags = id3.ID3()
    tags.add(id3.TPE1(text=["Ann"]))
    tags.add(id3.TCON(text=["(17)"]))
    tags.save(path, v1=0)
    assert read_tags(path) == Tags("Ann", genres=("Rock",))
    id3v1 = b"TAG" + b"A song".ljust(30) + b"Ann".ljust(30) + bytes(65)
    bare = plain[id3.ID3(io.BytesIO(plain)).size :]
    assert read_tags(bare + id3v1) == Tags("Ann", "A song")
    # Beside an ID3v2 that says no genre, it made blues of every file.
    assert read_tags(plain + id3v1) == Tags("Ann", "A song")
    tags.add(id3.TCON(text=["Blues"]))
    tags.save(path, v1=0)
    assert read_tags(path.read_bytes() + id3v1).genres == ("Blues",)
    (tmp_path / "a.flac").write_bytes(clip(1, "FLAC"))
    assert read_tags(tag(tmp_path / "a.flac", genre="Blues")).genres == ("Blues",)
