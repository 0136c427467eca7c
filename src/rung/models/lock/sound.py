"""What types cannot say of a lock: that names are one model's, paths stay in the project and texts can be shown."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

import msgspec

from rung.models.lock.record import Artefact, Lock

_SHOWN_ESCAPED = "template"
"""The one text that may hold anything; `scan.template.template_diff` shows it."""


def complaint(lock: Lock) -> str | None:
    """What is wrong with a lock whose types are right, as a clause; None where nothing is."""
    names: set[str] = set()
    weights: dict[str, str] = {}
    for artefact in lock.artefacts:
        name = artefact.name
        if name in names:
            return f"pins {name!r} twice"
        names.add(name)
        if wrong := _of_artefact(artefact):
            return wrong
        for file in artefact.weights:
            if file.path in weights:
                return f"pins {file.path!r} twice, as {weights[file.path]!r} and {name!r}"
            weights[file.path] = name
    return None


def is_below(path: str) -> bool:
    """Whether a relative path with forward slashes stays below where it starts, on every platform."""
    pure = PurePosixPath(path)
    return (
        bool(pure.parts)
        and not pure.is_absolute()
        and not PureWindowsPath(path).drive
        and ".." not in pure.parts
        and pure.as_posix() == path
    )


def is_nameable(path: str) -> bool:
    """Whether a path can stand in a lock: one spelling on every platform, and nothing in it that is not seen."""
    return "\\" not in path and path.isprintable()


def _of_artefact(artefact: Artefact) -> str | None:
    name = artefact.name
    if not name:
        return f"has a model without a name, of {artefact.source!r}"
    for file in artefact.files:
        if not is_below(file.path) or not is_nameable(file.path):
            return f"{name!r} has a file {file.path!r}, which does not lie below this folder"
    if not artefact.weights:
        return f"{name!r} has no weights"
    for where, text in _texts(artefact, ""):
        if not text.isprintable():
            return f"{name!r} has a text that cannot be shown, {text!r} ({where})"
    if not _is_time(artefact.retrieved):
        return f"{name!r} says {artefact.retrieved!r} for when it was retrieved, which is no time"
    return None


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each, where)
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            if field != _SHOWN_ESCAPED:
                yield from _texts(getattr(value, field), f"{where}.{field}".lstrip("."))


def _is_time(text: str) -> bool:
    """Whether a text is a moment, as RFC 3339 writes it: a time with its distance from UTC."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return False
    return moment.tzinfo is not None
