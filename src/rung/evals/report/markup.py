"""Markup that is safe by construction: plain text is escaped wherever it enters, for HTML and SVG alike.

Only `tag`, `join` and `trusted` make `Markup`; a label or a text from somebody's file can never become an element.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

VOID = frozenset({"meta", "br", "hr"})

# Control characters are not allowed in either language, and a lone surrogate cannot be written as UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup already; any other `str` is escaped."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """`text` as it may stand in content or in a quoted attribute."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)))


def trusted(text: str) -> Markup:
    """Markup of our own that is not built with `tag`: a style sheet, an entity."""
    return Markup(text)


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Several pieces in a row, each escaped unless it is markup."""
    return Markup(escape(between).join(escape(part) for part in parts))


def tag(element: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """An element. `class_="a"` is `class="a"`, `stroke_width=2` is `stroke-width="2"`; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{join(children)}</{element}>")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
