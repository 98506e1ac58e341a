"""Imports go one way between the rooms; what serves a model carries nothing that trains one."""

import ast
from pathlib import Path

import pytest

# What each room may import of the project, besides itself. music_genre is the core: the modules
# directly in that folder.
ALLOWED = {
    "music_genre": {"kernels"},
    "kernels": set(),
    "evaluation": {"music_genre", "kernels"},
    "data_prep": {"music_genre"},
    "training": {"music_genre", "kernels", "evaluation", "data_prep"},
    "publishing": {"music_genre"},
    "demo": {"music_genre"},
    "library": {"music_genre"},
    "__main__": {"music_genre", "library", "publishing"},
    "baselines": {"music_genre", "evaluation", "data_prep"},
    "train_hf": {"music_genre", "evaluation", "training", "publishing"},
    "app": {"music_genre", "demo"},
}
WITH_GRADIO = {"app", "demo"}


def room_of(module: str) -> str | None:
    """The room that a dotted module name belongs to; None where it is not the project's."""
    first, _, rest = module.partition(".")
    if first != "music_genre":
        return first if first in ALLOWED else None
    name = rest.split(".")[0]
    return name if name in ALLOWED else "music_genre"


def imports_of(source: str) -> set[str]:
    """Dotted names of all that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from music_genre import audio` may name a module or a room.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def wrong_arrows(room: str, source: str) -> set[str]:
    names = imports_of(source)
    wrong = {n for n in names if (r := room_of(n)) and r != room and r not in ALLOWED[room]}
    if room not in WITH_GRADIO:
        wrong |= {n for n in names if n.split(".")[0] == "gradio"}
    return wrong


def files(root: Path) -> list[tuple[str, Path]]:
    found = [*root.glob("*.py")]
    for folder in ("music_genre", "data_prep", "baselines"):
        found += (root / folder).rglob("*.py")
    return [(room_of(".".join(f.relative_to(root).with_suffix("").parts)), f) for f in found]


def test_imports_go_one_way(root):
    checked = files(root)
    assert {room for room, _ in checked} == set(ALLOWED)
    wrong = {
        str(path.relative_to(root)): names
        for room, path in checked
        if (names := wrong_arrows(room, path.read_text(encoding="utf-8")))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("music_genre", "from music_genre.training import trainer"),
        ("music_genre", "import data_prep.splits"),
        ("kernels", "def f():\n    from music_genre import windows"),
        ("demo", "from data_prep.synthetic import synthesise"),
        ("app", "from music_genre.evaluation.metrics import summarize"),
        ("library", "import gradio as gr"),
        ("publishing", "from music_genre.demo import pictures"),
    ],
)
def test_a_wrong_arrow_is_noticed(room, source):
    assert wrong_arrows(room, source)
