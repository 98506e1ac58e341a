"""Rules of the source: imports go one way, and other packages are used as they are.

`python -m pytest tests/test_rooms.py`. The rules are in CONTRIBUTING.md. ruff checks that no
private name is used or imported (SLF and PLC2701 in pyproject.toml).
"""

import ast
import importlib
from pathlib import Path

import pytest

# What each room may import from the project besides itself. music_genre is the core: the modules
# directly in that folder.
ALLOWED = {
    "music_genre": set(),
    "evaluation": {"music_genre"},
    "data_prep": {"music_genre"},
    "training": {"music_genre", "evaluation", "data_prep"},
    "publishing": {"music_genre"},
    "demo": {"music_genre"},
    "library": {"music_genre"},
    "__main__": {"music_genre", "library", "publishing"},
    "baselines": {"music_genre", "evaluation", "data_prep"},
    "train_hf": {"music_genre", "evaluation", "training", "publishing"},
    "app": {"music_genre", "demo"},
}
GRADIO_ROOMS = {"app", "demo"}
# torchaudio's last release holds PyTorch at 2.11, so what serves a model does without it.
TORCHAUDIO_ROOMS = {"training", "train_hf"}
OWN = {"music_genre", "data_prep", "baselines", "benchmarks", "train_hf", "app"}

# Settings that their packages document as attributes to set.
SETTINGS = {"PIL.Image.MAX_IMAGE_PIXELS"}
# Methods that the documentation of their package tells a subclass to write.
HOOKS = {"evaluate.module.Metric._info", "evaluate.module.Metric._compute"}


def room_of(module: str) -> str | None:
    """The room that a dotted module name belongs to; None if it belongs to no room."""
    first, _, rest = module.partition(".")
    if first != "music_genre":
        return first if first in ALLOWED else None
    name = rest.split(".")[0]
    return name if name in ALLOWED else "music_genre"


def is_foreign(dotted: str) -> bool:
    return dotted.split(".")[0] not in OWN


class Reader(ast.NodeVisitor):
    """Collects what a file imports, and where it changes another package or its classes."""

    def __init__(self, module: str, source: str) -> None:
        self.package = module.split(".")[:-1]
        self.imported: dict[str, str] = {}  # name in this file: dotted name
        self.imports: set[str] = set()  # dotted names
        self.broken: list[str] = []
        tree = ast.parse(source)
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        self.functions = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.read_import(node)
        self.visit(tree)

    def read_import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                self.imported[alias.asname or first] = alias.name if alias.asname else first
                self.imports.add(alias.name)
            return
        parents = self.package[: len(self.package) - node.level + 1] if node.level else []
        base = ".".join([*parents, *filter(None, [node.module])])
        for alias in node.names:
            # `from music_genre import audio` may name a module or a room.
            self.imported[alias.asname or alias.name] = f"{base}.{alias.name}"
            self.imports.add(f"{base}.{alias.name}")

    def stands_for(self, node: ast.expr) -> str | None:
        """The dotted name of an imported module or class, or of an attribute of one."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.stands_for(node.value)
            return base and f"{base}.{node.attr}"
        return None

    def report(self, node: ast.AST, what: str) -> None:
        self.broken.append(f"line {node.lineno}: {what}")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Report private names that a base class of another package has, if the class uses them."""
        names = {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
        names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
        for name in sorted(n for n in names if n.startswith("_") and not n.endswith("__")):
            base = next((base for base in self.foreign_bases(node) if hasattr(base, name)), None)
            full_name = base and f"{base.__module__}.{base.__name__}.{name}"
            if full_name and full_name not in HOOKS:
                self.report(node, f"overrides or uses {full_name}")
        self.generic_visit(node)

    def foreign_bases(self, node: ast.ClassDef) -> list[type]:
        """Classes of other packages among a class's ancestors, also above the project's bases."""
        found = []
        for dotted in filter(None, map(self.stands_for, node.bases)):
            module, _, name = dotted.rpartition(".")
            base = getattr(importlib.import_module(module), name, None)
            if isinstance(base, type):
                found += [c for c in base.__mro__[:-1] if is_foreign(c.__module__)]
        return found

    def visit_Call(self, node: ast.Call) -> None:
        if getattr(node.func, "id", "") in ("setattr", "delattr"):
            name = getattr(node.args[1], "value", "?")
            self.check_set(node, node.args[0], str(name), node.args[-1])
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete) -> None:
        value = getattr(node, "value", None)
        for target in getattr(node, "targets", None) or [node.target]:
            for part in getattr(target, "elts", [target]):
                if isinstance(part, ast.Attribute):
                    self.check_set(node, part.value, part.attr, value)
                elif isinstance(part, ast.Name) and (dotted := value and self.stands_for(value)):
                    self.imported[part.id] = dotted  # another name for the same thing
        self.generic_visit(node)

    visit_AnnAssign = visit_AugAssign = visit_Delete = visit_Assign

    def check_set(self, node: ast.AST, owner: ast.expr, name: str, value: ast.expr | None) -> None:
        dotted = self.stands_for(owner)
        if dotted and is_foreign(dotted) and f"{dotted}.{name}" not in SETTINGS:
            self.report(node, f"sets {dotted}.{name}")
        is_self = getattr(owner, "id", "") in ("self", "cls")
        is_function = isinstance(value, ast.Lambda) or getattr(value, "id", "") in self.functions
        if not is_self and (is_function or name in ("forward", "__class__", "__call__")):
            self.report(node, f"replaces {ast.unparse(owner)}.{name}")


