"""README.md and docs/*.md name files, modules and options that exist; their blocks are valid."""

import ast
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from music_genre.training.arguments import DataArguments, ModelArguments, RecipeArguments
from tests.walk.walker import blocks_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Of folders in the repository; the user's own (data/, runs/) are not in it.
FOLDERS = "baselines|benchmarks|configs|data_prep|docs|music_genre|notebooks|tests"


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def test_links_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'\]\(([^)#:]+)[^):]*\)|src="([^"]+)"', text)
    targets = {page.parent / (link or source) for link, source in links}
    named = re.findall(rf"(?:^|[\s`(])((?:{FOLDERS})/[\w./-]*\w)", text, re.MULTILINE)
    targets |= {ROOT / name for name in named}
    modules = re.findall(rf"python -m ((?:{FOLDERS})[\w.]*)", text)
    targets |= {ROOT / f"{name.replace('.', '/')}.py" for name in modules}
    missing = {
        t for t in targets if not t.exists() and not (t.with_suffix("") / "__main__.py").exists()
    }
    assert not missing


def test_blocks_are_valid(page):
    for language, text in blocks_of(page.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(text)
        else:
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_options_exist(page):
    classes = (DataArguments, ModelArguments, RecipeArguments)
    known = {f"--{field.name}" for one in classes for field in fields(one)} | {
        "--help",
        "--help_all",
        "--dist",  # of pytest-xdist
        *("--depth", "--directory", "--ignore-scripts", "--prefix"),  # of git, http.server, npm
        *("--address", "--head"),  # of ray
        *("--local-dir", "--repo-type"),  # of hf
        *("--no-project", "--with-requirements"),  # of uv
    }
    known |= set(launch_command_parser()._option_string_actions)
    for source in ROOT.glob("**/*.py"):
        if not {".venv", "tests"} & set(source.relative_to(ROOT).parts):
            known |= set(re.findall(r'"(--[\w-]+)"', source.read_text(encoding="utf-8")))
    text = page.read_text(encoding="utf-8")
    assert not set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) - known


def test_the_tests_that_security_names_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 10
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), (path, name)


# How a block of docs/ begins: the test that runs it, with other names and smaller sizes.
RUN_BY = {
    "python -m baselines": "tests/baselines/test_feature_tables.py",
    "python benchmarks/ablation.py": "tests/test_benchmarks.py",
    "python benchmarks/data_prep.py": "tests/test_benchmarks.py",
    "python benchmarks/library.py": "tests/test_benchmarks.py",
    "python benchmarks/serving.py": "tests/test_benchmarks.py",
    "python benchmarks/training.py": "tests/test_benchmarks.py",
    "accelerate launch --multi_gpu --num_processes 2 train_hf.py": "tests/test_train_processes.py",
    "accelerate launch --multi_gpu --num_machines 2": "tests/test_train_processes.py",
    "H=http://127.0.0.1:7860": "tests/test_readme.py",
    "python -m music_genre scan ~/Music --model runs/mine": (
        "tests/music_genre/library/test_command.py"
    ),
    "python -m music_genre tag ~/Music --table genres.parquet": (
        "tests/music_genre/library/test_command.py"
    ),
    "accelerate launch train_hf.py configs/gtzan-ast.json": "tests/test_train_families.py",
    "python train_hf.py configs/gtzan.json --dataset data/gtzan --push_to_hub": (
        "tests/music_genre/training/test_job.py"
    ),
    "python -m music_genre.efficientat mn10": "tests/music_genre/efficientat/test_main.py",
    'pipeline("audio-classification", model="you/efficientat-gtzan"': (
        "tests/music_genre/efficientat/test_modeling_efficientat.py"
    ),
    "python -m data_prep tracks.csv": "tests/data_prep/sources/test_table.py",
    "python -m data_prep fma/fma_metadata/tracks.csv": "tests/data_prep/sources/test_table.py",
    "python -m data_prep ~/Music --genre_from tags": "tests/data_prep/sources/test_tags.py",
    'python train_hf.py --dataset "My Music"': "tests/test_train_own.py",
    "python app.py --model runs/mine": "tests/test_app.py",
    "python app.py --host": "tests/test_app_browser.py",
}
# How the others begin, and why no test runs them.
NOT_RUN = {
    "uv run train_hf.py": "It needs a registry; test_packaging.py checks the list that uv reads.",
    'pip install "gradio[mcp]': "The tests' environment lacks mcp; test_app.py asks the same API.",
    "python -m http.server --directory docs": "benchmarks/transformers_js.py serves the page.",
    "hf download marsyas/gtzan": "It needs the Hub; its archive is tested as genres.tar.gz.",
    "python benchmarks/soak.py": "weekly.yml runs it for minutes.",
    'pip install "ray': "The tests' environment lacks Ray; test_on_ray.py runs it where it is.",
    "npm install": "It needs a registry; weekly.yml runs it.",
}


def test_every_block_of_the_docs_is_run_by_a_test_or_has_a_reason():
    """Those that README.md has too are run by test_readme.py."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [
        text
        for path in PAGES[1:]
        for _, text in blocks_of(path.read_text(encoding="utf-8"))
        if text not in readme
    ]
    known = RUN_BY | NOT_RUN
    assert not [text for text in blocks if not text.startswith(tuple(known))]
    assert not [start for start in known if not any(text.startswith(start) for text in blocks)]
    assert all((ROOT / test).is_file() for test in RUN_BY.values())
