"""Awkward sources: each is one sentence for the person, or one named reason in the manifest."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_genre.errors import InputError
from tests.data_prep.archives import make_zip, manifest
from tests.data_prep.music import by_genre, clip, prepared, song, tag, write, write_csv

Make = Callable[[Path], Path]
ROWS = [{"path": f"{i}.wav", "genre": "AT"[i % 2]} for i in range(6)]
HEADER = "path,genre\n"


def folder(more: dict[str, bytes] | None = None, n: int = 3) -> Make:
    """Two genres, and other files."""
    return lambda path: write(path, by_genre(n) | (more or {}))


def only(files: dict[str, bytes], source: str = ".") -> Make:
    return lambda path: write(path, files) / source


def table(rows: list[dict] | str | bytes, name: str = "t.csv") -> Make:
    """A table beside six files."""

    def make(path: Path) -> Path:
        write(path, {f"{i}.wav": clip(i) for i in range(6)})
        if isinstance(rows, list):
            return write_csv(path / name, rows)
        return write(path, {name: rows.encode() if isinstance(rows, str) else rows}) / name

    return make


def cut_zip(path: Path) -> Path:
    data = make_zip(path / "whole.zip", by_genre(3)).read_bytes()
    return write(path, {"cut.zip": data[:9000]}) / "cut.zip"


ERRORS: dict[str, tuple[Make, str, dict]] = {
    "nothing there": (lambda p: p / "none", "there is no such file or folder", {}),
    "files without folders": (
        only({f"jazz.0000{i}.wav": clip(i) for i in range(3)}),
        "has 3 audio files and no folders.*--genre_from tags", {},
    ),
    "few names of GTZAN": (
        only({f"{g}.00000.wav": clip(i) for i, g in enumerate(("pop", "jazz", "my", "our"))}),
        "has 4 audio files and no folders", {},
    ),
    "genres one folder below": (
        only({f"genres/{name}": data for name, data in by_genre(3).items()}),
        "in one folder, genres, .* only genre: .*, give that folder alone", {},
    ),
    "small genres": (
        folder({"Techno/3.wav": clip(9)}), "at least 4 tracks.*Techno 4, Ambient 3",
        {"min_tracks": 4},
    ),
    "a small genre most of which is in a large one": (
        folder({f"Copy/{i}.wav": clip(i + 9) for i in range(4)}, n=12),
        "3 of 4 recordings of the genre Copy are in another genre as well", {},
    ),
    "all files broken": (
        only(dict.fromkeys(by_genre(3), b"no music")), "no usable audio: Ambient/0.wav: it is", {},
    ),
    "a cut zip": (cut_zip, "is not a source of music", {}),
    "one audio file": (
        only({"a.wav": clip(1)}, "a.wav"), r"is not a source of music: give a folder .*, a table",
        {},
    ),
    "a table without genre": (
        table([{"path": "0.wav", "artist": "x"}]),
        "has no column genre; it has path, artist: name the one to use", {},
    ),
    "a column of no table": (folder(), "--columns has no use", {"columns": {"genre": "style"}}),
    "a column that the table in a folder lacks": (
        lambda path: table(ROWS)(path).parent, "t.csv has no column style; it has path, genre",
        {"columns": {"genre": "style"}},
    ),
    "a column without a name": (folder(), "takes NAME=COLUMN", {"columns": {"genre": ""}}),
    "no table": (folder(), "holds no table with the columns path", {"genre_from": "table"}),
    "a table of other paths": (
        table([{"path": f"x/{i}.wav", "genre": "a"} for i in range(3)]),
        "None of the 3 paths in .* exists, such as x/0.wav: paths are relative to the table", {},
    ),
    "broken JSON lines": (table('{"path": ', "t.jsonl"), "cannot be read as a table", {}),
    "an unknown split": (
        table([row | {"split": "holdout"} for row in ROWS]),
        "has the split holdout in row 1: use train, validation and test", {},
    ),
    "given splits that are not": (folder(), "needs a column split", {"split": "given"}),
    "a split of GTZAN": (
        folder(),
        "--split filtered is not available for your own genres: choose one of artist, album",
        {"split": "filtered"},
    ),
    "no tags": (folder(), "None of the 6 audio files .* a genre tag", {"genre_from": "tags"}),
    "min_tracks with GTZAN": (
        only({f"{g}.00000.wav": clip(i) for i, g in enumerate(("blues", "pop"))}),
        "--min_tracks has no use with .* which is GTZAN", {},
    ),
    "no synonyms": (folder(), "--synonyms nowhere cannot be read", {"synonyms": "nowhere"}),
    "min_tracks of zero": (folder(), "--min_tracks must be 1 to 10000", {"min_tracks": 0}),
    "half a second": (folder(), "--clip_seconds must be 1 to 10000", {"clip_seconds": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_an_awkward_source_is_one_sentence(tmp_path, name):
    make, sentence, options = ERRORS[name]
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(InputError, match=sentence) as error:
        prepared(make(source), tmp_path / "out", **options)
    assert len(str(error.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"], "nothing is written"


def nan() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(30_000, np.nan), 8_000, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def statuses(source: Path, folder: Path, **options) -> dict[str, str]:
    prepared(source, folder, **options)
    return {name: row["status"] for name, row in manifest(folder).items()}


def test_awkward_files_are_left_out_by_name(tmp_path):
    """The pipe would be waited on for ever."""
    bad = {
        "Techno/text.wav": (b"RIFF, or so", "not audio in a format known"),
        "Techno/empty.wav": (b"", "the file is empty"),
        "Techno/click.wav": (clip(9, seconds=0.9), "shorter than 1 s"),
        "Techno/silent.flac": (song(65, silent=[(0, 65)]), "silent"),
        "Techno/nan.wav": (nan(), "NaN"),
        "intro.wav": (clip(9), "not in a folder of a genre"),
        "Techno/9.wav": (clip(100), "a copy, sample for sample, of Techno/0.wav"),
        "Techno/both.wav": (clip(1), "its samples are in Ambient as well"),
        "Ambient/1.wav": (clip(1), "its samples are in Techno as well"),
        "Polka/1.wav": (clip(8), "its genre Polka has fewer than 2 tracks"),
        "Polka/2.wav": (clip(2), "its samples are in Ambient as well"),
        "Ambient/2.wav": (clip(2), "its samples are in Polka as well"),
    }
    files = by_genre(5) | {name: data for name, (data, _) in bad.items()}
    source = write(tmp_path / "source", files)
    os.mkfifo(source / "Techno" / "pipe.wav")
    found = statuses(source, tmp_path / "out")
    for name, (_, reason) in bad.items():
        assert reason in found.pop(name)
    assert found.pop("Techno/pipe.wav") == "a broken link or a device, not a file"
    assert list(found.values()) == ["kept"] * 8


def test_awkward_rows_are_left_out_by_name(tmp_path):
    rows = [{"path": f"{i}.wav", "genre": "AT"[i % 2]} for i in range(10)]
    rows += [{"path": "6.wav", "genre": "T"}, {"path": "no.wav", "genre": "A"}]
    rows += [{"path": "", "genre": "A"}, {"path": "x" * 300 + ".wav", "genre": "A"}]
    rows += [{"path": "4.wav", "genre": ""}]
    rows[7]["genre"] = " "
    rows = [row | {"split": "" if i == 8 else "train" if i < 5 else "test"}
            for i, row in enumerate(rows)]  # fmt: skip
    source = write(tmp_path / "source", {f"{i}.wav": clip(i) for i in range(10)})
    found = statuses(write_csv(source / "t.csv", rows), tmp_path / "out")
    assert {name: status for name, status in found.items() if status != "kept"} == {
        "6.wav": "the table has several genres for it: A, T",
        "7.wav": "the table has no genre for it",
        "8.wav": "the source gives it no split",
        "no.wav": "there is no such file",
        "row 13": "the table has no path for it",
        "x" * 196 + ".wav": "there is no such file",
    }


def test_files_whose_tags_cannot_be_read_have_none(tmp_path):
    files = {f"{g}{i}.flac": clip(ord(g) + 10 * i, "FLAC") for g in "AB" for i in range(3)}
    source = write(tmp_path / "source", files)
    for file in source.glob("*.flac"):
        tag(file, genre=file.name[0])
    write(source, {"9.mp3": b"ID3\x04" + b"\xff" * 200})
    found = statuses(source, tmp_path / "out", genre_from="tags")
    assert found.pop("9.mp3") == "no genre tag"
    assert list(found.values()) == ["kept"] * 6


NAMES = ("演歌", "Rock'n'Roll", "R&B | Soul", "<b>bold</b>", "../up", "a\nb", "=1+1")


def test_genres_with_names_of_every_kind(tmp_path):
    """From a table, where a name may hold anything; the cards stay tables."""
    source = write(tmp_path / "m", {f"{i}.wav": clip(i) for i in range(3 * len(NAMES))})
    rows = [{"path": f"{i}.wav", "genre": NAMES[i // 3]} for i in range(3 * len(NAMES))]
    (source / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    done = prepared(source / "t.jsonl", tmp_path / "out")
    assert set(done["genres"]) == {name.replace("\n", "\\n") for name in NAMES}
    table = [s for s in (tmp_path / "out" / "README.md").read_text().splitlines() if "Soul" in s]
    assert table == ["| R&B \\| Soul | 1 | 1 | 1 |"]


def test_files_with_names_of_every_kind(tmp_path):
    """An accent can be a character or a mark of its own; some names are no text."""
    names = ("音楽/曲.wav", "e\u0301/\u202egnp.wav", "a'b/$(x).wav", "-rf/-.wav", "Techno/é.wav",
             "Techno/e\u0301.wav")  # fmt: skip
    files = {f"{name[:-4]}{i}.wav": clip(50 + 10 * k + i) for k, name in enumerate(names)
             for i in range(3)}  # fmt: skip
    source = write(tmp_path / os.fsdecode(b"M\xfasica"), files)
    os.rename(os.fsencode(source / "-rf"), os.fsencode(source) + b"/Tech\xff")
    done = prepared(source, tmp_path / "out")
    assert done["n_kept"] == 18
    assert done["genres"] == sorted(["音楽", "é", "a'b", "Tech\\udcff", "Techno"])
