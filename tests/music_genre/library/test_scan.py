"""Scans of a small library: rows, errors, tables, and what the next scan processes."""

import csv
import errno
import json
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from music_genre import audio
from music_genre.classifier import BATCH_SIZE, GenreClassifier
from music_genre.errors import InputError
from music_genre.isolation import DecoderPool, run_in_pool
from music_genre.library import decoding, scan, table
from music_genre.library.command import FORMATS
from tests.music_genre.library.conftest import LABELS, Stub, n_part_rows, write_with_ffmpeg
from tests.music_genre.library.endings import end_or_return


def by_path(rows: list[dict]) -> dict[str, dict]:
    return {row["path"]: row for row in rows}


# --- rows -----------------------------------------------------------------------------------


def test_every_file_gets_a_row_as_the_classifier_would_answer(
    tiny_classifier, music, tmp_path, scan_to
):
    classifier = GenreClassifier(tiny_classifier, device="cpu")
    rows = by_path(scan_to(tmp_path / "out.csv", music, classifier=classifier))
    assert len(rows) == 14
    assert {name: row["error"] for name, row in rows.items() if row["error"]} == {
        "letter.mp3": "it is not audio in a format known here, or is damaged",
        "empty.flac": "the file is empty",
        "click.wav": "it is shorter than 0.1 s",
    }
    for i in range(11):
        name = f"album {i % 2}/{i}.{('wav', 'flac', 'ogg')[i % 3]}"
        row, alone = rows[name], classifier(music / name)
        expected = [alone.probabilities[label] for label in classifier.labels]
        found = [row[f"p_{label}"] for label in classifier.labels]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert row["genre"] == alone.genre
        seconds = (0.4 + i) * 16_000 / (16_000, 22_050, 44_100)[i % 3]
        assert row["duration"] == pytest.approx(seconds, abs=0.001) == row["seconds_processed"]
        assert row["lost_seconds"] == 0
        assert 0.9 < row["uncertainty"] <= 1, "the weights are random"


def test_the_three_formats_hold_the_same_table(music, tmp_path, scan_to):
    for suffix in FORMATS:
        scan_to(tmp_path / f"out{suffix}", music)
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    with (tmp_path / "out.csv").open(newline="") as file:
        as_text = list(csv.DictReader(file))
    for text, row in zip(as_text, rows, strict=True):
        for name, value in row.items():
            is_number = isinstance(value, float)
            assert (float(text[name]) if is_number else text[name] or None) == value
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert list(rows[0]) == [
        *("path", "duration", "genre", *(f"p_{label}" for label in LABELS)),
        *("uncertainty", "seconds_processed", "lost_seconds", "model", "revision", "error"),
    ]


def test_a_row_is_the_mean_of_its_windows_and_no_neighbours(tmp_path, noise, scan_to, stub):
    """Files of 6 windows, so that batches hold the end of one and the beginning of another."""
    levels = (0.02, 0.1, 0.25)
    for i, level in enumerate(levels):
        soundfile.write(tmp_path / f"{i}.wav", noise(6, i, level), 16_000)
    rows = scan_to(tmp_path / "out.csv", tmp_path)
    assert stub.batch_sizes == [BATCH_SIZE] * 2, "18 windows; the last batch is filled up"
    for row, level in zip(rows, levels, strict=True):
        loudness = 2 * level * np.sqrt(2 / np.pi)
        assert row["p_jazz"] == pytest.approx(0.1 + loudness, abs=0.01)
        assert row["genre"] == ("blues" if level < 0.2 else "jazz")


def test_a_file_with_sound_in_a_part_only_is_not_silent(tmp_path, noise, scan_to):
    silence = np.zeros(16_000 * (BATCH_SIZE + 4), np.float32)
    for name, parts in {"0": [silence], "1": [silence, noise(0.5)]}.items():
        soundfile.write(tmp_path / f"{name}.wav", np.concatenate(parts), 16_000)
    errors = [row["error"] for row in scan_to(tmp_path / "out.csv", tmp_path)]
    assert errors == ["it is silent", None]


def test_seconds_are_taken_from_the_middle(tmp_path, noise, scan_to):
    soundfile.write(
        tmp_path / "a.wav",
        np.concatenate([noise(2, 0, 0.25), noise(2, 0, 0.01), noise(2, 0, 0.25)]),
        16_000,
    )
    soundfile.write(tmp_path / "b.wav", noise(1), 16_000)
    silence = np.zeros(32_000, np.float32)
    soundfile.write(tmp_path / "c.wav", np.concatenate([noise(2), silence, noise(2)]), 16_000)
    soundfile.write(tmp_path / "d.wav", silence[:16_000], 16_000)
    a, b, c, d = scan_to(tmp_path / "out.csv", tmp_path, seconds=2.0)
    assert (a["duration"], a["seconds_processed"], a["genre"]) == (6, 2, "blues")
    assert (b["duration"], b["seconds_processed"]) == (1, 1)
    assert (c["error"], d["error"]) == ("its middle is silent", "it is silent")


