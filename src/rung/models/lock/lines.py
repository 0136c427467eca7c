"""The line of a value in a JSON file, so that what is wrong with it can be found."""

from __future__ import annotations

import json
import re

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def line_of(content: bytes, place: str) -> int:
    """The line, from 1, on which a value starts; of the nearest one around it where there is none such.

    Args:
        content: well-formed JSON.
        place: as msgspec writes it: `$.artefacts[0].files[1].size`.
    """
    text = content.decode(errors="replace")
    at = _value_start(text, 0)
    for name, index in _STEP.findall(place):
        try:
            found = _member(text, at, name) if name else _item(text, at, index)
        except (ValueError, RecursionError):  # this parser has narrower limits than the one before
            break
        if found is None:
            break
        at = found
    return text.count("\n", 0, at) + 1


def _member(text: str, at: int, name: str) -> int | None:
    """Where the value of a key of the object at `at` starts."""
    if text[at] != "{":
        return None
    at = _value_start(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _value_start(text, _value_start(text, at) + 1)  # behind the colon
        if key == name:
            return at
        at = _behind(text, at)
    return None


def _item(text: str, at: int, index: str) -> int | None:
    """Where an item of the array at `at` starts."""
    if text[at] != "[" or not index.isdigit():
        return None
    at = _value_start(text, at + 1)
    for _ in range(int(index)):
        if text[at] == "]":
            return None
        at = _behind(text, at)
    return at


def _behind(text: str, at: int) -> int:
    """Where the next member or item starts, or the closing bracket stands."""
    at = _value_start(text, _DECODER.raw_decode(text, at)[1])
    return _value_start(text, at + 1) if text[at] == "," else at


def _value_start(text: str, at: int) -> int:
    """The first position from `at` that is no white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at
