"""The errors of every formula side by side, as one SVG: the cache, and all memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rung.evals.report.markup import Markup, join
from rung.evals.report.style import standalone_style
from rung.evals.report.svg import RIGHT, WIDTH, Scale, dot, drawing, label, line

ROW = 26.0
GAP = 62.0
NAMES = 128.0
"""Room for names, left of the plots."""


def plot(ratios: Mapping[str, Sequence[float]], errors: Mapping[str, Sequence[float]]) -> str:
    """Draw what there is."""
    plain = {name: values for name, values in errors.items() if not name.endswith("constant")}
    first = _panel(ratios, 30.0, (0.01, 100.0), "KV cache: predicted / logged (1 is right)", 1.0)
    start = 30.0 + ROW * len(ratios) + GAP
    shifted = {name: [abs(value) + 1 for value in values] for name, values in plain.items()}
    second = _panel(shifted, start, (1.0, 20000.0), "all memory: |error| in MiB", 100.0)
    return drawing(
        first, second,
        title="Errors of memory estimates",
        description="One dot per row; the upright line marks the median of each formula.",
        height=start + ROW * len(plain) + GAP,
        name="fit",
        style=standalone_style(),
    )  # fmt: skip


def _panel(
    rows: Mapping[str, Sequence[float]],
    top: float,
    span: tuple[float, float],
    title: str,
    mark: float,
) -> Markup:
    if not rows:
        return Markup("")
    scale = Scale(*span, NAMES, WIDTH - RIGHT, log=True)
    bottom = top + ROW * len(rows)
    drawn = [label(title, (NAMES, top - 8), anchor="start", class_="axis-title")]
    for power in range(round(np.log10(span[0])), int(np.log10(span[1])) + 1):
        at = scale(10.0**power)
        drawn += [
            line((at, top), (at, bottom), "grid"),
            label(f"{10.0**power:g}", (at, bottom + 16), class_="tick"),
        ]
    drawn.append(line((scale(mark), top), (scale(mark), bottom), "target"))
    for place, (name, values) in enumerate(rows.items()):
        middle = top + ROW * (place + 0.5)
        drawn.append(label(name, (NAMES - 8, middle + 4), anchor="end", class_="tick"))
        drawn += [dot((scale(value), middle), "measured-dot", radius=2.4) for value in values]
        centre = scale(float(np.median(values)))
        drawn.append(line((centre, middle - 9), (centre, middle + 9), "whisker strong"))
    return join(drawn)
