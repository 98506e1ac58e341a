"""The package: one list of dependencies, and a wheel that classifies without a checkout."""

import csv
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from music_genre.publishing.card import REPOSITORY
from tests import python


def requirements(lines: list[str]) -> set[str]:
    return {name for line in lines if (name := line.split("#")[0].strip())}


def listed(root: Path) -> dict[str, list[Requirement]]:
    """pyproject.toml's dependencies: those of the package first, then those of each extra."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"]} | project["optional-dependencies"]
    return {name: [Requirement(line) for line in lines] for name, lines in groups.items()}


def test_requirements_txt_matches_the_package(root):
    """An extra may narrow a range of the package, as torchaudio does for torch."""
    groups = listed(root)
    del groups["ray"]  # a checkout does without it
    expected = {one.name: str(one) for group in groups.values() for one in group}
    lines = requirements((root / "requirements.txt").read_text().splitlines())
    assert {str(Requirement(line)) for line in lines} == set(expected.values())


def test_the_head_of_train_hf_names_the_package_of_this_checkout(root):
    """`uv run train_hf.py` builds its environment from it (PEP 723); publishing needs onnx."""
    header = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", (root / "train_hf.py").read_text())
    script = tomllib.loads(re.sub(r"^# ?", "", header[1], flags=re.MULTILINE))
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert script["dependencies"] == [f"{project['name']}[train,onnx]"]
    assert script["tool"]["uv"]["sources"] == {project["name"]: {"path": "."}}
    assert script["requires-python"] == project["requires-python"]


def test_every_dependency_has_a_reason(root):
    text = (root / "pyproject.toml").read_text()
    block = text[text.index("dependencies = [") : text.index("[project.urls]")].splitlines()
    lines = [line.strip() for line in block if line.strip().startswith('"')]
    assert len(lines) > 20
    for line in lines:
        assert len(line.partition("#")[2].strip()) >= 8, line


# torchaudio's last release holds back only training.
HELD = {"torch", "torchaudio"}


def test_every_range_ends_at_a_major_version(root):
    for extra, group in listed(root).items():
        for one in group:
            if extra == "train" and one.name in HELD:
                continue
            bounds = {specifier.operator: specifier.version for specifier in one.specifier}
            assert bounds.keys() == {">=", "<"}, one
            assert bounds["<"].isdigit() and int(bounds["<"]) > int(bounds[">="].split(".")[0]), one


def test_serving_is_not_held_back_by_torchaudio(root):
    groups = listed(root)
    for extra in ("", "demo", "onnx"):
        assert "torchaudio" not in {one.name for one in groups[extra]}
    (torch,) = (one for one in groups[""] if one.name == "torch")
    assert torch.specifier.contains("2.15.0") and not torch.specifier.contains("3.0.0")


def test_the_lock_has_a_version_of_every_requirement(root):
    """The requirement must allow the version; uv's command is in the lock's first lines."""
    locked: dict[str, set[str]] = {}
    for line in requirements((root / "constraints.txt").read_text().splitlines()):
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        locked.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    lines = [
        line
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in requirements((root / name).read_text().splitlines())
        if not line.startswith("-r")
    ]
    for requirement in map(Requirement, lines):
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions and all(requirement.specifier.contains(v) for v in versions), requirement


def test_the_repository_address_is_the_same_everywhere(root):
    """CONTRIBUTING.md has a command that changes it in the card, the package and for Colab."""
    urls = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Repository"] == REPOSITORY
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    for name in ("README.md", "notebooks/gtzan_colab.ipynb"):
        found = re.findall(
            r"github(?:\.com)?/([\w-]+/[\w.-]+)/blob|github\.com/([\w-]+/[\w.-]+)\b",
            (root / name).read_text(),
        )
        assert {a or b for a, b in found} == {owner_and_name}, name


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """Built by the backend that pyproject.toml names, which requirements-dev.txt installs."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_one_package_and_its_data(wheel):
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"music_genre"}
    assert not [name for name in names if "/training/" in name or "/tests/" in name]
    assert "music_genre/examples/jazz.ogg" in names
    assert "music_genre/publishing/card.md" in names
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert b"music-genre = music_genre.__main__:main" in archive.read(entry_points)


def test_an_installed_package_classifies_anywhere(wheel, tiny_classifier, song, tmp_path):
    """The wheel is unpacked away from the checkout; this environment has its dependencies."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()

    def run(*command: object) -> str:
        environment = os.environ | {"PYTHONPATH": str(site)}
        result = python.run([*command, "--model", tiny_classifier], environment, empty)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert run("-c", "import music_genre; print(music_genre.__file__)").startswith(str(site))
    line = run("-m", "music_genre", "classify", song)
    genre = line.removeprefix(f"{song}: ").split()[0]
    run("-m", "music_genre", "scan", song, "--output", "genres.csv")
    (row,) = csv.DictReader((empty / "genres.csv").read_text(encoding="utf-8").splitlines())
    assert row["genre"] == genre
