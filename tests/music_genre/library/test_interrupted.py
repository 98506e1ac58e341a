"""Scans that are killed, in one process and in two, continue to the same table."""

import csv
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import soundfile

from music_genre.errors import InputError
from music_genre.library import scan as scanning
from music_genre.library import shards
from music_genre.library.journal import Journal
from music_genre.library.table import File, LineWriter
from tests import forked

# Runs the command, and kills process RANK as soon as it has written n rows.
KILLER = """
import os, signal, sys
from music_genre.library import __main__, table

rank, n_left = sys.argv.pop(1), int(sys.argv.pop(1))
append = table.LineWriter.append

def append_and_die(self, row):
    global n_left
    line = append(self, row)
    n_left -= "genre" in row
    if n_left == 0 and os.environ.get("RANK", "0") == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    return line

table.LineWriter.append = append_and_die
__main__.main()
"""
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--main_process_port", "0"]  # any free one


def variables(root: Path, rank: str | None = None) -> dict[str, str]:
    """rank: of two processes, what the launcher sets for this one."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    if rank:
        own |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return os.environ | own


def run(root: Path, command: list) -> subprocess.CompletedProcess:
    return forked.run(command, variables(root))


def arguments(model: Path, music: Path, output: Path) -> list:
    return [music, "--model", model, "--output", output, "--device", "cpu"]


def paths_with_a_row(output: Path) -> list[str]:
    """Of every row on the disk, in any order."""
    parts = Path(f"{output}.parts").glob("*.jsonl")
    return [json.loads(line)["path"] for part in parts for line in part.read_text().splitlines()]


def test_a_killed_scan_continues_and_the_table_is_the_same(tiny_classifier, music, root, tmp_path):
    killer, output, whole = tmp_path / "killer.py", tmp_path / "killed.csv", tmp_path / "whole.csv"
    killer.write_text(KILLER)
    n_files = len(scanning.find_files([music]))
    result = run(root, [killer, 0, 5, *arguments(tiny_classifier, music, output)])
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    assert not output.exists()
    assert len(paths_with_a_row(output)) == 5, "the rows that were written are kept"
    for table in (output, whole):
        result = run(root, ["-m", "music_genre.library", *arguments(tiny_classifier, music, table)])
        assert result.returncode == 0, result.stderr[-3000:]
    assert output.read_bytes() == whole.read_bytes()
    assert len(paths_with_a_row(output)) == n_files, "no file was processed twice"


def assert_same(table: Path, other: Path) -> None:
    """The same rows; probabilities up to the rounding of another number of threads."""
    with table.open(newline="") as one, other.open(newline="") as two:
        for a, b in zip(csv.DictReader(one), csv.DictReader(two), strict=True):
            for key, value in a.items():
                if value != b[key]:
                    assert float(value) == pytest.approx(float(b[key]), abs=2e-6), key


def test_one_of_two_processes_is_killed_and_two_continue(
    classifier, tiny_classifier, music, root, tmp_path
):
    killer, output, alone = tmp_path / "killer.py", tmp_path / "two.csv", tmp_path / "alone.csv"
    killer.write_text(KILLER)
    options = arguments(tiny_classifier, music, output)
    said = tmp_path / "said.txt"
    first, second = (
        forked.start([killer, 1, 1, *options], said, said, variables(root, rank)) for rank in "01"
    )
    second.join()
    assert second.exitcode == -signal.SIGKILL, said.read_text()[-3000:]
    first.terminate()  # as the launcher does then
    first.join()
    assert not (tmp_path / "two-00001-of-00002.csv").exists()
    assert any("-00001-of-" in part.name for part in Path(f"{output}.parts").glob("*.jsonl"))
    result = run(root, [*LAUNCH, "-m", "music_genre.library", *options])
    assert result.returncode == 0, result.stderr[-3000:]
    assert sorted(paths_with_a_row(output)) == sorted(f.path for f in scanning.find_files([music]))
    assert shards.merge(output) == 2
    scanning.scan(classifier, [music], alone)
    assert_same(alone, output)


# Scans a folder three times with a classifier that knows nothing; the process ends at one file.
DYING = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from music_genre.library import batches, scan

class Stub:
    feature_extractor = SimpleNamespace(sampling_rate=16_000)
    window_seconds, model_id, commit, labels = 1.0, "stub", "c0ffee", ["jazz", "rock"]

    def window_probabilities(self, cuts):
        return np.full((len(cuts), 2), 0.5)

decode_file = batches._Decoder._decode_file

def die(decoder, path, n_tries):
    if "deadly" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode_file(decoder, path, n_tries)

batches._Decoder._decode_file = die
music, output = map(Path, sys.argv[1:])
for _ in range(3):
    child = os.fork()  # the imports take seconds
    if not child:
        scan.scan(Stub(), [music], output)
        sys.stdout.flush()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    rows = sum(part.read_bytes().count(b"genre") for part in Path(f"{output}.parts").glob("*l"))
    print("ended", os.waitstatus_to_exitcode(status), rows, flush=True)
"""


