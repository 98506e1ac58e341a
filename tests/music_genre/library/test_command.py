"""`music-genre classify`, `scan` and `tag`: options, what they print, and how they end."""

import csv
import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mutagen
import pytest
import soundfile
from pyarrow import parquet

from music_genre import __main__ as command
from music_genre.library import table

SCAN = "scan . --model m --output a.csv"
TAG = "tag . --table a.csv"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: verb"),
        ("scan --model m --output a.csv", "required: PATH"),
        ("scan nowhere --model m --output a.csv", "PATH: there is no file or folder nowhere"),
        ("scan . --output a.csv", "required: --model"),
        ("scan . --model m --output a.xlsx", "ends in none of .parquet, .csv, .jsonl"),
        (f"{SCAN} --seconds 0", "must be between 1 and 7200"),
        (f"{TAG} --min_confidence 60", "between 0 and 1"),
        (f"{TAG} --yes --undo", "not allowed with"),
        (f"{TAG} --undo --exclude b", "restores everything that was written: leave out --exclude"),
        (f"{TAG} --undo --top_k 2", "leave out --top_k"),
    ],
)
def test_a_wrong_option_or_mix_of_options_is_refused(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["music-genre", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert message in capsys.readouterr().err


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments: object, code: int = 0) -> str:
        """What the command prints."""
        monkeypatch.setattr(sys, "argv", ["music-genre", *map(str, arguments)])
        if code:
            with pytest.raises(SystemExit) as stop:
                command.main()
            assert stop.value.code == code
        else:
            command.main()
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


@pytest.mark.usefixtures("here")
def test_a_library_is_scanned_tagged_and_the_tags_undone(run, tiny_classifier, library, tmp_path):
    output = tmp_path / "out.csv"
    scan = ("scan", library, "--model", tiny_classifier, "--output", output, "--device", "cpu")
    tag = ("tag", library, "--table", output, "--min_confidence", 0)
    assert "There are no rows in" in run(*tag, code=2)
    said = run(*scan)
    assert "14 audio files (5 .flac, 5 .wav, 3 .ogg, 1 .mp3), 0 of them known." in said
    assert "Files of kinds that are not read: 1 .jpg." in said
    assert "  letter.mp3: it is not audio in a format known here, or is damaged" in said
    flac = library / "album 1" / "1.flac"
    before = flac.read_bytes()
    said = run(*tag)
    assert re.search(r"^album 1/1.flac: none -> \w+ \(\d+%\)$", said, re.M)
    assert "11 to write. No file was changed." in said
    said = run(*tag, "--exclude", "album 1", "--top_k", 2)
    assert "6 to write." in said and "album 1" not in said
    assert re.search(r"^album 0/0.wav: none -> \w+ \(\d+%\), \w+ \(\d+%\)$", said, re.M)
    assert flac.read_bytes() == before
    assert "0 of 14 files have a sure enough genre" in run("tag", library, "--table", output)
    assert "11 written, 0 left unchanged" in run(*tag, "--yes")
    with output.open(newline="") as file:
        genres = {row["path"]: row["genre"] for row in csv.DictReader(file)}
    assert mutagen.File(flac)["genre"] == [genres["album 1/1.flac"]]
    assert "11 keep the genre" in run(*tag, "--top_k", 2)
    assert "11 to write" in run(*tag, "--top_k", 2, "--replace")
    scanned = output.read_bytes()
    assert "14 of them known" in run(*scan), "a tag makes no file new"
    assert output.read_bytes() == scanned
    assert "11 files have their old tags again" in run("tag", library, "--table", output, "--undo")
    assert not mutagen.File(flac).tags
    assert "There is nothing to undo" in run("tag", library, "--table", output, "--undo", code=2)


def test_scan_does_what_its_options_say_and_ends_with_1_if_some_is_missing(
    run, monkeypatch, music, tmp_path
):
    given = []
    monkeypatch.setattr("music_genre.GenreClassifier", lambda *model, device: (*model, device))
    monkeypatch.setattr(
        "music_genre.library.scan.scan",
        lambda *all_of_it: given.extend(all_of_it) or (table.schema_of([]).empty_table(), False),
    )
    options = ["--seconds", 20, "--exclude", "a", "--exclude", "b", "--device", "cuda"]
    scan = ("scan", music, "--model", "m", "--revision", "v1", "--output", "a.csv")
    assert "a.csv: no genres; 0 with an error." in run(*scan, *options, code=1)
    assert given == [("m", "v1", "cuda"), [music], Path("a.csv"), 20, ["a", "b"], None]
    monkeypatch.setattr("music_genre.library.on_ray.connect", given.append)
    monkeypatch.setattr("music_genre.library.on_ray.rows_on_ray", lambda *actors: actors)
    run(*scan, *options, "--ray", "host:1", code=1)
    here = ("m", "v1", "cpu")
    assert given[6:] == ["host:1", here, *given[1:5], (here, 20, "cuda")]


def test_a_demonstration_writes_no_tags(run, library, tmp_path):
    (tmp_path / "out.csv.parts").mkdir()
    settings = {"is_demonstration": True, "model": "you/demo"}
    (tmp_path / "out.csv.parts" / "settings.json").write_text(json.dumps(settings))
    said = run("tag", library, "--table", tmp_path / "out.csv", "--yes", code=2)
    assert "you/demo was trained on synthesised music" in said


@pytest.mark.usefixtures("here")
def test_a_full_disk_is_one_sentence_and_the_next_run_does_the_rest(
    run, tiny_classifier, music, tmp_path, monkeypatch
):
    output = tmp_path / "out.csv"
    scan = ("scan", music, "--model", tiny_classifier, "--output", output, "--device", "cpu")
    monkeypatch.setattr(table, "PART_ROWS", 4)
    write_table, n_parts = parquet.write_table, []

    def fill_up(rows, file):
        n_parts.append(len(rows))
        if len(n_parts) == 2:
            file.write(b"PAR1 half a part")
            raise OSError(errno.ENOSPC, "No space left on device")
        write_table(rows, file)

    with monkeypatch.context() as patch:
        patch.setattr(parquet, "write_table", fill_up)
        said = run(*scan, code=2).splitlines()[-1]
    assert said == "error: [Errno 28] No space left on device"
    assert not output.exists()
    assert "14 audio files" in (said := run(*scan)) and " 0 of them known" not in said
    with output.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 14


def test_what_cannot_be_is_one_sentence(run, tiny_classifier, music, tmp_path):
    scan = ("scan", music, "--model", tiny_classifier, "--output", "a.csv", "--device", "gpu")
    error = [line for line in run(*scan, code=2).splitlines() if "error: " in line]
    assert len(error) == 1 and "gpu" in error[0]
    assert "use `scan` to classify all" in run("classify", music, "--model", "none", code=2)
    tag = ("tag", music, "--table", "a.csv", "--tag_field", "title")
    assert "a field that players use" in run(*tag, code=2)


def test_classify_names_the_loss_and_the_files_that_failed(
    run, tiny_classifier, music, tmp_path, noise
):
    path = tmp_path / "cut.flac"
    soundfile.write(path, noise(20), 16_000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    files = (path, music / "album 1" / "1.flac", music / "letter.mp3", music / "gone.mp3")
    lines = run("classify", *files, "--model", tiny_classifier, code=2).splitlines()
    said = {line.split(": ")[0]: line for line in lines if "%" in line}
    assert "could not be decoded" in said[str(path)]
    assert "could not be" not in said[str(files[1])]
    assert lines[-2].startswith(f"error: {files[2]}: it is not audio")
    assert lines[-1] == f"{files[3]}: No such file or directory"


def test_help_does_not_import_torch(root):
    code = (
        "import sys; sys.argv = ['x', 'tag', '--help']\n"
        "from music_genre.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print({'torch', 'transformers', 'pyarrow'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "set()", "and so do decoder processes not"


# --- killed ---------------------------------------------------------------------------------

# A scan with small parts, of a classifier that knows nothing: its start takes the time of imports.
SCANNER = """
import sys
from pathlib import Path

def main():
    from music_genre.library import scan, table
    from tests.music_genre.library.conftest import Stub

    table.PART_ROWS = 4
    scan.scan(Stub(), [Path(sys.argv[1])], Path(sys.argv[2]))

if __name__ == "__main__":
    main()
"""


def parts_of(output: Path) -> list[Path]:
    return sorted(Path(f"{output}.parts").glob("*.parquet"))


def rows_in_parts(output: Path) -> list[str]:
    return [
        row for part in parts_of(output) for row in parquet.read_table(part)["path"].to_pylist()
    ]


def test_killed_at_random_no_row_is_lost_and_none_comes_twice(tmp_path, root, noise):
    music, output, script = tmp_path / "music", tmp_path / "out.csv", tmp_path / "scanner.py"
    script.write_text(SCANNER)
    music.mkdir()
    n_kills = int(os.environ.get("KILLS", 2))
    names = [f"{i:04}.wav" for i in range(100 * n_kills)]
    for i, name in enumerate(names):
        soundfile.write(music / name, noise(2, i), 16_000)
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, music, output]
    said, rng, n_killed = tmp_path / "said.txt", random.Random(0), 0
    for n in range(n_kills + 1):
        with said.open("w") as file:
            process = subprocess.Popen(command, env=environment, stderr=file)
        before = rows_in_parts(output)
        enough = len(parts_of(output)) + rng.randint(1, 3)
        while n < n_kills and process.poll() is None and len(parts_of(output)) < enough:
            time.sleep(0.005)
        if n < n_kills and process.poll() is None:
            time.sleep(rng.random() / 20)
            process.kill()
        process.wait(timeout=120)
        after = rows_in_parts(output)
        assert set(before) <= set(after)
        assert len(after) == len(set(after)), "none was processed twice"
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said.read_text()[-3000:]
        n_killed += 1
    assert n_killed > n_kills / 2, "it ended too soon"
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == names
    assert not [row for row in rows if row["error"]]
