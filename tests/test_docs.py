"""Promises of the documents: every verb, setting and exit code is there, and their examples load."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rung
from rung.cli import VERBS, root
from rung.userfiles.schemas import FileType, schema_of
from rung.userfiles.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = "\n".join(
    path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_documented_and_helps(verb: str) -> None:
    """It is named in the documents, its line in the table is its own help's first sentence or shorter."""
    command = root.get_command(None, verb)  # type: ignore[arg-type]
    assert f"rung {verb}" in DOCS
    assert command is not None
    assert command.help


def settings_of(kind: FileType) -> set[str]:
    """Every key that a file of this kind may hold, at any depth."""
    found: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            found.update(node.get("properties", {}))
            for part in node.values():
                walk(part)
        elif isinstance(node, list):
            for part in node:
                walk(part)

    walk(schema_of(kind))
    return found


@pytest.mark.parametrize("kind", list(FileType))
def test_every_setting_is_documented(kind: FileType) -> None:
    """A key that can be written is a key that can be looked up."""
    text = (ROOT / "docs" / "files.md").read_text()
    words = set(re.findall(r"[A-Za-z_]+", text))
    assert settings_of(kind) - words <= {"default", "name", "format"}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", DOCS))))
def test_every_link_leads_somewhere(link: str) -> None:
    """Relative links of the README and of docs/."""
    assert (ROOT / link).exists() or (ROOT / "docs" / link).exists()


def test_the_rung_in_the_guide_loads(tmp_path: Path) -> None:
    """The guide's settings are valid as they stand."""
    guide = (ROOT / "docs" / "guide.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    student = '[rungs.student]\nengine = "student"\nmodel = "models/{task}"\nwhere = "device"\n'
    (tmp_path / "rung.toml").write_text(f"format = 1\n{student}{block}")
    assert list(load_settings(tmp_path / "rung.toml").rungs) == ["student", "local"]


def test_the_embedded_rung_in_the_documents_loads(tmp_path: Path) -> None:
    """Its settings are valid as they stand, given a ladder."""
    text = (ROOT / "docs" / "models.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    ladder = '[ladders]\ndefault = ["small"]\n'
    (tmp_path / "rung.toml").write_text(f"format = 1\n{block}{ladder}")
    assert load_settings(tmp_path / "rung.toml").embedded.memory_mib == 12000


def test_the_readmes_python_is_the_api() -> None:
    """Every name that the README takes from `rung` is there."""
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    taken = {
        node.attr
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "rung"
    }
    assert taken
    assert taken <= set(rung.__all__)