def wrong_arrows(module: str, reader: Reader) -> list[str]:
    room = room_of(module)
    if room is None:  # a benchmark
        return []
    wrong = [
        f"imports {name}"
        for name in sorted(reader.imports)
        if (other := room_of(name)) and other != room and other not in ALLOWED[room]
    ]
    packages = {name.split(".")[0] for name in reader.imports}
    if "gradio" in packages and room not in GRADIO_ROOMS:
        wrong.append("imports gradio")
    if "torchaudio" in packages and room not in TORCHAUDIO_ROOMS:
        wrong.append("imports torchaudio")
    return wrong


def broken_rules(module: str, source: str) -> list[str]:
    reader = Reader(module, source)
    return reader.broken + wrong_arrows(module, reader)


def files(root: Path) -> dict[str, Path]:
    """Dotted module names and files of the project, without its tests."""
    found = [*root.glob("*.py")]
    for folder in ("music_genre", "data_prep", "baselines", "benchmarks"):
        found += (root / folder).rglob("*.py")
    return {".".join(f.relative_to(root).with_suffix("").parts): f for f in sorted(found)}


def test_every_file_keeps_the_rules(root):
    found = {m: broken_rules(m, path.read_text("utf-8")) for m, path in files(root).items()}
    assert not {module: rules for module, rules in found.items() if rules}


def test_every_room_has_files(root):
    assert set(ALLOWED) == {room for module in files(root) if (room := room_of(module))}


WRONG_ARROWS = [
    ("music_genre.audio", "from music_genre.training import trainer"),
    ("music_genre.audio", "from .training import trainer"),
    ("music_genre.audio", "import data_prep.splits"),
    ("music_genre.audio", "def f():\n    import music_genre.evaluation.metrics"),
    ("music_genre.audio", "import torchaudio"),
    ("music_genre.demo.page", "from data_prep.synthetic import synthesise"),
    ("music_genre.demo.page", "from ..training import trainer"),
    ("app", "from music_genre.evaluation.metrics import summarize"),
    ("music_genre.library.scan", "import gradio as gr"),
    ("music_genre.publishing.hub", "from music_genre.demo import pictures"),
]
SUBCLASS = "from transformers import Trainer\nclass T(Trainer):\n    "
CHANGES = [  # of another package, by a file of the core
    SUBCLASS + "def _load_scaler(self): 1",
    SUBCLASS + "def f(self): return self._prepare_inputs({})",
    SUBCLASS + "def f(self): super()._load_scaler()",
    "import transformers\ntransformers.Trainer = None",
    "import gradio.processing_utils as p\np.save_file = print",
    "from transformers import Trainer\nTrainer.train = None",
    "from transformers import Trainer as T\nsetattr(T, 'train', None)",
    "from transformers import Trainer\nT = Trainer\nT.train = None",
    "import gradio\ndel gradio.x",
    "import gradio\ngradio.x, y = 1, 2",
    "def g(): 1\ndef f(server):\n    server.shutdown = g",
    "def f(layer, other):\n    layer.forward = other",
    "def f(layer):\n    setattr(layer, 'forward', 1)",
    "def f(layer):\n    layer.call = lambda x: x",
    "def f(layer):\n    layer.__class__ = int",
]


@pytest.mark.parametrize(
    ("module", "source"), [*WRONG_ARROWS, *(("music_genre.x", source) for source in CHANGES)]
)
def test_a_broken_rule_is_noticed(module, source):
    assert broken_rules(module, source)


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def _f(self): return self._f()",
        SUBCLASS + "def __init__(self): self._own = 1\n    def f(self): return self._own",
        "def f(config):\n    config.window_seconds = 1.0",
        "import os\nos.environ['X'] = '1'",
    ],
)
def test_allowed_code_passes(source):
    assert not broken_rules("music_genre.x", source)
