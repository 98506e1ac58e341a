"""The command line: what it prints and how it fails."""

import re
import subprocess
import sys
from pathlib import Path

from data_prep.__main__ import main
from data_prep.prepared import read_preparation
from tests.commands import run_here
from tests.data_prep.archives import make_zip, manifest
from tests.data_prep.music import by_genre, clip, song, write


def test_the_command_prepares_the_real_sample(root, tmp_path, real_archive):
    """With decoder processes; it prints counts and leakage."""
    out = tmp_path / "out"
    result = subprocess.run(
        [sys.executable, "-m", "data_prep", real_archive, "--output_dir", out, "--split", "random"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "100 audio files in, 100 kept (50 minutes), 0 left out" in result.stdout
    assert "course-comparable: train 80, validation 10, test 10 tracks." in result.stdout
    assert "Leakage: the artist of 9 of 10 test tracks is known" in result.stdout
    seconds = [float(row["seconds"]) for row in manifest(out).values()]
    assert min(seconds) > 29.8 and max(seconds) < 30.7


def test_options_are_passed_on_and_the_summary_counts_tracks_and_clips(tmp_path, monkeypatch):
    files = by_genre(6) | {"Techno/song.flac": song(70), "Techno/copy.wav": clip(100)}
    write(tmp_path / "m", files)
    monkeypatch.chdir(tmp_path)
    options = ("--split", "random", "--seed", 3, "--sampling_rate", 8000, "--min_tracks", 2)
    *_, counts, split, _, _ = run_here(main, "m", *options).stdout.splitlines()
    done = read_preparation(Path("data", "m-random-8000"))
    assert (done["seed"], done["sampling_rate"]) == (3, 8000)
    assert "14 audio files in, 13 kept as 14 clips (1 minutes), 1 left out" in counts
    assert split == "Split random 80/10/10: train 9, validation 2, test 2 tracks."
    assert run_here(main, "m", *options, "--seed", 4, "--overwrite").returncode == 0
    assert "--columns has no use with" in run_here(main, "m", "--columns", "genre=style").stderr
    assert "--public needs --push_to_hub" in run_here(main, "m", "--public").stderr


def test_wrong_input_is_one_sentence_and_exit_code_2(tmp_path):
    """Also a download without network, and a table that is not there."""
    empty = make_zip(tmp_path / "given.zip", {"holiday.txt": b"sun"})
    for source, sentence in (
        (empty, "holds no audio file"),
        (tmp_path / "none.csv", "No such file or directory: .*none.csv"),
        ("--download", "kaggle.com/datasets/"),
    ):
        result = run_here(main, source, "--output_dir", tmp_path / "out")
        assert result.returncode == 2
        (message,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert re.search(sentence, message)
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()
