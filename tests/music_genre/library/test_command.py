"""`python -m music_genre.library`: its options, tags and undo, and its help."""

import csv
import errno
import shutil
import subprocess
import sys

import mutagen
import pytest

from data_prep.gtzan import GENRES
from music_genre.library import __main__ as command
from music_genre.library import table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--output a.parquet", "give the files to process (PATH) and a --model"),
        ("music --output a.parquet", "give the files to process (PATH) and a --model"),
        ("--model m --output a.parquet", "give the files to process (PATH) and a --model"),
        ("music --model m --output a.xlsx", "must end in one of .parquet, .csv, .jsonl"),
        ("music --model m --output a.csv --seconds 0", "--seconds must be 1 or more"),
        ("music --model m --output a.csv --seconds nan", "--seconds must be 1 or more"),
        ("music --model m --output a.csv --write_tags --min_confidence 60", "between 0 and 1"),
        ("music --model m --output a.csv --yes", "--yes needs --write_tags"),
        (
            "music --model m --output a.csv --min_confidence 0",
            "--min_confidence needs --write_tags",
        ),
        ("music --model m --output a.csv --dry_run --replace", "--dry_run and --replace need"),
        ("music --model m --output a.csv --write_tags --precision 90", "at most 1"),
        (
            "music --model m --output a.csv --write_tags --precision 0.9 --min_confidence 0.5",
            "exclude each other",
        ),
        ("music --model m --output a.csv --write_tags --yes --dry_run", "exclude each other"),
        ("music --model m --output a.csv --write_tags --tag_field title", "that players use"),
        ("music --output a.csv --undo", "--undo takes --output and no other option"),
        ("--output a.csv --undo --yes", "--undo takes --output and no other option"),
        ("--output a.csv --undo --model m", "--undo takes --output and no other option"),
        ("--output a.csv --undo --min_confidence 0.5", "--undo takes --output and no other"),
        ("--output a.csv --undo --seconds 0", "--undo takes --output and no other option"),
        ("music --output a.csv --merge", "--merge takes --output and no other option"),
        ("--output a.csv --merge --shard 0/2", "--merge takes --output and no other option"),
        ("music --model m --output a.csv --min_conf 0.5 --write_tags", "unrecognized arguments"),
    ],
)
def test_a_wrong_option_or_mix_of_options_is_refused(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["library", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        command.parse_arguments()
    assert message in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(monkeypatch, capsys, tiny_classifier, music):
    arguments = [str(music), "--model", str(tiny_classifier), "--output", "a.csv"]
    monkeypatch.setattr(sys, "argv", ["library", *arguments, "--device", "gpu"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    error = capsys.readouterr().err
    assert "error: --device gpu cannot be used here" in error
    assert len(error.splitlines()) == 1


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def run(*arguments: str) -> str:
        """What the command prints; its table is out.csv."""
        options = ["--output", str(tmp_path / "out.csv"), *arguments]
        monkeypatch.setattr(sys, "argv", ["library", *options])
        command.main()
        return capsys.readouterr().out

    return run


def test_tags_are_written_on_request_and_undone(run, tiny_classifier, music, tmp_path):
    ours, output = shutil.copytree(music, tmp_path / "music"), tmp_path / "out.csv"
    flac = next(ours.glob("album */*.flac"))
    before = flac.read_bytes()

    scan = [str(ours), "--model", str(tiny_classifier), "--device", "cpu"]
    tag = [*scan, "--write_tags", "--min_confidence", "0"]
    assert "No file was changed" in run(*tag)
    assert flac.read_bytes() == before
    assert "0 of 14 files have a genre that is sure" in run(*scan, "--write_tags"), "60 %"
    assert f"{flac}: none -> " in run(*tag, "--dry_run")
    assert "7 written, 0 had it, 0 left unchanged" in run(*tag, "--yes")
    with output.open(newline="") as file:
        genres = {row["path"]: row["genre"] for row in csv.DictReader(file)}
    assert mutagen.File(flac)["genre"] == [genres[str(flac)]]
    table = output.read_bytes()
    assert "14 audio files, 14 of them known" in run(*scan), "a tag makes no file new"
    assert output.read_bytes() == table
    assert "7 tags were undone, 0 were not" in run("--undo")
    assert flac.read_bytes() == before
    assert "14 of them known" in run(*scan)


def test_a_full_disk_is_one_sentence_and_the_next_run_does_the_rest(
    tiny_classifier, music, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out.csv"
    arguments = ["library", str(music), "--model", str(tiny_classifier), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--device", "cpu"])
    append, rows = table.LineWriter.append, []

    def fill_up(writer: table.LineWriter, entry: dict) -> bytes:
        rows.append(entry) if "genre" in entry else None
        if len(rows) == 5:
            writer._file.write(b'{"path": "/half a')
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(writer, entry)

    with monkeypatch.context() as patch:
        patch.setattr(table.LineWriter, "append", fill_up)
        with pytest.raises(SystemExit, match="2"):
            command.main()
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {output}: No space left on device. All results so far are")
    assert not output.exists()
    command.main()
    assert "14 audio files, 4 of them known" in capsys.readouterr().out
    with output.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 14


def test_shards_are_scanned_and_merged(run, tiny_classifier, music, tmp_path, capsys):
    scan = [str(music), "--model", str(tiny_classifier), "--device", "cpu"]
    printed = [run(*scan, "--shard", f"{i}/2") for i in (0, 1)]
    assert "audio files in shard 0/2, 0 of them known" in printed[0]
    assert f"{tmp_path}/out-00001-of-00002.csv: " in printed[1]
    assert "made of the tables of 2 shards" in run("--merge")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 14
    with pytest.raises(SystemExit, match="2"):
        run(*scan, "--shard", "2/2")
    assert "error: --shard 2/2 is none" in capsys.readouterr().err


def test_tags_of_shards_are_undone_by_the_name_of_their_table(
    run, tiny_classifier, music, tmp_path
):
    ours = shutil.copytree(music, tmp_path / "music")
    before = {path: path.read_bytes() for path in ours.rglob("*.*")}

    scan = [str(ours), "--model", str(tiny_classifier), "--device", "cpu"]
    for shard in ("0/2", "1/2"):
        run(*scan, "--write_tags", "--min_confidence", "0", "--yes", "--shard", shard)
    assert before != {path: path.read_bytes() for path in before}
    assert run("--undo").count("tags were undone, 0 were not") == 2
    assert before == {path: path.read_bytes() for path in before}


def test_precision_takes_the_validation_predictions_beside_the_model(
    tiny_classifier, music, tmp_path, monkeypatch, capsys
):
    model, output = shutil.copytree(tiny_classifier, tmp_path / "model"), tmp_path / "out.csv"
    arguments = ["library", str(music), "--model", str(model), "--output", str(output)]
    arguments += ["--device", "cpu", "--write_tags", "--dry_run", "--precision", "0.9"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "predictions_validation.csv, which train_hf.py leaves" in capsys.readouterr().err
    assert not output.exists(), "it says so before it scans"
    lines = [f"track_id,genre,prediction,{','.join(GENRES)}"]
    for genre in GENRES:
        cells = ",".join("0.01" if other == genre else "0" for other in GENRES)
        lines += [f"{i},{genre},{genre},{cells}" for i in range(5)]
    (model / "predictions_validation.csv").write_text("\n".join(lines) + "\n")
    command.main()
    printed = capsys.readouterr().out
    assert "A precision of 90% on validation:" in printed
    assert "blues: 0.01 and more (100% of 5 clips right)" in printed
    assert printed.count(": none -> ") == 7
    assert "7 to write. No file was changed." in printed


def test_undo_without_a_log_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["library", "--output", str(tmp_path / "a.csv"), "--undo"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "There is nothing to undo" in capsys.readouterr().err


@pytest.mark.parametrize("room", ["library", "publishing"])
def test_help_does_not_import_torch(room, root):
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        f"from music_genre.{room}.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False False"
