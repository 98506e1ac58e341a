"""Scans of a small library: rows, errors, tables, and what the next scan processes."""

import csv
import itertools
import json
import os
import random
import shutil
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from data_prep.gtzan import GENRES
from music_genre import decoder_pool
from music_genre import old_audio as audio
from music_genre.decoder_pool import Decoders
from music_genre.errors import InputError
from music_genre.library import batches, table
from music_genre.library import scan as scanning
from music_genre.library.table import FORMATS
from tests.failing_decoders import ENVIRONMENT, beginning


def scan(classifier, music: Path, output: Path, seconds: float | None = None) -> list[dict]:
    return list(scanning.scan(classifier, [music], output, seconds))


class Stub:
    """A classifier of two labels that knows nothing; it counts the windows of each batch."""

    feature_extractor = SimpleNamespace(sampling_rate=16_000)
    window_seconds = 1.0

    def __init__(self) -> None:
        self.batch_sizes = []

    def window_probabilities(self, cuts: list[np.ndarray]) -> np.ndarray:
        self.batch_sizes.append(len(cuts))
        return np.full((len(cuts), 2), 0.5)


def n_parts_rows(output: Path) -> int:
    parts = Path(f"{output}.parts").glob("*.jsonl")
    return sum(len(part.read_bytes().splitlines()) for part in parts)


def test_every_file_gets_a_row_and_a_broken_one_an_error(classifier, music, tmp_path):
    rows = {Path(row["path"]).name: row for row in scan(classifier, music, tmp_path / "out.csv")}
    assert len(rows) == 14
    assert {name: row["error"] for name, row in rows.items() if row["error"]} == {
        "letter.mp3": "it is not audio in a format known here, or is damaged",
        "empty.flac": "the file is empty",
        "click.wav": "it is shorter than 0.1 s",
    }
    for i in range(11):
        row = rows[f"{i}.{('wav', 'flac', 'ogg')[i % 3]}"]
        alone = classifier(row["path"])
        expected = [alone.probabilities[label] for label in classifier.labels]
        np.testing.assert_allclose(row["probabilities"], expected, atol=2e-6)
        assert row["genre"] == alone.genre
        assert row["duration"] == row["seconds_processed"]
        seconds = (0.4 + i) * 16_000 / (16_000, 22_050, 44_100)[i % 3]
        assert row["duration"] == pytest.approx(seconds, abs=0.001)
        assert 0.9 < row["uncertainty"] <= 1, "the weights are random"


def test_the_three_formats_hold_the_same_table(classifier, music, tmp_path):
    for suffix in FORMATS:
        scan(classifier, music, tmp_path / f"out{suffix}")
    tables = [
        parquet.read_table(tmp_path / "out.parquet").to_pylist(),
        [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()],
    ]
    assert tables[0] == tables[1]
    with (tmp_path / "out.csv").open(newline="") as file:
        as_text = list(csv.DictReader(file))
    texts = [{k: "" if v is None else str(v) for k, v in row.items()} for row in tables[0]]
    assert as_text == texts
    assert [row["path"] for row in as_text] == sorted(row["path"] for row in as_text)
    assert list(as_text[0]) == [
        *("path", "duration", "genre", *(f"p_{genre}" for genre in GENRES)),
        *("uncertainty", "seconds_processed", "model", "revision", "error"),
    ]


def test_the_next_scan_processes_only_new_and_changed_files(classifier, music, tmp_path, noise):
    ours, output = shutil.copytree(music, tmp_path / "music"), tmp_path / "out.csv"
    scan(classifier, ours, output)
    before = output.read_text()
    assert n_parts_rows(output) == 14
    scan(classifier, ours, output)
    assert n_parts_rows(output) == 14
    assert output.read_text() == before
    soundfile.write(ours / "new.wav", noise(1), 16_000)
    soundfile.write(ours / "letter.mp3", noise(2), 16_000, format="WAV")
    (ours / "empty.flac").unlink()
    rows = {Path(row["path"]).name: row for row in scan(classifier, ours, output)}
    assert n_parts_rows(output) == 16
    assert len(rows) == 14
    assert rows["letter.mp3"]["duration"] == 2
    assert "new.wav" in rows


