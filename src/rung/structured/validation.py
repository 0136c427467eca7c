"""The validator that a finished answer is held to: every keyword that its draft knows, and every format it names.

JSON Schema itself lets a validator pass over formats; here they are checked, and one that nothing can check is
refused with the schema, before any answer is held to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from rung.errors import ConfigError
from rung.receipt import JsonValue
from rung.structured.keywords import CHECKED_FORMATS
from rung.structured.places import places
from rung.structured.pointers import shown
from rung.structured.weakening import draft_of

if TYPE_CHECKING:
    import jsonschema_rs


def validator_of(schema: JsonValue) -> jsonschema_rs.Validator:
    """Compile a schema; nothing is fetched for it.

    Args:
        schema: a JSON Schema of draft 4 to 2020-12.

    Raises:
        ConfigError: it is none, a `$ref` leads out of it, a part is of another draft than the whole, or it names a
            format that nothing checks.
    """
    import jsonschema_rs  # noqa: PLC0415 - 20 ms that only structured output needs

    check_parts(schema)
    try:
        return jsonschema_rs.validator_for(
            schema,
            retriever=_refuse_remote,
            validate_formats=True,
            ignore_unknown_formats=False,
            formats=_formats() if draft_of(schema) < 2019 else None,
        )
    except (jsonschema_rs.ValidationError, ValueError) as error:
        said = str(error).splitlines()[0][:200]
        raise ConfigError(f"the schema is not a valid JSON Schema: {said}") from error


def check_parts(schema: JsonValue) -> None:
    """Refuse what a validator would pass over or misread without a word.

    Raises:
        ConfigError: a part is of another draft than the whole, or a format is one that nothing checks.
    """
    draft = draft_of(schema)
    for at, node in places(schema).items():
        if not isinstance(node, dict):
            continue
        named = node.get("format")
        if isinstance(named, str) and named not in CHECKED_FORMATS:
            raise ConfigError(
                f"{shown((*at, 'format'))} is {named!r}, a format that nothing checks",
                hint="leave it out, or say it as a pattern",
            )
        if at and isinstance(node.get("$schema"), str) and draft_of(node) != draft:
            raise ConfigError(
                f"{shown((*at, '$schema'))} is {node['$schema']!r}, and the schema around it is of another draft",
                hint="write this part in draft 2020-12 and leave $schema out",
            )


def _refuse_remote(uri: str) -> JsonValue:
    raise ValueError(f"{uri!r} is not part of this schema, and nothing is fetched")


@functools.cache
def _formats() -> dict[str, Callable[[str], bool]]:
    """The formats of the newest draft, for those that know fewer: tools write `uuid` in draft 7."""
    import jsonschema_rs  # noqa: PLC0415 - as above

    return {
        name: jsonschema_rs.validator_for({"format": name}, validate_formats=True).is_valid
        for name in sorted(CHECKED_FORMATS)
    }
