"""Tables of paths and genres: CSV, JSON lines, Parquet; alone, in a folder, in an archive."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from datasets import Audio, Dataset

from data_prep.sources import music_source
from music_genre.errors import InputError
from tests.data_prep.archives import manifest
from tests.data_prep.music import clip, prepared, write, write_csv


@pytest.fixture
def files(tmp_path) -> Path:
    """16 files in one folder, whose names say nothing."""
    return write(tmp_path / "set", {f"audio/{i}.wav": clip(i) for i in range(16)})


def rows(n: int = 16, **columns) -> list[dict]:
    return [
        {"path": f"audio/{i}.wav", "genre": ("Ambient", "Techno")[i % 2]}
        | {name: of(i) for name, of in columns.items()}
        for i in range(n)
    ]


def write_table(path: Path, table: list[dict]) -> Path:
    if path.suffix == ".csv":
        return write_csv(path, table)
    if path.suffix == ".json":
        path.write_text(json.dumps(table))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in table))
    else:
        pd.DataFrame(table).to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_each_format_gives_genres_artists_and_titles(files, tmp_path, suffix, capsys):
    table = rows(artist=lambda i: f"Artist {i // 2}", title=lambda i: f"{i:03d}")
    done = prepared(
        write_table(files / f"tracks{suffix}", table), tmp_path / "out", genre_from="table"
    )
    assert "a table: 2 genres, 16 files." in capsys.readouterr().out
    assert (done["split"], done["n_kept"]) == ("artist", 16)
    assert done["leakage"]["artist_in_train"] == 0
    row = manifest(tmp_path / "out")["audio/3.wav"]
    assert (row["genre"], row["artist"], row["title"]) == ("Techno", "Artist 1", "003")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_a_list_of_one_genre_is_that_genre(files, tmp_path, suffix):
    """Parquet and JSON have lists, and what they are as text is no name."""
    table = [
        {"path": row["path"], "genre": [row["genre"]], "artist": ["Ann", "Bo"]} for row in rows()
    ]
    table[0]["genre"] = ["Techno", "House", "Techno"]
    table[1]["genre"] = []
    done = prepared(write_table(files / f"tracks{suffix}", table), tmp_path / "out")
    assert (done["genres"], done["n_kept"]) == (["Ambient", "Techno"], 14)
    row, several, none, *_ = (manifest(tmp_path / "out")[f"audio/{i}.wav"] for i in (2, 0, 1))
    assert (row["genre"], row["artist"]) == ("Ambient", "Ann"), "as tags have them"
    assert several["status"] == "the table has several genres for it: Techno, House"
    assert none["status"] == "the table has no genre for it"


def test_columns_of_other_names_are_named(files, tmp_path):
    table = [{"where": row["path"], "style": row["genre"]} for row in rows()]
    path = write_csv(files / "tracks.csv", table)
    with pytest.raises(InputError, match=r"has no column path; it has where, style.*--columns"):
        prepared(path, tmp_path / "out")
    columns = {"columns": {"genre": "Style", "path": "where"}}
    done = prepared(path, tmp_path / "out", **columns)
    assert done["n_kept"] == 16
    inode = (tmp_path / "out" / "manifest.csv").stat().st_ino
    assert prepared(path, tmp_path / "out", **columns) == done
    assert (tmp_path / "out" / "manifest.csv").stat().st_ino == inode, "done at once"


def test_common_names_of_columns_are_known(files, tmp_path):
    """GTZAN's tables of features have them as well, and paths that are nowhere."""
    table = [{"filename": row["path"], "label": row["genre"]} for row in rows()]
    assert prepared(write_csv(files / "t.csv", table), tmp_path / "out")["n_kept"] == 16
    write_csv(files / "features_30_sec.csv", [{"filename": "blues.00000.wav", "label": "blues"}])
    assert prepared(files, tmp_path / "two")["n_kept"] == 16


def test_a_parquet_file_with_audio_is_a_dataset(tmp_path):
    """One file of a dataset, downloaded by hand."""
    audio = [{"bytes": clip(i), "path": f"{i}.wav"} for i in range(8)]
    clips = Dataset.from_dict({"audio": audio, "genre": ["Ambient", "Techno"] * 4})
    clips.cast_column("audio", Audio(decode=False)).to_parquet(tmp_path / "train-0.parquet")
    done = prepared(tmp_path / "train-0.parquet", tmp_path / "out")
    assert (done["kind"], done["genres"], done["n_kept"]) == ("dataset", ["Ambient", "Techno"], 8)


