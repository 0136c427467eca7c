"""The exported JSON Schemas: valid, true of the files we ship, and of one mind with the loaders."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest

import rung.cli
from rung.errors import ConfigError
from rung.userfiles.schemas import FileType, schema_of
from rung.userfiles.settings import load_settings
from rung.userfiles.tasks import load_task

SHIPPED = [
    *(Path(rung.cli.__file__).parent / "templates").rglob("*.toml"),
    *(Path(__file__).parents[1] / "examples").rglob("*.toml"),
]

RUNG = '[rungs.s]\nengine = "student"\nmodel = "m"\n'
LADDER = '[ladders]\ndefault = ["s"]\n'
SETTINGS = "format = 1\n" + RUNG + LADDER
OPENAI = '[rungs.o]\nengine = "openai"\nmodel = "m"\nwhere = "site"\nbase_url = "http://h/v1"\n'

CONFIGS = {
    "smallest": (SETTINGS, True),
    "openai": (SETTINGS + OPENAI, True),
    "replay": (SETTINGS + '[rungs.r]\nengine = "replay"\nrecording = "a"\nreplays = "s"\n', True),
    "no matrix": (SETTINGS + "[policy]\n", True),
    "empty matrix": (SETTINGS + "[policy.egress]\n", True),
    "prices": (SETTINGS + '[frontier]\ninput_per_million = 1\noutput_per_million = "0.5"\n', True),
    "price with too many decimals": (
        SETTINGS + '[frontier]\ninput_per_million = "0.0000000001"\noutput_per_million = 1\n',
        False,
    ),
    "half a price": (SETTINGS + "[frontier]\ninput_per_million = 1\n", False),
    "no format": (RUNG + LADDER, False),
    "other format": ("format = 2\n" + RUNG + LADDER, False),
    "no rungs": ("format = 1\nrungs = {}\n" + LADDER, False),
    "no ladder": ("format = 1\nladders = {}\n" + RUNG, False),
    "empty ladder": (SETTINGS + "other = []\n", False),
    "unknown key": ("tasks_dirs = 'x'\n" + SETTINGS, False),
    "unknown key in a rung": (SETTINGS + "[rungs.s.limits]\nx = 1\n", False),
    "bad name": (SETTINGS + '[rungs."a b"]\nengine = "student"\nmodel = "m"\n', False),
    "bad place": (SETTINGS + '[policy.egress]\npublic = ["moon"]\n', False),
    "bad label": (SETTINGS + '[policy.egress]\npublik = ["site"]\n', False),
    "openai without a place": (SETTINGS + OPENAI.replace('where = "site"\n', ""), False),
    "student with a server": (
        "format = 1\n" + LADDER + RUNG + 'base_url = "http://localhost/v1"\n',
        False,
    ),
    "replay with a price": (
        SETTINGS
        + '[rungs.r]\nengine = "replay"\nrecording = "a"\nreplays = "s"\n'
        + "price = {input_per_million = 1, output_per_million = 1}\n",
        False,
    ),
    "concurrency of none": (SETTINGS + "[rungs.s.limits]\nconcurrency = 0\n", False),
    "ledger elsewhere": (SETTINGS + '[ledger]\nurl = "mysql://x"\n', False),
}

CLASSIFY = 'format = 1\nkind = "classify"\n'
TASKS = {
    "labels": (CLASSIFY + 'labels = ["a", "b"]\n', True),
    "described labels": (CLASSIFY + '[labels]\na = "x"\nb = ""\n', True),
    "schema": ('format = 1\nkind = "extract"\n[schema]\ntype = "object"\n', True),
    "tools": ('format = 1\nkind = "call"\nallow_none = true\n[[tools]]\nname = "x"\n', True),
    "no tools": ('format = 1\nkind = "call"\n', False),
    "not one tool": ('format = 1\nkind = "call"\ntools = []\n', False),
    "a tool with another key": (
        'format = 1\nkind = "call"\n[[tools]]\nname = "x"\nparams = {}\n',
        False,
    ),
    "no tool for a chat": ('format = 1\nkind = "chat"\nallow_none = true\n', False),
    "chat": ('format = 1\nkind = "chat"\nmax_latency_ms = 5\n', True),
    "percentage": (CLASSIFY + 'labels = ["a", "b"]\n[quality]\nmax_error = "2.5 %"\n', True),
    "no kind": ("format = 1\n", False),
    "kind that is none": ('format = 1\nkind = "summarise"\n', False),
    "no labels": (CLASSIFY, False),
    "one label": (CLASSIFY + 'labels = ["a"]\n', False),
    "one described label": (CLASSIFY + '[labels]\na = "x"\n', False),
    "label twice": (CLASSIFY + 'labels = ["a", "a"]\n', False),
    "empty label": (CLASSIFY + 'labels = ["a", ""]\n', False),
    "labels twice over": (CLASSIFY + 'labels = ["a", "b"]\nlabels_file = "x"\n', False),
    "labels of a chat": ('format = 1\nkind = "chat"\nlabels = ["a", "b"]\n', False),
    "no schema": ('format = 1\nkind = "extract"\n', False),
    "all wrong": (CLASSIFY + 'labels = ["a", "b"]\n[quality]\nmax_error = 1\n', False),
    "none wrong": (CLASSIFY + 'labels = ["a", "b"]\n[quality]\nmax_error = "0.0%"\n', False),
    "unknown key": (CLASSIFY + 'labels = ["a", "b"]\nlabel = 1\n', False),
    "name with a newline": (CLASSIFY + 'labels = ["a", "b"]\nladder = "a\\n"\n', False),
}


def accepts(file: FileType, text: str) -> bool:
    """Whether the JSON Schema accepts a file with this text."""
    validator = jsonschema_rs.Draft202012Validator(schema_of(file), validate_formats=True)
    data = msgspec.to_builtins(tomllib.loads(text))
    return bool(validator.is_valid(data))


@pytest.mark.parametrize("file", FileType)
def test_schemas_are_schemas(file: FileType) -> None:
    """Both exports are valid draft 2020-12 schemas."""
    assert schema_of(file)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema_of(file))


def _properties(node: object, name: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    if isinstance(node, dict):
        for key, value in node.get("properties", {}).items():
            if isinstance(value, dict) and "const" not in value:
                yield f"{name}.{key}", value
        for key, value in node.items():
            yield from _properties(value, key)


@pytest.mark.parametrize("file", FileType)
def test_every_key_is_described(file: FileType) -> None:
    """An editor has a sentence for every key, its own or that of its table."""
    schema = schema_of(file)
    silent = [
        name
        for name, value in _properties(schema)
        if "description" not in value
        and "description" not in schema["$defs"].get(str(value.get("$ref", "")).split("/")[-1], {})
    ]
    assert silent == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "/".join(path.parts[-3:]))
def test_shipped_files_are_valid(path: Path) -> None:
    """Templates and examples pass the schema and the loader."""
    settings = path.name == "rung.toml"
    assert accepts(FileType.CONFIG if settings else FileType.TASK, path.read_text("utf-8"))
    load_settings(path) if settings else load_task(path)


@pytest.mark.parametrize("name", CONFIGS)
def test_schema_and_loader_agree_on_settings(name: str, tmp_path: Path) -> None:
    """What the schema accepts the loader reads, and what it refuses the loader refuses."""
    text, good = CONFIGS[name]
    (tmp_path / "rung.toml").write_text(text)
    assert accepts(FileType.CONFIG, text) is good
    if good:
        load_settings(tmp_path)
    else:
        with pytest.raises(ConfigError):
            load_settings(tmp_path)


@pytest.mark.parametrize("name", TASKS)
def test_schema_and_loader_agree_on_tasks(name: str, tmp_path: Path) -> None:
    """What the schema accepts the loader reads, and what it refuses the loader refuses."""
    text, good = TASKS[name]
    path = tmp_path / "t.toml"
    path.write_text(text)
    assert accepts(FileType.TASK, text) is good
    if good:
        load_task(path)
    else:
        with pytest.raises(ConfigError):
            load_task(path)
