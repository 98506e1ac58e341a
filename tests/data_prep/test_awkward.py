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
    "an empty folder": (lambda p: p, "holds no audio file", {}),
    "files without folders": (
        only({f"jazz.0000{i}.wav": clip(i) for i in range(3)}),
        "has 3 audio files and no folders.*--genre_from tags", {},
    ),
    "genres one folder below": (
        only({f"genres/{name}": data for name, data in by_genre(3).items()}),
        "holds one folder.* if the genres are in it, give .*/genres", {},
    ),
    "one genre": (only(by_genre(3, ("Techno",))), "two genres of at least 2.* Techno 3", {}),
    "small genres": (folder(), "at least 4 tracks.*Ambient 3, Techno 3", {"min_tracks": 4}),
    "a small genre that is wholly in a large one": (
        folder({f"Copy/{i}.wav": clip(i) for i in range(3)}, n=12),
        r"Ambient and Copy hold the same recordings \(3 of 12 and 3\)", {},
    ),
    "all files broken": (
        only(dict.fromkeys(by_genre(3), b"no music")), "no usable audio: Ambient/0.wav: it is", {},
    ),
    "a cut zip": (cut_zip, "is not a zip", {}),
    "one audio file": (
        only({"a.wav": clip(1)}, "a.wav"), r"is no source of music: give a folder .*, a table", {},
    ),
    "a table without genre": (
        table([{"path": "0.wav", "artist": "x"}]),
        "has no column genre; it has path, artist: name the one to use", {},
    ),
    "a column that is not there": (
        table(ROWS), "has no column style; it has path, genre", {"columns": {"genre": "style"}},
    ),
    "a column of no table": (folder(), "--columns has no use", {"columns": {"genre": "style"}}),
    "an empty table": (table(""), "cannot be read as a table", {}),
    "a table of a header": (table(HEADER), "None of the 0 paths in", {}),
    "a table of other paths": (
        table([{"path": f"x/{i}.wav", "genre": "a"} for i in range(3)]),
        "None of the 3 paths in .* exists, such as x/0.wav: paths are relative to the table", {},
    ),
    "binary in a CSV": (table(bytes(range(256))), "cannot be read as a table", {}),
    "broken JSON lines": (table('{"path": ', "t.jsonl"), "cannot be read as a table", {}),
    "an unknown split": (
        table([row | {"split": "holdout"} for row in ROWS]),
        "has the split holdout in row 1: use train, validation and test", {},
    ),
    "given splits that are not": (folder(), "needs a column split", {"split": "given"}),
    "a split of GTZAN": (
        folder(), "--split filtered is not one for your own genres: choose one of artist, album",
        {"split": "filtered"},
    ),
    "only a test split": (
        table([row | {"split": "test"} for row in ROWS]), "leaves no track to train on", {},
    ),
    "no tags": (folder(), "None of the 6 audio files .* a genre tag", {"genre_from": "tags"}),
    "no table": (folder(), "no table with the columns path and genre", {"genre_from": "table"}),
    "min_tracks with GTZAN": (
        only({f"{g}.00000.wav": clip(i) for i, g in enumerate(("blues", "pop"))}),
        "--min_tracks has no use with .* which is GTZAN", {},
    ),
    "no synonyms": (folder(), "--synonyms nowhere cannot be read", {"synonyms": "nowhere"}),
    "min_tracks of zero": (folder(), "--min_tracks must be 1 to 10000", {"min_tracks": 0}),
    "no length": (folder(), "--clip_seconds must be 1 to", {"clip_seconds": 0.1}),
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


def pipe(path: Path) -> Path:
    folder()(path)
    os.mkfifo(path / "Techno" / "9.wav")  # opening it would wait for ever
    return path


def tagged(path: Path) -> Path:
    """Six files with tags, and one whose tags are damaged."""
    write(path, {f"{g}{i}.flac": clip(ord(g) + 10 * i, "FLAC") for g in "AB" for i in range(3)})
    for file in path.glob("*.flac"):
        tag(file, genre=file.name[0])
    return write(path, {"9.mp3": b"ID3\x04" + b"\xff" * 200})


LEFT_OUT: dict[str, tuple[Make, str, str, dict]] = {
    "an unreadable file": (
        folder({"Techno/9.wav": b"RIFF, or so"}), "Techno/9.wav", "not audio in a format known", {},
    ),
    "an empty file": (folder({"Techno/9.wav": b""}), "Techno/9.wav", "the file is empty", {}),
    "a pipe": (pipe, "Techno/9.wav", "a broken link or a device", {}),
    "a click": (
        folder({"Techno/9.wav": clip(9, seconds=0.9)}), "Techno/9.wav", "shorter than 1 s", {},
    ),
    "a silent song": (
        folder({"Techno/9.flac": song(65, silent=[(0, 65)])}), "Techno/9.flac", "silent", {},
    ),
    "samples that are not numbers": (folder({"Techno/9.wav": nan()}), "Techno/9.wav", "NaN", {}),
    "a file beside the folders": (
        folder({"intro.wav": clip(9)}), "intro.wav", "not in a folder of a genre", {},
    ),
    "a copy": (
        folder({"Techno/9.wav": clip(100)}),
        "Techno/9.wav", "a copy, sample for sample, of Techno/0.wav", {},
    ),
    "one file in two genres": (
        folder({"Techno/9.wav": clip(1)}, n=4),
        "Techno/9.wav", r"its samples are in Ambient as well \(Ambient/1.wav\)", {},
    ),
    "a genre of two tracks": (
        folder({"Polka/1.wav": clip(8), "Polka/2.wav": clip(9)}),
        "Polka/1.wav", "its genre Polka has fewer than 3 tracks", {"min_tracks": 3},
    ),
    "a genre that is not asked for": (
        only(by_genre(3, ("A", "B", "C"))),
        "C/1.wav", "its genre C is not among --genres", {"genres": "a,b"},
    ),
    "a path that is not there": (
        table([*ROWS, {"path": "no.wav", "genre": "A"}]), "no.wav", "there is no such file", {},
    ),
    "a row without path": (
        table([*ROWS, {"path": "", "genre": "A"}]), "row 7", "the table has no path for it", {},
    ),
    "a row without genre": (
        table([*ROWS[1:], {"path": "0.wav", "genre": " "}]), "0.wav", "has no genre for it", {},
    ),
    "a path with two genres": (
        table([*ROWS, {"path": "0.wav", "genre": "T"}]),
        "0.wav", "the table has it twice, as A and T", {},
    ),
    "a row without split": (
        table([r | {"split": "" if i == 0 else "test" if i == 5 else "train"}
               for i, r in enumerate(ROWS)]),
        "0.wav", "the source gives it no split", {},
    ),
    "tags that cannot be read": (tagged, "9.mp3", "no genre tag", {"genre_from": "tags"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_awkward_file_is_left_out_by_name(tmp_path, name):
    make, member, reason, options = LEFT_OUT[name]
    done = prepared(make(tmp_path / "source"), tmp_path / "out", **options)
    assert re.search(reason, manifest(tmp_path / "out")[member]["status"])
    assert done["n_kept"] >= 4, "the others stay"


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
    source = write(tmp_path / "m", files)
    os.rename(os.fsencode(source / "-rf"), os.fsencode(source) + b"/Tech\xff")
    done = prepared(source, tmp_path / "out")
    assert done["n_kept"] == 18
    assert done["genres"] == sorted(["音楽", "é", "a'b", "Tech\\udcff", "Techno"])