def test_splits_of_the_table_are_kept_and_a_leak_is_named(files, tmp_path):
    table = rows(
        artist=lambda i: f"Artist {i % 4}",
        split=lambda i: "test" if i > 11 else "dev" if i > 7 else "training",
    )
    done = prepared(write_csv(files / "t.csv", table), tmp_path / "out")
    assert done["split"] == "given"
    assert done["counts"]["test"] == {"Ambient": 2, "Techno": 2}
    (warning,) = done["warnings"]
    assert "4 test tracks by artists that are in train as well, so" in warning
    assert "--split artist makes a new split" in warning
    done = prepared(files / "t.csv", tmp_path / "two", split="artist")
    assert done["leakage"]["artist_in_train"] == 0


def test_without_a_validation_split_a_part_of_train_becomes_it(files, tmp_path):
    """All of an artist."""
    table = rows(split=lambda i: "test" if i > 11 else "train", artist=lambda i: f"Artist {i // 2}")
    done = prepared(write_csv(files / "t.csv", table), tmp_path / "out")
    assert done["split"] == "given"
    artists = {(row["artist"], row["split"]) for row in manifest(tmp_path / "out").values()}
    assert len(artists) == 8
    assert done["split_description"] == "the source's own, and validation drawn from train"
    n = {name: sum(genre_counts.values()) for name, genre_counts in done["counts"].items()}
    assert n == {"train": 10, "validation": 2, "test": 4}


@pytest.mark.parametrize("name", ["{}/metadata.csv", "{}.csv"])
def test_a_table_for_each_split(files, tmp_path, name):
    """AudioFolder's, or three beside each other."""
    for split, part in (("train", slice(0, 8)), ("val", slice(8, 12)), ("test", slice(12, 16))):
        up = "../" if "/" in name else ""
        table = [{"file_name": up + row["path"], "label": row["genre"]} for row in rows()[part]]
        if split == "train":  # what a row says counts more
            table = [row | {"split": "test" if i == 2 else "train"} for i, row in enumerate(table)]
        write_csv(files / name.format(split), table)
    done = prepared(files, tmp_path / "out")
    assert (done["kind"], done["split"]) == ("table", "given")
    sizes = {name: sum(counts.values()) for name, counts in done["counts"].items()}
    assert sizes == {"train": 7, "validation": 4, "test": 5}


@pytest.mark.parametrize("inside", [False, True])
def test_paths_without_what_the_files_end_in(files, tmp_path, inside):
    """A file that is called so is meant before one that is called alike."""
    (files / "audio" / "0.json").write_text("{}")
    (files / "audio" / "2").mkdir()
    (files / "audio" / "1.wav").rename(files / "audio" / "e\u0301.wav")  # as macOS writes it
    table = [row | {"path": row["path"][: -len(".wav")]} for row in rows()]
    table[1]["path"] = "./audio//\u00c9"
    for i, name in enumerate(("audio/X.wav", "audio/x.wav", "audio/Y.wav", "audio/Y.wav.mp3")):
        write(files, {name: clip(90 + i)})
        table.append({"path": name.replace("Y", "y"), "genre": "Techno"})
    path = write_csv(files / "t.csv", table)
    assert prepared(files if inside else path, tmp_path / "out")["n_kept"] == 20


@pytest.mark.parametrize(("form", "suffix"), [("zip", ".csv"), ("gztar", ".csv"), ("", ".parquet")])
def test_a_table_inside_an_archive_or_a_folder(files, tmp_path, form, suffix, monkeypatch):
    write_table(files / f"tracks{suffix}", [*rows(), {"path": "", "genre": "Techno"}])
    source = shutil.make_archive(str(tmp_path / "packed"), form, files) if form else files
    done = prepared(Path(source), tmp_path / "out")
    assert (done["kind"], done["n_kept"]) == ("table", 16)
    assert manifest(tmp_path / "out")["row 17"]["status"] == "the table has no path for it"
    monkeypatch.setattr(music_source, "MAX_TABLES_BYTES", 10)
    is_kept = form != "gztar"  # its tables are in memory
    assert bool(music_source.list_names(Path(source)).tables) == is_kept


def test_two_tables_are_not_guessed_between(files, tmp_path):
    for name in ("a.csv", "train.csv"):
        write_csv(files / name, rows())
    with pytest.raises(InputError, match=r"holds 2 tables.*a\.csv, train\.csv.*give the one"):
        prepared(files, tmp_path / "out")


