"""Tables of paths and genres: CSV, JSON lines, Parquet; alone, in a folder, in an archive."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from datasets import load_from_disk

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
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in table))
    else:
        pd.DataFrame(table).to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_format_gives_genres_artists_and_titles(files, tmp_path, suffix, capsys):
    table = rows(artist=lambda i: f"Artist {i // 2}", title=lambda i: f"Song {i}")
    done = prepared(write_table(files / f"tracks{suffix}", table), tmp_path / "out")
    assert "a table: 2 genres, 16 files." in capsys.readouterr().out
    assert (done["split"], done["n_kept"]) == ("artist", 16)
    assert done["leakage"]["artist_in_train"] == 0
    row = manifest(tmp_path / "out")["audio/3.wav"]
    assert (row["genre"], row["artist"], row["title"]) == ("Techno", "Artist 1", "Song 3")


def test_columns_of_other_names_are_named(files, tmp_path):
    table = [{"where": row["path"], "style": row["genre"]} for row in rows()]
    path = write_csv(files / "tracks.csv", table)
    with pytest.raises(InputError, match=r"has no column path; it has where, style.*--columns"):
        prepared(path, tmp_path / "out")
    columns = {"columns": (("genre", "style"), ("path", "where"))}
    done = prepared(path, tmp_path / "out", **columns)
    assert done["n_kept"] == 16
    inode = (tmp_path / "out" / "manifest.csv").stat().st_ino
    assert prepared(path, tmp_path / "out", **columns) == done
    assert (tmp_path / "out" / "manifest.csv").stat().st_ino == inode, "done at once"


def test_a_table_with_semicolons_a_mark_and_windows_paths(files, tmp_path):
    table = [row["path"].replace("/", "\\") + ";" + row["genre"] for row in rows()]
    lines = ["path;genre", *table]
    (files / "t.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert prepared(files / "t.csv", tmp_path / "out")["n_kept"] == 16


def test_splits_of_the_table_are_kept_and_a_leak_is_named(files, tmp_path):
    table = rows(
        artist=lambda i: f"Artist {i % 4}",
        split=lambda i: "test" if i > 11 else "dev" if i > 7 else "training",
    )
    done = prepared(write_csv(files / "t.csv", table), tmp_path / "out")
    assert done["split"] == "given"
    assert done["counts"]["test"] == {"Ambient": 2, "Techno": 2}
    (warning,) = done["warnings"]
    assert "4 test tracks by artists that are in train as well (Artist 0" in warning
    assert "--split artist splits anew" in warning
    done = prepared(files / "t.csv", tmp_path / "two", split="artist")
    assert done["leakage"]["artist_in_train"] == 0


def test_without_a_validation_split_a_part_of_train_becomes_it(files, tmp_path):
    table = rows(split=lambda i: "test" if i > 11 else "train")
    done = prepared(write_csv(files / "t.csv", table), tmp_path / "out")
    sizes = {name: len(split) for name, split in load_from_disk(tmp_path / "out").items()}
    assert sizes["test"] == 4
    assert sizes["train"] + sizes["validation"] == 12
    assert sizes["validation"] >= 2
    assert done["split"] == "given"


def test_pieces_of_one_recording_are_on_one_side(files, tmp_path):
    """Without artists: two pieces of each of eight songs, by the title."""
    table = rows(title=lambda i: f"{'AT'[i % 2]} song {i // 4}")
    prepared(write_csv(files / "t.csv", table), tmp_path / "out", split="random")
    splits: dict[str, set] = {}
    for row in manifest(tmp_path / "out").values():
        splits.setdefault(row["title"], set()).add(row["split"])
    assert len(splits) == 8
    assert all(len(of_title) == 1 for of_title in splits.values())


def test_audiofolder_with_its_metadata(tmp_path):
    for split, n in (("train", 12), ("test", 4)):
        folder = tmp_path / "set" / split
        write(folder, {f"{i}.wav": clip(i + 50 * n) for i in range(n)})
        table = [{"file_name": f"{i}.wav", "label": "AT"[i % 2]} for i in range(n)]
        write_csv(folder / "metadata.csv", table)
    done = prepared(tmp_path / "set", tmp_path / "out")
    assert (done["kind"], done["split"]) == ("table", "given")
    assert done["counts"]["test"] == {"A": 2, "T": 2}


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_a_table_inside_an_archive(files, tmp_path, form):
    write_csv(files / "tracks.csv", rows())
    archive = shutil.make_archive(str(tmp_path / "packed"), form, files)
    done = prepared(Path(archive), tmp_path / "out")
    assert (done["kind"], done["n_kept"]) == ("table", 16)


def test_two_tables_are_not_guessed_between(files, tmp_path):
    for name in ("a.csv", "b.csv"):
        write_csv(files / name, rows())
    with pytest.raises(InputError, match=r"holds 2 tables.*a\.csv, b\.csv.*give the one"):
        prepared(files, tmp_path / "out")


def test_a_changed_file_of_a_table_is_prepared_anew(files, tmp_path):
    path = write_csv(files / "t.csv", rows())
    before = prepared(path, tmp_path / "out")
    assert prepared(path, tmp_path / "out") == before
    (files / "audio" / "3.wav").write_bytes(clip(900, seconds=1.5))
    assert prepared(path, tmp_path / "out")["seconds"] > before["seconds"]
