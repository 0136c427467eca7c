"""JSON Schemas (draft 2020-12) of task files and `rung.toml`, for editors that complete and check them.

Made from the structs that the loaders check files with (`settings_shape`, `task_shape`); nothing is said twice. What
one key asks of another file, or of the whole of `rung.toml`, only the loaders can check.
"""

from __future__ import annotations

import enum

import msgspec

from rung.config import EngineName
from rung.receipt import JsonValue
from rung.task import Kind
from rung.userfiles.settings import NEEDED, NOT_FOR
from rung.userfiles.settings_shape import SettingsFile
from rung.userfiles.task_shape import TaskFile
from rung.userfiles.tasks import KIND_KEYS, KIND_OPTIONS

DRAFT = "https://json-schema.org/draft/2020-12/schema"


class FileType(enum.StrEnum):
    """The files a person writes."""

    TASK = "task"
    CONFIG = "config"


def schema_of(file: FileType) -> dict[str, JsonValue]:
    """The JSON Schema of one type of file, as a new value."""
    shape = TaskFile if file is FileType.TASK else SettingsFile
    schema: dict[str, JsonValue] = _without_null(msgspec.json.schema(shape))
    definitions = schema["$defs"]
    if file is FileType.TASK:
        definitions["TaskFile"]["allOf"] = _kind_rules()
    else:
        definitions["RungTable"]["allOf"] = _engine_rules()
    title = "Rung task file" if file is FileType.TASK else "Rung settings (rung.toml)"
    return {"$schema": DRAFT, "title": title, **schema}


def _kind_rules() -> list[JsonValue]:
    """Each kind takes its own keys: exactly one of them, and none of another kind's."""
    rules: list[JsonValue] = []
    for kind in Kind:
        own = [key for key, owner in KIND_KEYS.items() if owner is kind]
        owners = KIND_KEYS | KIND_OPTIONS
        then: JsonValue = {
            "properties": {key: False for key, owner in owners.items() if owner is not kind}
        }
        if own:
            then["oneOf"] = [{"required": [key]} for key in own]
        rules.append(_when("kind", kind.value, then))
    return rules


def _engine_rules() -> list[JsonValue]:
    """Each engine needs some keys and does nothing with others."""
    return [
        _when(
            "engine",
            engine.value,
            {"required": list(NEEDED[engine]), "properties": dict.fromkeys(NOT_FOR[engine], False)},
        )
        for engine in EngineName
    ]


def _when(key: str, value: str, then: JsonValue) -> JsonValue:
    return {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": then}


def _without_null(node: JsonValue) -> JsonValue:
    """TOML has no null: an absent key is left out, so the schema does not offer one."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _without_null(value)
        for key, value in node.items()
        if key != "default" or not _holds_null(value)
    }
    choices = [choice for choice in kept.get("anyOf", ()) if choice != {"type": "null"}]
    if "anyOf" in kept:
        del kept["anyOf"]
        kept |= {"anyOf": choices} if len(choices) > 1 else choices[0]
    return kept


def _holds_null(value: JsonValue) -> bool:
    return value is None or (isinstance(value, dict) and any(map(_holds_null, value.values())))
