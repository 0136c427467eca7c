"""The order of the house: imports point one way, importing defines things, public names are the promised ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import rung

SOURCE = Path(rung.__file__).parent

ORDER = [
    ("version", "starter"),
    ("errors", "text", "ids", "blocking"),
    ("receipt", "files", "exclusive"),
    ("structured", "models"),
    ("task", "quantities"),
    ("prompts", "policy"),
    ("config",),
    ("userfiles",),
    ("rows",),
    ("suite", "costs"),
    ("engines", "trust", "ledger"),
    ("egress", "review"),
    ("project",),
    ("evidence",),
    ("outcome",),
    ("climb",),
    ("ladder",),
    ("training", "calibration", "batch", "doctor"),
    ("evals",),
    ("cli",),
]
"""Layers from the bottom; a module imports only from layers below its own, or from its own package."""

LAYER = {name: depth for depth, names in enumerate(ORDER) for name in names}


def modules() -> dict[str, Path]:
    """Dotted name below `rung` to file, the package's own `__init__` left out."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and name != "__main__":  # which only starts the command line
            found[name] = path
    return found


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it, as dotted names below `rung`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rung."):
            names.add((node.module or "").removeprefix("rung."))
        elif isinstance(node, ast.Import):
            names |= {
                a.name.removeprefix("rung.") for a in node.names if a.name.startswith("rung.")
            }
    return names


def test_every_module_has_a_layer() -> None:
    """A new module says where it belongs."""
    assert {name.split(".")[0] for name in modules()} == set(LAYER)


def test_imports_point_down() -> None:
    """No module imports from a layer at or above its own, its own package excepted."""
    upwards = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imported(path)
        if other.split(".")[0] != name.split(".")[0]
        and LAYER[other.split(".")[0]] >= LAYER[name.split(".")[0]]
    ]
    assert upwards == []


def test_no_two_modules_import_each_other() -> None:
    """The graph of modules has no cycle."""
    graph = {name: imported(path) & set(modules()) for name, path in modules().items()}
    while leaves := [name for name, needs in graph.items() if not needs & set(graph)]:
        for name in leaves:
            del graph[name]
    assert graph == {}


def test_importing_the_package_is_light() -> None:
    """`import rung` loads neither numpy nor anything else heavy."""
    code = "import sys, rung; print([m for m in ('numpy', 'msgspec', 'aiohttp', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_answering_needs_no_training_library() -> None:
    """The path of an answer loads neither scikit-learn nor scipy.stats."""
    code = (
        "import sys, rung.ladder, rung.engines.student.engine, rung.engines.openai.engine, rung.batch.runner;"
        "print([m for m in ('sklearn', 'scipy.stats', 'scipy.sparse') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_the_promised_ones() -> None:
    """Every name in `__all__` can be had, and each has a docstring."""
    assert sorted(rung.__all__) == rung.__all__
    for name in rung.__all__:
        assert getattr(rung, name) is not None
        assert name == "__version__" or getattr(rung, name).__doc__
