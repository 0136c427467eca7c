"""Places inside a JSON value, as steps and as RFC 6901 text."""

from __future__ import annotations

from urllib.parse import unquote

from rung.errors import ConfigError
from rung.receipt import JsonValue

Pointer = tuple[str, ...]
"""Steps from the root; an index into a list is its digits."""


def shown(pointer: Pointer) -> str:
    """The pointer as text: `/properties/tags`; the root is the empty text."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in pointer)


def parsed(fragment: str) -> Pointer:
    """The steps of a `$ref` fragment that begins with `/` or is empty."""
    steps = unquote(fragment).split("/")[1:]
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def reached(root: JsonValue, pointer: Pointer) -> tuple[JsonValue, ...]:
    """What stands at `pointer` below `root`, alone; empty when nothing does."""
    try:
        return (value_at(root, pointer),)
    except ConfigError:
        return ()


def value_at(root: JsonValue, pointer: Pointer) -> JsonValue:
    """What stands at `pointer` below `root`.

    Raises:
        ConfigError: nothing stands there.
    """
    value = root
    for depth, step in enumerate(pointer, start=1):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise ConfigError(f"the schema holds nothing at {shown(pointer[:depth])!r}")
    return value
