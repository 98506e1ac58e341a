"""Every benchmark prints its table with its smallest sizes. Run weekly, as no user runs them."""

import json

import pandas as pd
import pytest
from datasets import load_from_disk

from benchmarks import ablation, measuring
from data_prep.prepare import prepare
from data_prep.synthetic import write_archive
from tests import python
from tests.commands import run_here

pytestmark = [pytest.mark.weekly, pytest.mark.slow]
SCRIPTS = {"ablation", "course_recipe", "data_prep", "library", "serving", "training",
           "transformers_js", "soak"}  # fmt: skip
WEEKLY_SCRIPTS = {"soak", "transformers_js"}  # weekly.yml runs them: they need minutes, or npm


def run(script: str, *arguments: object) -> dict[str, list[str]]:
    """Run a benchmark and return the cells of its printed tables by the first cell of each row."""
    result = python.run([f"benchmarks/{script}.py", *arguments], timeout=500)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
    lines = [line[2:-2].split(" | ") for line in result.stdout.splitlines() if line[:2] == "| "]
    return {cells[0]: cells[1:] for cells in lines if cells[0] != "---"}


def test_every_script_is_run_and_names_the_page_with_its_figures(root):
    names = {path.stem for path in (root / "benchmarks").glob("*.py")}
    assert names == SCRIPTS | {"measuring"}
    weekly = (root / ".github" / "workflows" / "weekly.yml").read_text()
    assert all(f"benchmarks/{name}.py" in weekly for name in WEEKLY_SCRIPTS)
    for name in SCRIPTS - {"course_recipe"}:  # it is run by two others
        text = (root / "benchmarks" / f"{name}.py").read_text().split('"""')[1]
        pages = [page for page in (root / "docs").glob("*.md") if f"docs/{page.name}" in text]
        assert any(f"benchmarks/{name}.py" in page.read_text() for page in pages), name


def test_serving(tiny_classifier):
    table = run("serving", "--model", tiny_classifier, "--runs", 1, "--song_seconds", 2)
    assert {"30 s: pipeline, one pass", "30 s: ours, fp32", "2 s: ours, fp32"} <= table.keys()
    assert float(table["30 s: ours, fp32"][1]) > 0


def test_training(tiny_classifier):
    """Two clips per genre leave validation empty, which once ended in an IndexError."""
    sizes = ("--runs", 1, "--steps", 1, "--clips_per_genre", 2, "--clip_seconds", 3)
    table = run("training", "--model", tiny_classifier, *sizes)
    assert table.keys() == {"recipe", "course", "example", "ours"}
    assert all(float(table[name][0].split()[0]) > 0 for name in ("course", "example", "ours"))


def test_data_prep(archive):
    table = run("data_prep", archive, "--runs", 1, "--times", 2)
    assert table.keys() == {"", "ours", "course, 1 process", "course, 2 processes"}
    assert float(table["ours"][2]) < float(table["course, 1 process"][2])


def test_library(root):
    table = run("library", "--n_files", 12, "--before", root)
    assert table.keys() == {"", "a loop of `pipeline(...)`", "the scan before", "the scan"}


def test_figures_are_medians_of_variants_that_take_turns(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, pathlib, sys\n"
        "log = pathlib.Path(sys.argv[1])\n"
        "with log.open('a') as file: file.write(sys.argv[2])\n"
        "waits = os.environ['OMP_WAIT_POLICY']\n"
        "print('a line before')\n"
        "print(json.dumps({'n': len(log.read_text()), 'waits': waits}))\n"
        "sys.exit(sys.argv[2] == 'c' and 'no such size')\n"
    )
    log = tmp_path / "log"
    figures = measuring.alternate({name: [script, log, name] for name in "ab"}, runs=3)
    assert log.read_text() == "ababab"
    assert [run["n"] for run in figures["a"]] == [1, 3, 5]
    assert measuring.median(figures["b"], "n") == 4
    assert measuring.spread([3.0, 1.0, 2.0], ".1f") == "2.0 (1.0 to 3.0)"
    with pytest.raises(SystemExit, match="c failed:\nno such size"):
        measuring.alternate({"c": [script, log, "c"]}, runs=1)


def with_artist(row: dict) -> dict:
    return {"artist": f"artist {row['track_id'].split('.')[0]} {int(row['track_id'][-1]) % 5}"}


def test_ablation(tiny_classifier, tmp_path, monkeypatch):
    """Three folds instead of five, each scored once; then the table alone."""
    monkeypatch.setattr(ablation, "N_FOLDS", 3)
    write_archive(tmp_path / "clips.zip", clips_per_genre=10, seconds=2.0)
    prepare([tmp_path / "clips.zip"], tmp_path / "nameless", split="random")
    prepared = tmp_path / "prepared"
    load_from_disk(tmp_path / "nameless").map(with_artist).save_to_disk(prepared)
    rows = ["the course's recipe", "the linear probe"]
    options = [prepared, "--model_name_or_path", tiny_classifier, "--output_dir", tmp_path]
    run_here(ablation.main, *options, "--rows", *rows, "--precision", "fp32")
    table = run("ablation", *options, "--table")
    assert table.keys() == {"recipe", "recall", "taken for", *rows}
    lines = [json.loads(line) for line in (tmp_path / ablation.RESULTS).read_text().splitlines()]
    assert [(line["row"], line["fold"]) for line in lines] == [
        (r, k) for r in rows for k in range(3)
    ]
    for line in lines:
        test = load_from_disk(tmp_path / "folds" / str(line["fold"]))["test"]
        known = dict(zip(test["track_id"], test["artist"], strict=True))
        assert {track["track_id"]: track["artist"] for track in line["tracks"]} == known
    tables = ablation.by_track(lines)
    pool = load_from_disk(prepared)
    assert len(tables.loc[rows[0]]) == len(pool["train"]) + len(pool["validation"])


def test_ablation_shows_no_interval_around_no_difference():
    """If fine-tuning changes nothing, the probe is kept in every fold."""
    right = pd.Series([1.0, 0, 1, 1], list("abcd"))
    tracks = pd.DataFrame({"whole": right, "artist": list("wxyz")})
    assert ablation.difference(tracks, tracks, "whole") == "none"
    others = tracks.assign(whole=[1.0, 0, 1, 0])
    assert ablation.difference(tracks, others, "whole").startswith("+0.250 (+0.00 to +")
