"""A drawing of how much memory growing contexts take, beside how much there is: an SVG file or a page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from rung.cli.fittext import memory, settings
from rung.errors import InputError
from rung.evals.report.markup import Markup, join
from rung.evals.report.style import standalone_style
from rung.evals.report.svg import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    axes,
    curve,
    dot,
    drawing,
    label,
    line,
    ticks,
)
from rung.files import write_atomically
from rung.models.fit.sweep import Row
from rung.models.hardware.machine import DeviceKind
from rung.quantities import counted

_HEIGHT = 340.0
_HEAD = 26.0
_GIB = 1024**3
_APART = 1.4
"""Least ratio of two marks of the logarithmic axis whose words do not touch."""

_LINES = ("measured", "certifying", "target")
"""Styles of the shared sheet that can be told apart without colours, too."""


def write_plot(path: Path, rows: Sequence[Row]) -> None:
    """Write the drawing.

    Args:
        path: ends in `.svg` or `.html`.
        rows: as `sweep` makes them, everything on the card where there is one.

    Raises:
        InputError: the path ends otherwise, or there are fewer than two contexts to draw.
        StorageError: it cannot be written.
    """
    check_plot(path)
    if len(rows) < 2:
        raise InputError("a plot needs two contexts or more, and this model was trained for fewer")
    svg = plot(rows)
    if path.suffix.lower() == ".html":
        svg = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>rung fit</title>\n{svg}\n</html>\n'
    write_atomically(path, svg.encode())


def check_plot(path: Path) -> None:
    """Refuse a name before any work is done for it.

    Raises:
        InputError: it ends in neither `.svg` nor `.html`, or there is no such folder.
    """
    if path.suffix.lower() not in (".svg", ".html"):
        raise InputError(
            f"cannot draw into {str(path)!r}: only SVG and HTML are written",
            hint="give the file a name that ends in .svg or .html",
        )
    if not path.parent.is_dir():
        raise InputError(
            f"cannot draw into {str(path)!r}: there is no folder {str(path.parent)!r}",
            hint="make the folder, or name a file in one that exists",
        )


def plot(rows: Sequence[Row]) -> str:
    """The drawing as SVG, a document of its own."""
    first = rows[0].estimates[0]
    device = next((b for b in first.budgets if b.kind is DeviceKind.GPU), first.budgets[0])
    place = first.budgets.index(device)
    needs = [[one.budgets[place].needed for one in context.estimates] for context in rows]
    top = max(device.available, *(max(sizes) for sizes in needs)) / _GIB * 1.06
    spans = (float(rows[0].per_slot), float(rows[-1].per_slot))
    frame = Frame.of(spans, (0.0, top), height=_HEIGHT, top=TOP + _HEAD, log_x=True)
    lines = [
        _needed(frame, rows, [sizes[number] for sizes in needs], number)
        for number in range(len(rows[0].estimates))
    ]
    counts = [one.run.slots for one in rows[0].estimates]
    return drawing(
        axes(
            frame,
            x_ticks=_marks([row.per_slot for row in rows]),
            y_ticks=ticks(top),
            x_text=_tokens,
            y_text=lambda value: f"{value:g}",
            x_title=f"{'tokens that slots share' if first.run.unified else 'tokens a slot'} (logarithmic)",
            y_title=f"GiB on {device.device}" if len(first.budgets) > 1 else "GiB",
        ),
        _available(frame, device.available),
        *lines,
        _legend(counts),
        label(first.model[:40], (WIDTH - RIGHT, 19), anchor="end", class_="strong"),
        title=f"Memory that {first.model} takes by context",
        description=f"{first.model} on {first.machine}: {memory(needs[0][0])} at {rows[0].per_slot:,} tokens, "
        f"{memory(needs[-1][0])} at {rows[-1].per_slot:,}; {memory(device.available)} are free on {device.device}. "
        f"{settings(first.run)}.",
        height=_HEIGHT,
        name="fit",
        style=standalone_style(),
    )


def _needed(frame: Frame, rows: Sequence[Row], sizes: Sequence[int], number: int) -> Markup:
    points = [
        frame.at(float(row.per_slot), size / _GIB) for row, size in zip(rows, sizes, strict=True)
    ]
    dots = [
        dot(
            point,
            "measured-dot",
            radius=3.0,
            tip=f"{row.per_slot:,} tokens a slot, {counted(row.estimates[number].run.slots, 'slot')}: "
            f"{memory(size)}, {row.estimates[number].verdict}",
        )
        for point, row, size in zip(points, rows, sizes, strict=True)
    ]
    return join((curve(points, _LINES[number % len(_LINES)]), *dots))


def _available(frame: Frame, available: int) -> Markup:
    y = frame.y(available / _GIB)
    return join(
        (
            line((LEFT, y), (WIDTH - RIGHT, y), "mark"),
            label(f"{memory(available)} free", (LEFT + 6, y - 6), anchor="start", class_="note"),
        )
    )


def _legend(counts: Sequence[int]) -> Markup:
    parts = []
    x = 4.0
    for number, count in enumerate(counts):
        words = counted(count, "slot")
        parts.append(line((x, 15), (x + 24, 15), _LINES[number % len(_LINES)]))
        parts.append(label(words, (x + 30, 19), anchor="start", class_="tick"))
        x += 30 + 6.9 * len(words) + 16
    return join(parts)


def _marks(contexts: Sequence[int]) -> list[float]:
    """At most seven of the contexts, the first one among them, none too near to the next."""
    step = math.ceil(len(contexts) / 7)
    chosen = contexts[::step]
    apart = [one for one, after in itertools.pairwise(chosen) if after / one >= _APART]
    return [float(context) for context in (*apart, chosen[-1])]


def _tokens(value: float) -> str:
    return f"{value / 1024:g}k" if value % 1024 == 0 else f"{value:,.0f}"
