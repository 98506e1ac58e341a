"""Scans of small libraries; killed at random moments, they come to the same table.

The suite kills a few times; for many: python tests/music_genre/test_library.py MODEL FOLDER 20
"""

import csv
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from data_prep.gtzan import GENRES
from music_genre import audio
from music_genre.errors import InputError
from music_genre.library import batches
from music_genre.library import scan as scanning
from music_genre.library.results import FORMATS

ROOT = Path(__file__).resolve().parents[3]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    n_samples = int(seconds * 16_000)
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """14 files in folders, of which one is empty, one no music and one too short."""
    folder = tmp_path_factory.mktemp("music")
    for i in range(11):
        path = folder / f"album {i % 2}" / f"{i}.{('wav', 'flac', 'ogg')[i % 3]}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(0.4 + i, seed=i), (16_000, 22_050, 44_100)[i % 3])
    (folder / "letter.mp3").write_bytes(b"Dear friend, this is no music.\n" * 50)
    (folder / "empty.flac").touch()
    soundfile.write(folder / "click.wav", noise(0.01), 16_000)
    (folder / "cover.jpg").write_bytes(b"no audio file")
    (folder / ".hidden.wav").write_bytes(b"not looked at")
    return folder


@pytest.fixture(scope="module")
def classifier(tiny_classifier):
    from music_genre import GenreClassifier

    return GenreClassifier(tiny_classifier, device="cpu")


def scan(classifier, music: Path, output: Path, seconds: float | None = None) -> list[dict]:
    return list(scanning.scan(classifier, [music], output, seconds))


def n_parts_rows(output: Path) -> int:
    parts = Path(f"{output}.parts").glob("*.jsonl")
    return sum(len(part.read_bytes().splitlines()) for part in parts)


def test_a_row_for_every_file_also_for_the_broken_ones(classifier, music, tmp_path):
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
        assert row["duration"] == row["seconds_heard"]
        seconds = (0.4 + i) * 16_000 / (16_000, 22_050, 44_100)[i % 3]
        assert row["duration"] == pytest.approx(seconds, abs=0.001)
        assert 0.9 < row["uncertainty"] <= 1, "random weights know nothing"


def test_the_three_tables_say_the_same(classifier, music, tmp_path):
    from pyarrow import parquet

    tables = []
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
        *("uncertainty", "seconds_heard", "model", "revision", "error"),
    ]


def test_the_next_scan_hears_only_what_is_new_or_changed(classifier, music, tmp_path):
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


def test_rows_of_another_model_are_not_mixed_in(classifier, music, tmp_path):
    output = tmp_path / "out.csv"
    scan(classifier, music, output)
    table = output.read_bytes()
    with pytest.raises(InputError, match=r"seconds None.*seconds 2\.0.*another --output"):
        scan(classifier, music, output, seconds=2.0)
    assert output.read_bytes() == table


def test_only_the_middle_is_heard(classifier, tmp_path):
    loud = noise(9)
    quiet = np.concatenate([noise(3, 1), noise(3, 2), noise(3, 3)])
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "a.wav", quiet, 16_000)
    soundfile.write(tmp_path / "music" / "b.wav", loud[:16_000], 16_000)
    a, b = scan(classifier, tmp_path / "music", tmp_path / "out.csv", seconds=3.0)
    assert (a["duration"], a["seconds_heard"]) == (9, 3)
    assert (b["duration"], b["seconds_heard"]) == (1, 1)
    middle = audio.decode(tmp_path / "music" / "a.wav", 60)[0][3 * 16_000 : 6 * 16_000]
    expected = classifier(middle, 16_000).probabilities
    np.testing.assert_allclose(a["probabilities"], list(expected.values()), atol=2e-6)


def test_a_long_file_is_decoded_twice_and_answers_the_same(
    classifier, music, tmp_path, monkeypatch
):
    whole = scan(classifier, music, tmp_path / "whole.csv")
    monkeypatch.setattr(batches, "KEEP_SECONDS", 2.0)
    monkeypatch.setattr(audio, "BLOCK", 16_000)
    for a, b in zip(whole, scan(classifier, music, tmp_path / "streamed.csv"), strict=True):
        assert (a["path"], a["duration"], a["error"]) == (b["path"], b["duration"], b["error"])
        if not a["error"]:
            np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=2e-6)