def test_a_file_that_could_not_be_read_is_tried_again(classifier, tmp_path):
    ours, output = tmp_path / "music", tmp_path / "out.csv"
    ours.mkdir()
    (ours / "far.wav").symlink_to(tmp_path / "not mounted" / "far.wav")
    (row,) = scan(classifier, ours, output)
    assert row["error"] == "it cannot be read: No such file or directory"
    scan(classifier, ours, output)
    assert n_parts_rows(output) == 2


def test_rows_of_other_settings_are_refused(classifier, music, tmp_path):
    output = tmp_path / "out.csv"
    scan(classifier, music, output)
    table = output.read_bytes()
    with pytest.raises(
        InputError, match=r"seconds all of each file.*seconds 2\.0.*another --output"
    ):
        scan(classifier, music, output, seconds=2.0)
    assert output.read_bytes() == table


def test_only_the_middle_is_processed(classifier, tmp_path, noise):
    short = noise(1)
    long = np.concatenate([noise(3, 1), noise(3, 2), noise(3, 3)])
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "a.wav", long, 16_000)
    soundfile.write(tmp_path / "music" / "b.wav", short, 16_000)
    a, b = scan(classifier, tmp_path / "music", tmp_path / "out.csv", seconds=3.0)
    assert (a["duration"], a["seconds_processed"]) == (9, 3)
    assert (b["duration"], b["seconds_processed"]) == (1, 1)
    middle = audio.decode(tmp_path / "music" / "a.wav", 60)[0][3 * 16_000 : 6 * 16_000]
    expected = classifier(middle, 16_000).probabilities
    np.testing.assert_allclose(a["probabilities"], list(expected.values()), atol=2e-6)


def test_a_long_file_is_decoded_twice_and_gets_the_same_row(
    classifier, music, tmp_path, monkeypatch
):
    whole = scan(classifier, music, tmp_path / "whole.csv")
    monkeypatch.setattr(audio, "KEEP_SECONDS", 2.0)
    for a, b in zip(whole, scan(classifier, music, tmp_path / "streamed.csv"), strict=True):
        assert (a["path"], a["duration"], a["error"]) == (b["path"], b["duration"], b["error"])
        if not a["error"]:
            np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=2e-6)


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path, monkeypatch, noise):
    monkeypatch.setattr(audio, "KEEP_SECONDS", 60.0)
    for minutes in (2, 20):
        path = tmp_path / f"{minutes}.flac"
        soundfile.write(path, np.tile(noise(1), minutes * 60), 16_000)
        tracemalloc.start()
        (prediction,) = batches.classify_files(Stub(), [str(path)])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert prediction.seconds_processed == minutes * 60
        np.testing.assert_allclose(prediction.probabilities, [0.5, 0.5])
        assert peak < 25e6  # bytes: windows and blocks take 4 MB each, 20 minutes would take 77


@pytest.mark.parametrize("keep_seconds", [600.0, 1.0], ids=["kept", "decoded twice"])
def test_silence_gets_an_error_and_no_genre(classifier, tmp_path, monkeypatch, keep_seconds, noise):
    monkeypatch.setattr(audio, "KEEP_SECONDS", keep_seconds)
    (tmp_path / "music").mkdir()
    dither = np.random.default_rng(0).choice([-1, 0, 1], 8 * 16_000).astype(np.int16)
    late = np.concatenate([np.zeros(7 * 16_000), noise(1)])
    soundfile.write(tmp_path / "music" / "a zeros.flac", np.zeros(8 * 16_000), 16_000)
    soundfile.write(tmp_path / "music" / "b dither.wav", dither, 16_000)
    soundfile.write(tmp_path / "music" / "c late music.wav", late, 16_000)
    zeros, dithered, audible = scan(classifier, tmp_path / "music", tmp_path / "out.csv")
    for row in (zeros, dithered):
        assert row["error"] == "it is silent"
        assert row["genre"] is row["probabilities"] is None
    assert audible["error"] is None
    *_, row = scan(classifier, tmp_path / "music", tmp_path / "middle.csv", seconds=2.0)
    assert row["error"] == "its middle is silent"


