"""README.md and docs/*.md name files, modules and options that exist; their blocks are valid."""

import ast
import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from music_genre.demo.uploads import MAX_FILE_MB, MAX_FILES
from music_genre.training.arguments import DataArguments, ModelArguments, RecipeArguments
from tests.walk.walker import blocks_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Folders of the repository, without the user's own (data/, runs/).
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


def test_the_readme_names_the_versions_of_python_that_pip_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.search(r"Python 3\.(\d+) to 3\.(\d+)", PAGES[0].read_text(encoding="utf-8"))
    assert named and project["requires-python"] == f">=3.{named[1]},<3.{int(named[2]) + 1}"


def test_the_example_of_a_proxy_lets_a_whole_batch_through():
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    megabytes = int(re.search(r"client_max_body_size (\d+)m;", text)[1])
    assert megabytes > MAX_FILES * MAX_FILE_MB


def test_the_tests_that_security_names_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 10
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), (path, name)