def test_a_file_that_ends_the_whole_scan_does_so_twice(tmp_path, root, noise):
    music, output, script = tmp_path / "music", tmp_path / "out.csv", tmp_path / "dying.py"
    music.mkdir()
    script.write_text(DYING)
    for name in ("0", "1 deadly", *"23456789"):
        soundfile.write(music / f"{name}.wav", noise(1), 16_000)
    result = run(root, [script, music, output])
    assert result.returncode == 0, result.stderr[-3000:]
    ended = [line.split()[1:] for line in result.stdout.splitlines() if line.startswith("ended")]
    assert [code for code, _ in ended] == ["-9", "-9", "0"]
    assert int(ended[1][1]) >= 8, "in the second scan the others came first"
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["1 deadly.wav"]
    assert "again when it was processed alone" in rows[1]["error"]
    assert not list(Path(f"{output}.parts").glob("*.started"))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InputError])
def test_a_scan_that_is_stopped_suspects_no_file(classifier, music, tmp_path, monkeypatch, stop):
    def append(writer: LineWriter, entry: dict) -> bytes:
        if "genre" in entry:
            raise stop
        return append_line(writer, entry)

    append_line = LineWriter.append
    with monkeypatch.context() as patch:
        patch.setattr(LineWriter, "append", append)
        with pytest.raises(stop):
            scanning.scan(classifier, [music], tmp_path / "out.csv")
    assert not list((tmp_path / "out.csv.parts").glob("*.started"))


def test_a_journal_knows_what_began_and_did_not_end(tmp_path):
    files = [File(f"/{name}.mp3", 1, 2) for name in "abcd"]

    def crashed(shard: str) -> Journal:
        journal = Journal(tmp_path, shard)
        assert list(journal.starting(files[:2])) == ["/a.mp3", "/b.mp3"]
        journal.end("/a.mp3")
        return journal

    crashed("00000-of-00002")
    crashed("00001-of-00003")
    assert Journal(tmp_path, "00001-of-00002").interrupted == {"/b.mp3": False}, "of 3 shards"
    with Journal(tmp_path, "00000-of-00002") as journal:
        assert journal.interrupted == {"/b.mp3": False}
        assert list(journal.starting(files[1:2], is_alone=True)) == ["/b.mp3"]
    assert not list(tmp_path.glob("*-00000-of-00002-*")), "its own and the one before"
    list(Journal(tmp_path, "00000-of-00002").starting(files[3:], is_alone=True))
    part = next(tmp_path.glob("*-00000-of-00002-*"))
    part.write_bytes(part.read_bytes() + b'{"started": "/c.m')
    assert Journal(tmp_path, "00000-of-00002").interrupted["/d.mp3"]