def test_lost_seconds_are_a_column_and_in_the_summary(tmp_path, noise, scan_to):
    soundfile.write(tmp_path / "a.wav", noise(4), 16_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-32_000])
    rows = scan_to(tmp_path / "out.csv", tmp_path)
    assert rows[0]["lost_seconds"] == pytest.approx(1, abs=0.001)
    rows += 2 * [{"path": "b", "genre": "rock"}]
    rows += [{"path": f"{i}.mp3", "error": "it is silent"} for i in range(6)]
    said, *errors = table.summarize(pa.Table.from_pylist(rows)).splitlines()
    assert said == "rock 2, blues 1; 6 with an error; 1.0 s could not be decoded."
    assert errors == [f"  {i}.mp3: it is silent" for i in range(5)], "the first ones"


@pytest.mark.parametrize("kind", ["wv", "tta", "spx"])
def test_rarer_kinds_are_read(kind, tmp_path, noise, scan_to):
    soundfile.write(tmp_path / "source", noise(2), 44_100, format="WAV")
    if not write_with_ffmpeg(tmp_path / "source", tmp_path / f"a.{kind}"):
        pytest.skip(f"no ffmpeg here that writes .{kind}")
    (row,) = scan_to(tmp_path / "out.csv", tmp_path)
    assert row["error"] is None
    assert f"1 .{kind}" in scan_to.said


def write_dsf(path: Path, seconds: float, rate: int = 2_822_400) -> None:
    """A tone as one bit a sample (first-order sigma-delta), as FFmpeg cannot write it."""
    time = np.arange(int(seconds * rate)) / rate
    total = np.floor(np.cumsum(0.5 + 0.2 * np.sin(2 * np.pi * 440 * time)))
    data = np.packbits(np.diff(total, prepend=0) > 0, bitorder="little").tobytes()
    data += bytes(-len(data) % 4096)
    kind = struct.pack("<4sQ6IQ2I", b"fmt ", 52, 1, 0, 1, 1, rate, 1, len(time), 4096, 0)
    body = kind + struct.pack("<4sQ", b"data", 12 + len(data)) + data
    path.write_bytes(struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(body), 0) + body)


def test_a_bit_stream_is_read_although_its_rate_is_high(tmp_path, scan_to):
    write_dsf(tmp_path / "a.dsf", 2)
    (row,) = scan_to(tmp_path / "out.csv", tmp_path)
    assert row["error"] is None
    assert row["duration"] == pytest.approx(2, abs=0.01)
    waveform = audio.decode(tmp_path / "a.dsf", 16_000).waveform
    assert np.abs(np.fft.rfft(waveform[:16_000])).argmax() == 440
    assert waveform.std() == pytest.approx(0.4 / np.sqrt(2), rel=0.02)


# --- the next scan --------------------------------------------------------------------------


def test_the_next_scan_processes_only_new_and_changed_files(library, tmp_path, noise, scan_to):
    output = tmp_path / "out.csv"
    scan_to(output, library)
    before = output.read_bytes()
    assert n_part_rows(output) == 14
    scan_to(output, library)
    assert "14 of them known" in scan_to.said
    assert (n_part_rows(output), output.read_bytes()) == (14, before)
    soundfile.write(library / "new.wav", noise(1), 16_000)
    soundfile.write(library / "letter.mp3", noise(2), 16_000, format="WAV")
    (library / "empty.flac").unlink()
    rows = by_path(scan_to(output, library))
    assert "1 files of earlier scans are not there now" in scan_to.said
    assert n_part_rows(output) == 16
    assert len(rows) == 14
    assert rows["letter.mp3"]["duration"] == 2


def test_a_library_that_moved_keeps_its_rows(library, tmp_path, scan_to, stub):
    output = tmp_path / "out.parquet"
    before = scan_to(output, library)
    moved = library.rename(tmp_path / "elsewhere")
    assert scan_to(output, moved) == before
    assert "14 of them known" in scan_to.said
    (tmp_path / "a link").symlink_to(moved)
    assert scan_to(output, tmp_path / "a link") == before


def test_a_model_is_known_by_its_revision_and_not_by_its_place(tmp_path):
    on_hub = {"model_id": "you/model", "commit": "abc", "labels": ["a", "b"]}
    on_hub |= {"window_seconds": 5.0, "is_demonstration": False}
    settings = scan.settings_of(SimpleNamespace(**on_hub), None)
    assert settings["revision"] == "abc"
    table.check_settings(tmp_path, settings)
    table.check_settings(tmp_path, settings | {"model": "a/copy"})
    message = "by a/copy with revision abc, and .*: give --revision abc for the same model, another"
    with pytest.raises(InputError, match=message):
        table.check_settings(tmp_path, settings | {"revision": "def"})


