"""Pieces of a page that hold no figures of their own: headings, boxes, tables that scroll inside themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rung.evals.report.markup import Markup, join, tag


def heading(text: str, name: str) -> Markup:
    """A section's heading, with the id that labels it."""
    return tag("h2", text, id=name)


def cells(*values: str, numbers: Sequence[int] = (), free: Sequence[int] = ()) -> Markup:
    """A table row; its first cell names it. `numbers` are columns set flush right, `free` may break anywhere."""
    first = tag("th", values[0], scope="row")
    rest = [
        tag("td", value, class_="n" if place in numbers else "free" if place in free else None)
        for place, value in enumerate(values[1:], 1)
    ]
    return tag("tr", first, *rest)


def table(
    head: Sequence[str],
    body: Iterable[str],
    *,
    name: str,
    numbers: Sequence[int] = (),
    caption: str = "",
    tall: bool = False,
) -> Markup:
    """A table that scrolls inside its own box where it is too wide, or too `tall`."""
    columns = [
        tag("th", title, scope="col", class_="n" if place in numbers else None)
        for place, title in enumerate(head)
    ]
    made = tag(
        "table",
        tag("thead", tag("tr", *columns)),
        tag("tbody", *body),
    )
    style = "scroll tall" if tall else "scroll"
    scrolling = tag("div", made, class_=style, tabindex="0", role="region", aria_label=name)
    return join((tag("p", caption, class_="caption"), scrolling)) if caption else scrolling


def panel(title: str, *children: str) -> Markup:
    """A box with a heading of its own."""
    return tag("div", tag("h3", title), *children, class_="panel")