def lines_of(table: list[dict], separator: str, header: str) -> str:
    rows = [separator.join([row["path"].replace("/", "\\"), row["genre"]]) for row in table]
    return "\r\n".join([header, *rows])


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("t.csv", lambda t: "sep=;\r\n" + lines_of(t, ";", "Path;GENRE"), "utf-8-sig"),
        ("t.csv", lambda t: lines_of(t, ",", "Path,Genre"), "utf-16"),
        ("t.csv", lambda t: lines_of(t, ";", "PATH;Genre "), "cp1252"),
        ("t.tsv", lambda t: lines_of(t, "\t", "path\tgenre"), "utf-8"),
        ("t.txt", lambda t: "\ufeff" + lines_of(t, "\t", "path\tgenre"), "utf-16-be"),
    ],
)
def test_tables_of_windows_programs(files, tmp_path, name, text, encoding):
    """Other encodings and separators, capitals in the header and in the names of files."""
    genres = ("Música", "Techno")
    table = [
        {"path": row["path"].replace(".wav", ".WAV"), "genre": genres[i % 2]}
        for i, row in enumerate(rows())
    ]
    (files / name).write_bytes(text(table).encode(encoding))
    done = prepared(files / name, tmp_path / "out")
    assert (done["genres"], done["n_kept"]) == (["Música", "Techno"], 16)


def test_a_separator_at_the_end_of_rows_is_no_column(files, tmp_path, recwarn):
    """The genres became the paths."""
    lines = ["path,genre", *(f"{row['path']},{row['genre']}," for row in rows())]
    (files / "t.csv").write_text("\n".join(lines))
    assert prepared(files / "t.csv", tmp_path / "out")["genres"] == ["Ambient", "Techno"]
    assert not recwarn.list, "pandas says that something is lost"


def test_a_workbook_is_read_or_says_what_it_needs(files, tmp_path):
    with zipfile.ZipFile(files / "t.xlsx", "w") as workbook:
        workbook.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(InputError, match=r"openpyxl|t\.xlsx cannot be read as a table"):
        prepared(files / "t.xlsx", tmp_path / "out")


def test_words_for_no_genre_are_none(files, tmp_path, capsys):
    """What pandas writes for a missing value, and what people write."""
    nothing = ("nan", "None", "<NA>", "N/A", "Unknown", "-", "Other")
    table = rows()
    for row, genre in zip(table, nothing, strict=False):
        row["genre"] = genre
    path = write_csv(files / "t.csv", table)
    done = prepared(path, tmp_path / "out")
    assert (done["genres"], done["n_kept"]) == (["Ambient", "Techno"], 9)
    printed = capsys.readouterr().out
    assert "a table: 2 genres, 16 files." in printed
    assert re.search(r"Left out, as these are not genres: .*None \(1\), Unknown \(1\)", printed)
    assert manifest(tmp_path / "out")["audio/6.wav"]["status"] == "Other is not a genre"
    table[7]["genre"] = "Other"
    write_csv(path, table)
    done = prepared(path, tmp_path / "two", genres="Ambient,Other")
    assert done["genres"] == ["Ambient", "Other"], "asked for by name"


def test_of_two_spellings_as_common_the_first_by_name_is_taken(files, tmp_path):
    """Whatever the order of the rows, the dataset is the same."""
    table = rows(genre=lambda i: ("techno", "Techno", "Ambient")[i % 3])[:15]
    done = prepared(write_csv(files.parent / "set" / "t.csv", table), tmp_path / "out")
    assert done["genres"] == ["Ambient", "Techno"]


def test_the_table_of_the_free_music_archive(tmp_path):
    """Three rows of headers, and numbers for paths; most of its tracks are not in fma_small."""
    names = [f"{i % 2:03d}/{i % 2:03d}{i:03d}" for i in range(12)]
    write(tmp_path / "fma_small", {f"{n}.wav": clip(i) for i, n in enumerate(names)})
    lines = [",album,artist,set,track,track", ",title,name,split,genre_top,title", "track_id,,,,,"]
    lines += [
        f"{int(n[-6:])},Album,Artist {i // 2},training,{'Rock' if i % 3 else 'Jazz'},Song {i}"
        for i, n in enumerate([*names, "009/009999"])
    ]
    table = tmp_path / "fma_metadata" / "tracks.csv"
    table.parent.mkdir()
    table.write_text("\n".join(lines))
    done = prepared(table, tmp_path / "out")
    assert (done["n_members"], done["n_kept"], done["genres"]) == (12, 12, ["Jazz", "Rock"])
    row = manifest(tmp_path / "out")["001/001003.wav"]
    assert (row["genre"], row["artist"], row["title"]) == ("Jazz", "Artist 1", "Song 3")
    assert row["album"] == "Album", "whose title is not the song's"
    with pytest.raises(InputError, match=r"Free Music Archive.*give the table tracks\.csv"):
        prepared(tmp_path / "fma_small", tmp_path / "two")
    shutil.copy(table, tmp_path)
    assert prepared(tmp_path / "tracks.csv", tmp_path / "two")["n_kept"] == 12
    shutil.move(tmp_path / "fma_small", tmp_path / "music")
    shutil.copy(table, tmp_path / "music")
    assert prepared(tmp_path / "music" / "tracks.csv", tmp_path / "three")["n_kept"] == 12