def test_another_folder_does_not_replace_the_table_of_the_library(
    library, tmp_path, noise, scan_to
):
    output = tmp_path / "out.jsonl"
    scan_to(output, library)
    before = output.read_bytes()
    for root in (library / "album 1", library.parent):
        with pytest.raises(InputError, match="name the same folders"):
            scan_to(output, root)
    assert output.read_bytes() == before
    soundfile.write(library / "new.wav", noise(2), 16_000)
    assert len(scan_to(output, library / "album 1", library / "new.wav")) == 6, "as before, below"
    scan_to(tmp_path / "one.jsonl", library / "album 1" / "1.flac")
    with pytest.raises(InputError, match="None of the table's 1 files is in"):
        scan_to(tmp_path / "one.jsonl", library / "new.wav")


def test_times_that_shifted_cost_no_pass_of_the_model(library, tmp_path, scan_to, stub):
    output = tmp_path / "out.csv"
    before = scan_to(output, library)
    for path in filter(Path.is_file, library.rglob("*")):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 3600 * 10**9))
    stub.batch_sizes.clear()
    assert scan_to(output, library) == before
    assert stub.batch_sizes == []
    assert "11 files had another time, but the same content" in scan_to.said
    scan_to(output, library)
    assert "14 of them known" in scan_to.said


def test_a_file_edited_in_place_at_the_same_size_is_processed_again(tmp_path, noise, scan_to):
    path, output = tmp_path / "a.wav", tmp_path / "out.csv"
    soundfile.write(path, noise(2, level=0.01), 16_000)
    (before,) = scan_to(output, tmp_path)
    size = path.stat().st_size
    soundfile.write(path, noise(2, level=0.25), 16_000)
    os.utime(path, ns=(0, 0))
    assert path.stat().st_size == size
    (after,) = scan_to(output, tmp_path)
    assert (before["genre"], after["genre"]) == ("blues", "jazz")


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path, noise, scan_to, monkeypatch):
    soundfile.write(tmp_path / "far.wav", noise(1), 16_000)
    output = tmp_path / "out.csv"

    def refuse(source):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "sha256_of", refuse)
        for n in (1, 2):
            (row,) = scan_to(output, tmp_path)
            assert row["error"] == "it cannot be read: Input/output error"
            assert n_part_rows(output) == n
    (row,) = scan_to(output, tmp_path)
    assert row["genre"]


def test_rows_of_other_settings_are_refused(music, tmp_path, scan_to):
    output = tmp_path / "out.csv"
    scan_to(output, music)
    written = output.read_bytes()
    message = r"you/stub with seconds all of each file, and.* 2\.0: give another --output"
    with pytest.raises(InputError, match=message):
        scan_to(output, music, seconds=2.0)
    assert output.read_bytes() == written


def test_what_is_damaged_is_named(music, tmp_path, scan_to):
    parts = tmp_path / "out.csv.parts"
    scan_to(tmp_path / "out.csv", music)
    (part,) = parts.glob("*.parquet")
    data = part.read_bytes()
    for damaged in (data[:-9], data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :]):
        part.write_bytes(damaged)
        with pytest.raises(InputError, match=f"A file in {parts} is damaged .*delete it"):
            scan_to(tmp_path / "out.csv", music)
    part.write_bytes(b"")
    with pytest.raises(InputError, match=part.name):
        scan_to(tmp_path / "out.csv", music)
    (parts / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings\.json is damaged: delete .*out\.csv\.parts"):
        scan_to(tmp_path / "out.csv", music)


def test_the_last_part_counts(tmp_path):
    schema = table.schema_of(LABELS)
    for n in range(30):
        with table.PartWriter(tmp_path, schema) as writer:
            for path in (f"{n}.mp3", f"{n + 1}.mp3"):
                writer.append({"path": path, "size": n})
    rows = {row["path"]: row["size"] for row in table.read_rows(tmp_path, LABELS).to_pylist()}
    assert rows == {f"{n}.mp3": n for n in range(30)} | {"30.mp3": 29}


def test_a_slow_scan_keeps_its_rows_too(tmp_path):
    writer = table.PartWriter(tmp_path, table.schema_of(LABELS))
    writer._began -= table.PART_SECONDS
    for path in ("a.mp3", "of the next part.mp3"):
        writer.append({"path": path})
    assert len(list(tmp_path.iterdir())) == 1


def test_a_local_model_that_was_retrained_is_another_one_and_a_demonstration_is_known(tmp_path):
    stub, revisions = Stub(), set()
    stub.model_id, stub.commit = str(tmp_path), None
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        for content in ("before", "after"):
            (tmp_path / name).write_text(content)
            settings = scan.settings_of(stub, None)
            revisions.add(settings["revision"])
    assert len(revisions) == 6 and not settings["is_demonstration"]
    stub.is_demonstration = True
    assert scan.settings_of(stub, None)["is_demonstration"]


# --- what ends a decoder --------------------------------------------------------------------


def test_a_file_that_ends_its_decoder_costs_that_file():
    calls = [(name, (name,)) for name in ["a", "crash", "b", "odd", "c"]]
    with DecoderPool(2) as pool:
        outcomes = run_in_pool(pool, end_or_return, calls, timeout=60)
        found = {name: str(value) for name, value in outcomes}
    assert found == {
        **{name: name for name in "abc"},
        "crash": "its decoder crashed (SIGSEGV)",
        "odd": "it cannot be decoded (KeyError: 'moov')",
    }