@pytest.fixture
def failing(monkeypatch):
    """Files fail their decoders that begin so."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    decoders = Decoders(seconds=1, stalled_after=60)
    monkeypatch.setattr(batches, "DECODERS", decoders)
    yield beginning
    decoders.close()


SAID = {
    "abort": "decoding it crashed (signal 6, SIGABRT)",
    "segfault": "decoding it crashed (signal 11, SIGSEGV)",
    "loop": "decoding it took more than 1 s of a processor",
    "8 GB": "decoding it needs more than 1 GB of memory",
    "exit": "decoding it crashed (exit code 0)",
    "bug": "it cannot be decoded (RuntimeError: a bug of the decoder)",
}


def test_files_that_end_their_decoders_cost_nothing_else(
    classifier, failing, tmp_path, noise, capfd
):
    music = tmp_path / "music"
    music.mkdir()
    for i in range(194):
        soundfile.write(music / f"{i:03d}.{('wav', 'flac')[i % 2]}", noise(1, i), 16_000)
    for i, way in enumerate(SAID):
        (music / f"{30 * i:03d} {way}.mp3").write_bytes(failing(way))
    capfd.readouterr()
    rows = scan(classifier, music, tmp_path / "out.csv")
    errors = {Path(row["path"]).stem[4:]: row["error"] for row in rows if row["error"]}
    assert len(rows) == 200 and errors == SAID
    for row in rows[1:3]:
        expected = classifier(row["path"]).probabilities
        np.testing.assert_allclose(row["probabilities"], list(expected.values()), atol=2e-6)
    assert "Traceback" not in capfd.readouterr().err
    scan(classifier, music, tmp_path / "out.csv")
    assert n_parts_rows(tmp_path / "out.csv") == 200, "none is tried again"


def test_a_file_that_stalls_is_tried_again(classifier, failing, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "DECODERS", Decoders(seconds=1, stalled_after=2))
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.mp3").write_bytes(failing("sleep"))
    for n_rows in (1, 2):
        (row,) = scan(classifier, tmp_path / "music", tmp_path / "out.csv")
        assert row["error"] == "nothing came of it for 2 s" and row["is_temporary"]
        assert n_parts_rows(tmp_path / "out.csv") == n_rows


def test_killed_decoders_change_nothing(classifier, failing, tmp_path, noise, monkeypatch):
    music = tmp_path / "music"
    music.mkdir()
    for i in range(100):
        soundfile.write(music / f"{i:03d}.flac", noise(1 + i % 3, i), 22_050)
    scan(classifier, music, tmp_path / "undisturbed.csv")
    send, close_file = decoder_pool._Decoder._send, decoder_pool._Decoder.close_file
    rng, killed, proven = random.Random(0), [], set()

    def remember(decoder):
        close_file(decoder)
        proven.add(decoder)

    def send_and_kill(decoder, request):
        """While it opens the file, or decodes it; one that a file was given again is spared."""
        send(decoder, request)
        if len(killed) < 20 and decoder in proven and rng.random() < 0.3:
            decoder._process.kill()
            killed.append(decoder)

    monkeypatch.setattr(decoder_pool._Decoder, "close_file", remember)
    monkeypatch.setattr(decoder_pool._Decoder, "_send", send_and_kill)
    scan(classifier, music, tmp_path / "disturbed.csv")
    assert len(killed) == 20
    disturbed, undisturbed = (tmp_path / f"{name}.csv" for name in ("disturbed", "undisturbed"))
    assert disturbed.read_text() == undisturbed.read_text()


def test_a_name_that_is_not_utf8_is_escaped_in_the_table(classifier, tmp_path, noise):
    (tmp_path / "music").mkdir()
    name = os.fsencode(tmp_path / "music") + b"/na\xefve.wav"
    with open(name, "wb") as file:
        soundfile.write(file, noise(1), 16_000, format="WAV")
    for suffix in FORMATS:
        scan(classifier, tmp_path / "music", tmp_path / f"out{suffix}")
    table = (tmp_path / "out.csv").read_text()
    assert "na\\xefve.wav,1.0," in table


def test_an_incomplete_row_is_made_again(classifier, music, tmp_path):
    output = tmp_path / "out.csv"
    scan(classifier, music, output)
    table = output.read_bytes()
    (part,) = Path(f"{output}.parts").glob("*.jsonl")
    part.write_bytes(part.read_bytes()[:-40])
    scan(classifier, music, output)
    assert n_parts_rows(output) == 15
    assert output.read_bytes() == table


def test_a_scan_of_no_files_is_refused(classifier, tmp_path):
    with pytest.raises(InputError, match="no audio files"):
        scan(classifier, tmp_path, tmp_path / "out.csv")
    with pytest.raises(InputError, match="no file or folder"):
        scan(classifier, tmp_path / "nowhere", tmp_path / "out.csv")


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("the old table")
    with pytest.raises(KeyError), table.replacing(output) as file:
        file.write(b"half of the new")
        raise KeyError
    assert output.read_text() == "the old table"


def test_a_header_that_claims_too_much_does_not_hide_the_audio(classifier, tmp_path, noise):
    (tmp_path / "music").mkdir()
    path = tmp_path / "music" / "a.flac"
    soundfile.write(path, noise(2), 16_000)
    data = bytearray(path.read_bytes())
    data[22:26] = (100 * 16_000).to_bytes(4, "big")  # STREAMINFO: the number of samples
    path.write_bytes(data)
    assert soundfile.info(path).duration == 100
    (row,) = scan(classifier, tmp_path / "music", tmp_path / "out.csv", seconds=1.0)
    assert row["error"] is None
    assert row["seconds_processed"] == 1


def test_closing_the_generator_ends_its_threads(tmp_path, noise):
    soundfile.write(tmp_path / "a.wav", noise(1), 16_000)
    endless = itertools.repeat(str(tmp_path / "a.wav"))
    counts = []
    for _ in range(2):
        predictions = batches.classify_files(Stub(), endless)
        next(predictions)
        predictions.close()
        counts.append(threading.active_count())
    assert counts[0] == counts[1], "but for the one that watches the decoders"


def test_all_batches_have_one_size_so_that_results_do_not_depend_on_neighbours(tmp_path, noise):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", noise(6), 16_000)
    stub = Stub()
    predictions = list(batches.classify_files(stub, map(str, tmp_path.glob("*.wav"))))
    assert [prediction.error for prediction in predictions] == [None] * 3
    assert stub.batch_sizes == [batches.BATCH_SIZE] * 2, "18 windows"


def test_a_file_that_shrinks_while_it_is_read_gets_an_error(tmp_path, monkeypatch, noise):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(8), 16_000)
    monkeypatch.setattr(audio, "KEEP_SECONDS", 1.0)
    decode = audio.decode_in_blocks

    def shrink(*arguments):
        decoded = decode(*arguments)
        soundfile.write(path, noise(2), 16_000)
        return decoded

    monkeypatch.setattr(audio, "decode_in_blocks", shrink)
    (prediction,) = batches.classify_files(Stub(), [str(path)])
    assert prediction.error == "it changed while it was read"
    assert prediction.probabilities is None


def test_hidden_and_unreadable_folders_are_left_out(tmp_path, monkeypatch, capsys):
    for folder in (".trash", "locked", "open"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.mp3").touch()
    scandir = os.scandir

    def refuse(path: str):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files = scanning.find_files([tmp_path])
    assert [Path(file.path).relative_to(tmp_path).as_posix() for file in files] == ["open/a.mp3"]
    assert f"left out {tmp_path}/locked: Permission denied" in capsys.readouterr().err


def test_rows_reach_the_file_at_once(tmp_path):
    with table.LineWriter(tmp_path) as writer:
        writer.append({"path": "/a.mp3"})
        assert json.loads(writer.path.read_text()) == {"path": "/a.mp3"}


def test_a_local_model_that_was_retrained_is_another_model(tmp_path):
    stub = SimpleNamespace(model_id=str(tmp_path), commit=None, window_seconds=1.0, labels=["a"])
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = scanning.settings_of(stub, None)
    table.check_settings(tmp_path / "parts", before)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(InputError, match="revision"):
        table.check_settings(tmp_path / "parts", scanning.settings_of(stub, None))
