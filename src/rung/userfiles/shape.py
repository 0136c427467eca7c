"""Checking a parsed TOML table against an annotated struct, collecting every mistake instead of the first.

The structs of `settings_shape` and `task_shape` are the one description of the files; their JSON Schemas are made from
the same structs.
A field's `Meta(extra={"must": ...})` says in words what it takes, where its type does not say it well enough.
"""

from __future__ import annotations

import datetime
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from rung.userfiles.document import Key, Mistakes, did_you_mean, one_of, shown_key, shown_value

Shape = TypeVar("Shape", bound=msgspec.Struct)

MISSING: Any = object()  # what a wrong value is read as; compared by identity and never passed on

_PLAIN: dict[object, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    datetime.date: "a date such as 2026-01-31",
}


def read_table(shape: type[Shape], data: object, at: Key, mistakes: Mistakes) -> Shape | None:
    """`data` as a `shape`; None when a required key is missing or wrong.

    A wrong optional key is noted and reads as absent, so that what depends on the others can still be checked.
    A wrong required key does the same where its `Meta(extra={"otherwise": ...})` says what to go on with.
    """
    if not isinstance(data, dict):
        mistakes.add(at, f"{shown_key(at)} must be a table, not {shown_value(data)}")
        return None
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    _report_unknown(data, fields, at, mistakes)
    values: dict[str, object] = {}
    complete = True
    for key, field in fields.items():
        if key in data:
            value = read_value(field.type, data[key], (*at, key), mistakes)
        elif field.required:
            said = f"{shown_key((*at, key))} is missing: {must_be(field.type)}"
            mistakes.add_missing((*at, key), (*at, key), said)
            value = MISSING
        else:
            continue
        if value is MISSING and field.required:
            value = _extra(field.type).get("otherwise", MISSING)
            complete = complete and value is not MISSING
        if value is not MISSING:
            values[field.name] = value
    return shape(**values) if complete else None


def read_value(kind: Any, value: object, at: Key, mistakes: Mistakes) -> Any:
    """`value` as a `kind` (any annotation msgspec takes), or `MISSING` with the mistake noted."""
    container = _branch(kind, value)
    if isinstance(container, type) and issubclass(container, msgspec.Struct):
        table = read_table(container, value, at, mistakes)
        return MISSING if table is None else table
    origin, arguments = typing.get_origin(container), typing.get_args(container)
    if origin is dict and isinstance(value, dict):
        named = _read_entries(arguments, value, at, mistakes)
        return _read_leaf(kind, value, at, mistakes) if not value else named
    if origin is tuple and isinstance(value, list):
        items = [
            read_value(arguments[0], item, (*at, index), mistakes)
            for index, item in enumerate(value)
        ]
        if not items:
            return _read_leaf(kind, value, at, mistakes)
        return MISSING if any(item is MISSING for item in items) else tuple(items)
    return _read_leaf(kind, value, at, mistakes)


def must_be(kind: Any) -> str:
    """What a value of `kind` is, in words."""
    stated = _extra(kind).get("must")
    if stated is not None:
        return str(stated)
    bare = _bare(kind)
    choices = _choices(bare)
    if choices:
        return one_of(choices)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return "a table"
    origin = typing.get_origin(bare)
    if origin is dict:
        return "a table"
    if origin is tuple:
        return f"a list of {must_be(typing.get_args(bare)[0])}"
    return _PLAIN.get(bare, "another kind of value")


def _report_unknown(
    data: Mapping[str, object], fields: Mapping[str, object], at: Key, mistakes: Mistakes
) -> None:
    for key in data:
        if key not in fields:
            mistakes.add_unknown((*at, key), fields)


def _read_entries(
    arguments: tuple[Any, ...], value: Mapping[str, object], at: Key, mistakes: Mistakes
) -> dict[Any, Any]:
    """The good entries of a table whose keys the user chooses."""
    named: dict[Any, Any] = {}
    for key, entry in value.items():
        name = _read_leaf(arguments[0], key, (*at, key), mistakes, what="name")
        content = read_value(arguments[1], entry, (*at, key), mistakes)
        if name is not MISSING and content is not MISSING:
            named[name] = content
    return named


def _read_leaf(
    kind: Any, value: object, at: Key, mistakes: Mistakes, *, what: str | None = None
) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        hidden = _extra(kind).get("secret", False)
        found = "what it is" if hidden else shown_value(value)
        key = shown_key(at[:-1]) + f": a {what}" if what else shown_key(at)
        guess = did_you_mean(value, _choices(_bare(kind))) if not hidden else ""
        mistakes.add(at, f"{key} must be {must_be(kind)}, not {found}{guess}")
        return MISSING


def _branch(kind: Any, value: object) -> Any:
    """The member of an optional or union type that a table or list could be; `kind` bare otherwise."""
    bare = _bare(kind)
    if typing.get_origin(bare) not in (typing.Union, types.UnionType):
        return bare
    wanted = tuple if isinstance(value, list) else dict
    members = [_bare(member) for member in typing.get_args(bare)]
    for member in members:
        if isinstance(value, list | dict) and typing.get_origin(member) is wanted:
            return member
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            return member
    return bare


def _bare(kind: Any) -> Any:
    """`kind` without `Annotated` and without `| None`."""
    if typing.get_origin(kind) is typing.Annotated:
        return _bare(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return _bare(members[0])
    return kind


def _extra(kind: Any) -> Mapping[str, Any]:
    """What the annotations of `kind` say beyond its type; those further out win."""
    found: dict[str, Any] = {}
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return _extra(members[0]) if len(members) == 1 else found
    if typing.get_origin(kind) is typing.Annotated:
        inner, *notes = typing.get_args(kind)
        found.update(_extra(inner))
        for note in notes:
            if isinstance(note, msgspec.Meta) and note.extra:
                found.update(note.extra)
    return found


def _choices(bare: Any) -> tuple[str, ...]:
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return tuple(str(member.value) for member in bare)
    if typing.get_origin(bare) is typing.Literal:
        return tuple(str(value) for value in typing.get_args(bare))
    return ()