def test_memory_does_not_grow_with_a_files_length(tmp_path, monkeypatch):
    from types import SimpleNamespace

    stub = SimpleNamespace(
        feature_extractor=SimpleNamespace(sampling_rate=16_000),
        window_seconds=1.0,
        window_probabilities=lambda cuts: np.full((len(cuts), 2), 0.5),
    )
    monkeypatch.setattr(batches, "KEEP_SECONDS", 60.0)
    monkeypatch.setattr(audio, "BLOCK", 2**16)
    peaks = []
    for minutes in (2, 20):
        path = tmp_path / f"{minutes}.flac"
        soundfile.write(path, np.zeros(minutes * 60 * 16_000, np.int16), 16_000)
        tracemalloc.start()
        (answer,) = batches.hear(stub, [str(path)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert answer.seconds_heard == minutes * 60
        np.testing.assert_allclose(answer.probabilities, [0.5, 0.5])
    assert peaks[1] < 1.2 * peaks[0]


def test_a_decoder_that_fails_in_an_unknown_way_ends_one_file_only(
    classifier, music, tmp_path, monkeypatch
):
    open_audio = audio.open_audio

    def fails(source):
        if str(source).endswith("3.wav"):
            raise RuntimeError("a bug of the decoder")
        return open_audio(source)

    monkeypatch.setattr(audio, "open_audio", fails)
    errors = [row["error"] for row in scan(classifier, music, tmp_path / "out.csv")]
    assert "it cannot be decoded (RuntimeError: a bug of the decoder)" in errors
    assert errors.count(None) == 10


def test_names_that_are_no_text_are_scanned_and_told(classifier, tmp_path):
    (tmp_path / "music").mkdir()
    name = os.fsencode(tmp_path / "music") + b"/na\xefve.wav"
    with open(name, "wb") as file:
        soundfile.write(file, noise(1), 16_000, format="WAV")
    for suffix in FORMATS:
        scan(classifier, tmp_path / "music", tmp_path / f"out{suffix}")
    table = (tmp_path / "out.csv").read_text()
    assert "na\\xefve.wav,1.0," in table


def test_a_torn_row_is_no_row(classifier, music, tmp_path):
    output = tmp_path / "out.csv"
    scan(classifier, music, output)
    table = output.read_bytes()
    (part,) = Path(f"{output}.parts").glob("*.jsonl")
    part.write_bytes(part.read_bytes()[:-40])
    scan(classifier, music, output)
    assert n_parts_rows(output) == 15
    assert output.read_bytes() == table


def test_nothing_to_hear(classifier, tmp_path):
    with pytest.raises(InputError, match="no audio files"):
        scan(classifier, tmp_path, tmp_path / "out.csv")
    with pytest.raises(InputError, match="no file or folder"):
        scan(classifier, tmp_path / "nowhere", tmp_path / "out.csv")


def test_shares_take_about_as_long(tmp_path):
    lengths = [50, 3, 3, 40, 10, 1, 1, 1, 1, 30]
    for i, seconds in enumerate(lengths):
        soundfile.write(tmp_path / f"{i}.wav", noise(seconds), 16_000)
    files = scanning.find_files([tmp_path])
    shares = scanning.share(files, 3, seconds=None)
    assert sorted(file for share in shares for file in share) == files
    loads = [sum(soundfile.info(file.path).duration for file in share) for share in shares]
    assert max(loads) <= 50, "the longest file alone takes so long"
    evenly = [len(share) for share in scanning.share(files, 2, seconds=1.0)]
    assert evenly == [5, 5], "no file takes longer than what is heard of it"


# --- the command ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--output a.parquet", "name what to hear"),
        ("music --output a.parquet", "name what to hear"),
        ("music --model m --output a.xlsx", "--output ends in one of .parquet, .csv, .jsonl"),
        ("music --model m --output a.csv --seconds 0", "--seconds is 1 or more"),
        ("music --model m --output a.csv --min_confidence 60", "between 0 and 1"),
        ("music --model m --output a.csv --yes", "--yes says that --write-tags"),
        ("music --output a.csv --undo", "--undo goes with --output alone"),
    ],
)
def test_a_wrong_argument_says_what_to_do(monkeypatch, capsys, arguments, message):
    from music_genre.library.__main__ import parse_arguments

    monkeypatch.setattr(sys, "argv", ["music_genre", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        parse_arguments()
    assert message in capsys.readouterr().err


def test_the_command_tags_and_undoes(tiny_classifier, music, tmp_path, monkeypatch, capsys):
    import mutagen

    from music_genre.library.__main__ import main

    ours, output = shutil.copytree(music, tmp_path / "music"), tmp_path / "out.csv"
    flac = next(ours.glob("album */*.flac"))
    before = flac.read_bytes()

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["music_genre", "--output", str(output), *arguments])
        main()
        return capsys.readouterr().out

    hear = [str(ours), "--model", str(tiny_classifier), "--device", "cpu", "--min_confidence", "0"]
    assert "No file was changed" in run(*hear, "--write-tags")
    assert "7 written, 0 had it, 0 left" in run(*hear, "--write-tags", "--yes")
    with output.open(newline="") as file:
        genres = {row["path"]: row["genre"] for row in csv.DictReader(file)}
    assert mutagen.File(flac)["genre"] == [genres[str(flac)]]
    table = output.read_bytes()
    assert "14 audio files, 14 of them known" in run(*hear), "a tag makes no file new"
    assert output.read_bytes() == table
    assert "7 files are what they were" in run("--undo")
    assert flac.read_bytes() == before
    assert "14 of them known" in run(*hear)


def test_help_comes_without_torch():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from music_genre.library.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False False"


# --- killed, and in several processes ---------------------------------------------------------


def command(model: Path, music: Path, output: Path) -> list[str]:
    arguments = [str(music), "--model", str(model), "--output", str(output), "--device", "cpu"]
    return ["-m", "music_genre.library", *arguments]


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> None:
    errors = process.communicate()[1]
    assert process.returncode == 0, errors[-3000:]


def n_rows_of_any(output: Path) -> int:
    return n_parts_rows(output) if Path(f"{output}.parts").is_dir() else 0


def kill_and_go_on(model: Path, music: Path, folder: Path, n_kills: int, seed: int = 0) -> str:
    """Kill after random numbers of rows, go on, and compare with a scan left alone."""
    whole, output = folder / "whole.csv", folder / "killed.csv"
    finish(start([sys.executable, *command(model, music, whole)]))
    n_files = len(scanning.find_files([music]))
    ends = sorted(random.Random(seed).sample(range(n_files), min(n_kills, n_files)))
    n_struck = 0
    for end in ends:
        process = start([sys.executable, *command(model, music, output)])
        while process.poll() is None and n_rows_of_any(output) < end + 1:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        n_struck += process.returncode == -signal.SIGKILL
        assert not output.exists() or output.read_bytes() == whole.read_bytes()
    finish(start([sys.executable, *command(model, music, output)]))
    assert output.read_bytes() == whole.read_bytes()
    repeated = n_parts_rows(output) - n_files
    return f"{n_struck} kills struck; {n_files} rows equal byte for byte; {repeated} written twice"


def test_killed_and_continued_the_table_is_the_same(tiny_classifier, music, tmp_path):
    report = kill_and_go_on(tiny_classifier, music, tmp_path, n_kills=2)
    assert report.endswith("0 written twice")


def launch(n_machines: int, model: Path, music: Path, output: Path) -> list[subprocess.Popen]:
    """Two processes by accelerate: of one launcher, or of two that meet as two machines do."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    meeting = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    text = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    text += ["--num_processes", "2", "--num_machines", str(n_machines), *meeting]
    return [
        start([*text, "--machine_rank", str(rank), *command(model, music, output)])
        for rank in range(n_machines)
    ]


def kill_second_process(output: Path, launchers: list[subprocess.Popen]) -> None:
    """As soon as it hears; its process id is in the name of its part."""
    parts = []
    while not parts:
        assert all(process.poll() is None for process in launchers)
        parts = list(Path(f"{output}.parts").glob("*-1-*.jsonl"))
        time.sleep(0.005)
    os.kill(int(parts[0].stem.rsplit("-", 1)[1]), signal.SIGKILL)


def assert_same(table: Path, other: Path) -> None:
    """The same rows; probabilities up to what another number of threads makes of them."""
    with table.open(newline="") as one, other.open(newline="") as two:
        for a, b in zip(csv.DictReader(one), csv.DictReader(two), strict=True):
            for key, value in a.items():
                if value != b[key]:
                    assert float(value) == pytest.approx(float(b[key]), abs=2e-6), key


def kill_one_of_two_and_go_on(n_machines: int, model: Path, music: Path, output: Path) -> str:
    launchers = launch(n_machines, model, music, output)
    kill_second_process(output, launchers)
    codes = [(process.communicate(), process.returncode)[1] for process in launchers]
    assert all(codes), "each says that something is missing"
    assert not output.exists()
    n_kept = n_parts_rows(output)
    began = time.monotonic()
    for process in launch(n_machines, model, music, output):
        finish(process)
    seconds = time.monotonic() - began
    return f"{n_machines} launchers: {n_kept} rows kept, then finished in {seconds:.0f} s"


def test_one_of_two_processes_is_killed_and_two_go_on(classifier, tiny_classifier, music, tmp_path):
    alone, output = tmp_path / "alone.csv", tmp_path / "two.csv"
    scan(classifier, music, alone)
    kill_one_of_two_and_go_on(1, tiny_classifier, music, output)
    assert n_parts_rows(output) == 14
    assert_same(alone, output)


if __name__ == "__main__":
    model, music, n_kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as name:
        print(kill_and_go_on(model, music, Path(name), n_kills), flush=True)
        for n_machines in (1, 2):
            table = Path(name, f"{n_machines}.csv")
            print(kill_one_of_two_and_go_on(n_machines, model, music, table), flush=True)
            assert_same(Path(name, "whole.csv"), table)
            print("the table is the same", flush=True)
