"""Awkward sources: each is one sentence for the person, or one named reason in the manifest."""

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_genre.errors import InputError
from tests.data_prep.archives import make_zip, manifest
from tests.data_prep.music import by_genre, clip, prepared, song, tag, write, write_csv

ROWS = [{"path": f"{i}.wav", "genre": "AT"[i % 2]} for i in range(6)]


def table(folder: Path, rows: list[dict] | str, suffix: str = ".csv") -> Path:
    write(folder, {f"{i}.wav": clip(i) for i in range(6)})
    path = folder / f"tracks{suffix}"
    if isinstance(rows, str):
        path.write_text(rows)
        return path
    return write_csv(path, rows)


def changed(**cells: str) -> list[dict]:
    """ROWS with cells of the first row changed, or columns added to it."""
    return [{name: "" for name in cells} | ROWS[0] | cells] + [
        {name: "" for name in cells} | row for row in ROWS[1:]
    ]


def unreadable(folder: Path) -> Path:
    write(folder, by_genre(3) | {"Techno/9.wav": clip(9)})
    (folder / "Techno" / "9.wav").unlink()
    os.mkfifo(folder / "Techno" / "9.wav")  # opening it would wait for ever
    return folder


# --- one sentence ---------------------------------------------------------------------------

Make = Callable[[Path], Path]
ERRORS: dict[str, tuple[Make, str, dict]] = {
    "nothing there": (lambda p: p / "none", "there is no such file or folder", {}),
    "no such table": (lambda p: p / "none.csv", "cannot be read: No such file", {}),
    "an empty folder": (lambda p: p, "holds no audio file", {}),
    "only pictures": (lambda p: write(p, {"Rock/cover.jpg": b"x"}), "holds no audio file", {}),
    "files without folders": (
        lambda p: write(p, {"a.wav": clip(1)}),
        "has 1 audio files and no folders.*--genre_from tags",
        {},
    ),
    "one genre in no folder, named as GTZAN's": (
        lambda p: write(p, {f"jazz.0000{i}.wav": clip(i) for i in range(3)}),
        "has 3 audio files and no folders: put each genre's files into a",
        {},
    ),
    "genres one folder below": (
        lambda p: write(p, {f"genres/{name}": data for name, data in by_genre(3).items()}),
        "holds one folder: if the genres are in it, give .*/genres",
        {},
    ),
    "one genre": (
        lambda p: write(p, by_genre(3, ("Techno",))),
        "two genres of at least 2 tracks each; here are Techno 3",
        {},
    ),
    "one genre with artists below": (
        lambda p: write(p, {f"Rock/Artist {i // 2}/{i}.wav": clip(i) for i in range(6)}),
        "needs two genres.*one folder.*Rock",
        {},
    ),
    "genres that are all too small": (
        lambda p: write(p, by_genre(3)),
        "at least 4 tracks.*Ambient 3, Techno 3",
        {"min_tracks": 4},
    ),
    "two genres with the same files": (
        lambda p: write(p, by_genre(3) | {f"Copy/{i}.wav": clip(i) for i in range(3)}),
        r"Ambient and Copy hold the same recordings \(3 of 3 and 3\)",
        {},
    ),
    "all files broken": (
        lambda p: write(p, dict.fromkeys(by_genre(3), b"no music")),
        "needs two genres.*here are none",
        {},
    ),
    "a zip that is none": (
        lambda p: write(p, {"a.zip": b"text" * 99}) / "a.zip",
        "is not a zip",
        {},
    ),
    "a cut zip": (
        lambda p: write(p, {"c.zip": make_zip(p / "a.zip", by_genre(3)).read_bytes()[:9000]})
        / "c.zip",
        "is not a zip",
        {},
    ),
    "one audio file": (
        lambda p: write(p, {"a.wav": clip(1)}) / "a.wav",
        r"is no source of music: give a folder .*, a table .*\(.csv",
        {},
    ),
    "an old workbook": (
        lambda p: write(p, {"a.xls": b"\xd0\xcf\x11\xe0" + bytes(999)}) / "a.xls",
        r"is no source of music: give .* a table .*\.xlsx",
        {},
    ),
    "a table without genre": (
        lambda p: table(p, [{"path": "0.wav", "artist": "x"}]),
        "has no column genre; it has path, artist: name the one to use",
        {},
    ),
    "a table without path": (
        lambda p: table(p, [{"genre": "x"}]),
        "has no column path; it has genre",
        {},
    ),
    "a column that is not there": (
        lambda p: table(p, ROWS),
        "has no column style; it has path, genre",
        {"columns": {"genre": "style"}},
    ),
    "an empty table": (lambda p: table(p, ""), "cannot be read as a table", {}),
    "a table of a header": (lambda p: table(p, "path,genre\n"), "has no rows", {}),
    "a table of other paths": (
        lambda p: table(p, [{"path": f"x/{i}.wav", "genre": "a"} for i in range(3)]),
        "None of the 3 paths in .* exists, such as x/0.wav: paths are relative to the table",
        {},
    ),
    "binary in a CSV": (
        lambda p: write(p, {"t.csv": bytes(range(256))}) / "t.csv",
        "cannot be read as a table",
        {},
    ),
    "text in a Parquet": (lambda p: table(p, "path", ".parquet"), "cannot be read as a table", {}),
    "broken JSON lines": (lambda p: table(p, '{"path": ', ".jsonl"), "cannot be read as a", {}),
    "no objects in JSON lines": (lambda p: table(p, "3\n4\n", ".jsonl"), "has no column path", {}),
    "an unknown split": (
        lambda p: table(p, changed(split="holdout")),
        "has the split holdout in row 1: use train, validation and test",
        {},
    ),
    "given splits that are not": (
        lambda p: write(p, by_genre(3)),
        "--split given needs a column split",
        {"split": "given"},
    ),
    "a split of GTZAN": (
        lambda p: write(p, by_genre(3)),
        "--split filtered is not one for your own genres: choose one of artist, album",
        {"split": "filtered"},
    ),
    "only a test split": (
        lambda p: table(p, [row | {"split": "test"} for row in ROWS]),
        "leaves no track to train on",
        {},
    ),
    "no tags": (
        lambda p: write(p, by_genre(3)),
        "None of the 6 audio files in .* has a genre tag",
        {"genre_from": "tags"},
    ),
    "a table that is wanted and not there": (
        lambda p: write(p, by_genre(3)),
        "holds no table with the columns path and genre",
        {"genre_from": "table"},
    ),
    "columns without a table": (
        lambda p: write(p, by_genre(3)),
        "--columns has no use with",
        {"columns": {"genre": "style"}},
    ),
    "min_tracks with GTZAN": (
        lambda p: write(p, {f"{g}.00000.wav": clip(i) for i, g in enumerate(("blues", "pop"))}),
        "--min_tracks has no use with .* which is GTZAN",
        {},
    ),
    "synonyms that are not there": (
        lambda p: write(p, by_genre(3)),
        "--synonyms nowhere.txt cannot be read",
        {"synonyms": "nowhere.txt"},
    ),
    "min_tracks of zero": (lambda p: p, "--min_tracks must be 1 to 10000", {"min_tracks": 0}),
    "no excerpts": (lambda p: p, "--clips_per_track must be 1", {"clips_per_track": 0}),
    "excerpts of no length": (lambda p: p, "--clip_seconds must be 1", {"clip_seconds": 0.1}),
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


# --- one named reason -----------------------------------------------------------------------


def nan() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(30_000, np.nan), 8_000, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


ALL_TAGS = {"genre_from": "tags"}
LEFT_OUT: dict[str, tuple[Make, str, str, dict]] = {
    "an unreadable file": (
        lambda p: write(p, by_genre(3) | {"Techno/9.wav": b"RIFF, or so it says"}),
        "Techno/9.wav", "not audio in a format known here", {},
    ),
    "an empty file": (
        lambda p: write(p, by_genre(3) | {"Techno/9.wav": b""}),
        "Techno/9.wav", "the file is empty", {},
    ),
    "a pipe": (unreadable, "Techno/9.wav", "a broken link or a device", {}),
    "a click": (
        lambda p: write(p, by_genre(3) | {"Techno/9.wav": clip(9, seconds=0.2)}),
        "Techno/9.wav", "shorter than 1 s", {},
    ),
    "silence": (
        lambda p: write(p, by_genre(3) | {"Techno/9.flac": song(3, silent=[(0, 3)])}),
        "Techno/9.flac", "silent", {},
    ),
    "a silent song": (
        lambda p: write(p, by_genre(3) | {"Techno/9.flac": song(65, silent=[(0, 65)])}),
        "Techno/9.flac", "silent", {},
    ),
    "samples that are not numbers": (
        lambda p: write(p, by_genre(3) | {"Techno/9.wav": nan()}),
        "Techno/9.wav", "NaN", {},
    ),
    "a file beside the folders": (
        lambda p: write(p, by_genre(3) | {"intro.wav": clip(9)}),
        "intro.wav", "not in a folder of a genre", {},
    ),
    "a copy": (
        lambda p: write(p, by_genre(3) | {"Techno/9.wav": clip(100)}),
        "Techno/9.wav", "a copy, sample for sample, of Techno/0.wav", {},
    ),
    "one file in two genres": (
        lambda p: write(p, by_genre(4) | {"Techno/9.wav": clip(1)}),
        "Techno/9.wav", r"its samples are in Ambient as well \(Ambient/1.wav\)", {},
    ),
    "a genre of two tracks": (
        lambda p: write(p, by_genre(3) | {"Polka/1.wav": clip(8), "Polka/2.wav": clip(9)}),
        "Polka/1.wav", "its genre Polka has fewer than 3 tracks", {"min_tracks": 3},
    ),
    "a genre that is not asked for": (
        lambda p: write(p, by_genre(3, ("A", "B", "C"))),
        "C/1.wav", "its genre C is not among --genres", {"genres": "a,b"},
    ),
    "a genre with a name like a novel": (
        lambda p: write(p, by_genre(3) | {f"{'long ' * 20}/1.wav": clip(9)}),
        f"{'long ' * 20}/1.wav", "a name of more than 80 characters", {},
    ),
    "a path that is not there": (
        lambda p: table(p, [*ROWS, {"path": "no.wav", "genre": "A"}]),
        "no.wav", "there is no such file", {},
    ),
    "a folder as a path": (
        lambda p: table(p, [*ROWS, {"path": ".", "genre": "A"}]),
        ".", "there is no such file", {},
    ),
    "a row without path": (
        lambda p: table(p, [*ROWS, {"path": "", "genre": "A"}]),
        "row 7", "the table has no path for it", {},
    ),
    "a row without genre": (
        lambda p: table(p, changed(genre=" ")), "0.wav", "the table has no genre for it", {},
    ),
    "a path with two genres": (
        lambda p: table(p, [*ROWS, {"path": "0.wav", "genre": "T"}]),
        "0.wav", "the table has it twice, as A and T", {},
    ),
    "a row without split": (
        lambda p: table(p, [r | {"split": "test" if i > 3 else "train" if i else ""}
                            for i, r in enumerate([*ROWS])]),
        "0.wav", "the source gives it no split", {"min_tracks": 2},
    ),
    "tags that cannot be read": (
        lambda p: write(p, {f"{g}{i}.flac": tagged(p, g, i) for g in "AB" for i in range(3)}
                        | {"9.mp3": b"ID3\x04" + b"\xff" * 200}),
        "9.mp3", "no genre tag", ALL_TAGS,
    ),
}  # fmt: skip


def tagged(folder: Path, genre: str, i: int) -> bytes:
    folder.mkdir(exist_ok=True)
    path = folder / "temporary.flac"
    path.write_bytes(clip(ord(genre) + 10 * i, "FLAC"))
    data = tag(path, genre=genre).read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_awkward_file_is_left_out_by_name(tmp_path, name):
    make, member, reason, options = LEFT_OUT[name]
    done = prepared(make(tmp_path / "source"), tmp_path / "out", **options)
    assert re.search(reason, manifest(tmp_path / "out")[member]["status"])
    assert done["n_kept"] >= 4, "the others stay"


# --- names ----------------------------------------------------------------------------------

NAMES = (
    "演歌",
    "Rock'n'Roll",
    "R&B | Soul",
    "Drum ‘n’ Bass",
    "<b>bold</b>",
    "../up",
    "a\nb",
    "=1+1",
)


def test_genres_with_names_of_every_kind(tmp_path):
    """From a table, where a name may hold anything; the cards stay tables."""
    folder = write(tmp_path / "m", {f"{i}.wav": clip(i) for i in range(3 * len(NAMES))})
    rows = [{"path": f"{i}.wav", "genre": NAMES[i // 3]} for i in range(3 * len(NAMES))]
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    done = prepared(folder / "t.jsonl", tmp_path / "out")
    assert set(done["genres"]) == {name.replace("\n", "\\n") for name in NAMES}
    table = [s for s in (tmp_path / "out" / "README.md").read_text().splitlines() if "Soul" in s]
    assert table == ["| R&B \\| Soul | 1 | 1 | 1 |"]


@pytest.mark.parametrize(
    "name", ["音楽/曲.wav", "e\u0301/\u202egnp.wav", "a'b/$(x).wav", "-rf/-.wav"]
)
def test_files_with_names_of_every_kind(tmp_path, name):
    genre, file = name.split("/")
    files = by_genre(3) | {f"{genre}/{i}{file}": clip(50 + i) for i in range(3)}
    assert prepared(write(tmp_path / "m", files), tmp_path / "out")["n_kept"] == 9


def test_two_names_that_look_the_same(tmp_path):
    """An accent can be a character or a mark of its own."""
    twins = {"Techno/caf\u00e9.wav": clip(50), "Techno/cafe\u0301.wav": clip(51)}
    done = prepared(write(tmp_path / "m", by_genre(3) | twins), tmp_path / "out")
    assert (done["n_kept"], done["n_dropped"]) == (7, 1)
    statuses = [row["status"] for row in manifest(tmp_path / "out").values()]
    assert "another file has this name, written in other characters" in statuses


def test_a_name_that_is_not_utf8(tmp_path):
    folder = write(tmp_path / "m", by_genre(3))
    os.rename(os.fsencode(folder / "Techno"), os.fsencode(folder) + b"/Tech\xff")
    done = prepared(folder, tmp_path / "out")
    assert done["genres"] == ["Ambient", "Tech\\udcff"]
