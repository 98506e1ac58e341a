"""Every benchmark runs to its table, with its smallest sizes."""

import importlib
import io
import json
import os
import re
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from datasets import load_from_disk

from benchmarks import measuring
from data_prep.prepare import prepare
from data_prep.synthetic import write_archive
from tests import forked

FIGURE_SCRIPTS = {
    "ablation", "course_recipe", "data_prep", "library", "serving", "training", "transformers_js",
}  # fmt: skip
WEEKLY = {"soak"}  # weekly.yml runs it for minutes
SHARED_MODULES = {"inputs", "measuring"}


@pytest.fixture
def run(monkeypatch):
    def run(script: str, *arguments: object) -> str:
        """Run a benchmark in this process; returns what it prints."""
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        printed = io.StringIO()
        with redirect_stdout(printed):
            try:
                importlib.import_module(f"benchmarks.{script}").main()
            except SystemExit as stop:
                assert not stop.code, printed.getvalue()
        return printed.getvalue()

    return run


@pytest.fixture
def measured_here(run, monkeypatch):
    def measured_here(script: str) -> None:
        """Have a benchmark measure in this process what it measures in processes of its own."""
        module = importlib.import_module(f"benchmarks.{script}")

        def run_here(file: str, *arguments: object) -> dict[str, float]:
            return json.loads(run(Path(file).stem, *arguments).splitlines()[-1])

        monkeypatch.setattr(module, "run_apart", run_here)

    return measured_here


def rows(text: str) -> dict[str, list[str]]:
    """The cells of the Markdown tables in a text, by the first cell of their row."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in lines if cells[0] != "---"}


def test_every_script_is_run_here(root):
    names = {path.stem for path in (root / "benchmarks").glob("*.py")}
    assert names == FIGURE_SCRIPTS | WEEKLY | SHARED_MODULES
    weekly = (root / ".github" / "workflows" / "weekly.yml").read_text()
    assert all(f"benchmarks/{name}.py" in weekly for name in WEEKLY)


def test_every_script_names_the_page_with_its_figures(root):
    for name in (FIGURE_SCRIPTS | WEEKLY) - {"course_recipe"}:  # it is run by two others
        text = (root / "benchmarks" / f"{name}.py").read_text().split('"""')[1]
        pages = [page for page in (root / "docs").glob("*.md") if f"docs/{page.name}" in text]
        assert pages, name
        assert any(f"benchmarks/{name}.py" in page.read_text() for page in pages), name


def test_serving(tiny_classifier):
    """As a command; the others run in this process, which has imported what they need."""
    sizes = ("--runs", "1", "--song_seconds", "2")
    result = forked.run(["benchmarks/serving.py", "--model", tiny_classifier, *sizes])
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
    table = rows(result.stdout)
    assert {"30 s: pipeline, one pass", "30 s: ours, fp32", "2 s: ours, fp32"} <= table.keys()
    assert float(table["30 s: ours, fp32"][1]) > 0


def test_training(run, measured_here, tiny_classifier):
    """Two clips a genre leave validation empty, which ended in an IndexError."""
    measured_here("training")
    sizes = ("--runs", 1, "--steps", 1, "--clips_per_genre", 2, "--clip_seconds", 3)
    text = run("training", "--model", tiny_classifier, *sizes)
    rates = {name: cells[0].split()[0] for name, cells in rows(text).items() if name != "recipe"}
    assert rates.keys() == {"course", "example", "ours"}
    times = float(re.search(r"times as fast as example: ([\d.]+)", text)[1])
    assert times == pytest.approx(float(rates["ours"]) / float(rates["example"]), abs=0.1)


def test_data_prep(run, measured_here, archive):
    measured_here("data_prep")
    table = rows(run("data_prep", archive, "--runs", 1))
    assert table.keys() == {"", "ours", "course, 1 process", "course, 2 processes"}


def test_figures_of_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\n"
        "print('a line before')\n"
        "waits = os.environ['OMP_WAIT_POLICY']\n"
        "print(json.dumps({'pid': os.getpid(), 'waits': waits, 'of': sys.argv[1:]}))\n"
        "sys.exit(sys.argv[1] == 'bad' and 'no such size')\n"
    )
    figures = measuring.run_apart(script, "track", 60)
    assert figures["pid"] != os.getpid()
    assert figures["waits"] == "PASSIVE" and figures["of"] == ["track", "60"]
    with pytest.raises(SystemExit, match="bad failed:\nno such size"):
        measuring.run_apart(script, "bad")


def test_library(run, tiny_classifier):
    sizes = ("--n_files", 60, "--longest", 4.5)  # ten of each format
    text = run("library", "--model", tiny_classifier, *sizes)
    assert text.startswith("60 files, 0.07 h of audio")
    assert {"a loop of `pipeline(...)`", "the scan"} <= rows(text).keys()
    assert json.loads(run("library", "--rows", 12_000))["known"] == 12_000


def with_artist(row: dict) -> dict:
    return {"artist": f"artist {row['track_id'].split('.')[0]} {int(row['track_id'][-1]) % 3}"}


def test_ablation(run, tiny_classifier, tmp_path):
    """The first fold, whose epoch the last one chooses: every run is a process."""
    write_archive(tmp_path / "clips.zip", clips_per_genre=8, seconds=2.0)
    prepare([tmp_path / "clips.zip"], tmp_path / "nameless", split="random")
    prepared = tmp_path / "prepared"
    load_from_disk(tmp_path / "nameless").map(with_artist).save_to_disk(prepared)
    kept = ["the course's recipe", "the linear probe"]
    text = run(
        "ablation", prepared, "--model_name_or_path", tiny_classifier, "--output_dir", tmp_path,
        "--rows", *kept, "--folds", 0, "--seeds", 0, "--course_epochs", 1, "--precision", "fp32",
        "--jobs", 2,
    )  # fmt: skip
    assert rows(text).keys() == {"recipe", "recall", "taken for", *kept}
    accuracies, _ = text.split("| recall")
    n_tracks = int(rows(accuracies)[kept[0]][0])
    folds = load_from_disk(tmp_path / "folds" / "0")
    known = dict(zip(folds["test"]["track_id"], folds["test"]["artist"], strict=True))
    for line in (tmp_path / "results.jsonl").read_text().splitlines():
        assert {track["track_id"]: track["artist"] for track in json.loads(line)["tracks"]} == known

    # As if another fold, of other tracks, had been run too.
    results = tmp_path / "results.jsonl"
    other = results.read_text().replace('"fold": 0', '"fold": 1')
    with results.open("a") as file:
        file.write(other.replace('"track_id": "', '"track_id": "other '))
    accuracies, _ = run("ablation", prepared, "--output_dir", tmp_path, "--table").split("| recall")
    assert [int(rows(accuracies)[row][0]) for row in kept] == [2 * n_tracks] * 2


def test_transformers_js(run, jazz_model, tmp_path):
    """With JS_PACKAGES, a node_modules folder: CONTRIBUTING.md says how to make it."""
    packages = os.environ.get("JS_PACKAGES")
    if not packages:
        pytest.skip("JS_PACKAGES names no node_modules with @huggingface/transformers")
    model = shutil.copytree(jazz_model, tmp_path / "model")
    text = run("transformers_js", model, "--packages", packages)
    assert len(rows(text)) == 11
    found = dict(re.findall(r"^(Node|browser): probabilities within (\S+) of", text, re.MULTILINE))
    assert float(found["Node"]) < 1e-5 and float(found["browser"]) < 0.05
