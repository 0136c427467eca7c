"""Drawing primitives: scales, axes, paths and labels as SVG, without a plotting library.

Colours are classes; `chart.css` gives them light and dark values. What is drawn is up to `charts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rung.evals.report.markup import Markup, join, tag, trusted

WIDTH = 460.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 22.0, 14.0, 46.0
"""Margins of a chart's plot, in the units of its view box; text is 13 units high."""

CARD_EDGE = 16.0
"""Room around a chart that stands in a file of its own."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values `low`..`high` to positions `start`..`end`, linearly or by logarithm; values beyond are cut."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of `value`."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Frame:
    """The plot area of one chart: `x` grows to the right, `y` upwards."""

    x: Scale
    y: Scale

    @classmethod
    def of(
        cls,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        height: float = 300.0,
        top: float = TOP,
        log_x: bool = False,
    ) -> Frame:
        """A frame over the ranges `x` and `y` in a drawing `height` units high."""
        return cls(
            Scale(*x, LEFT, WIDTH - RIGHT, log=log_x),
            Scale(*y, height - BOTTOM, top),
        )

    def at(self, x: float, y: float) -> Point:
        """Where a value lies on the drawing."""
        return self.x(x), self.y(y)


def ticks(high: float, wanted: int = 5) -> list[float]:
    """Round values from 0 to at most `high`, about `wanted` of them, steps of 1, 2 or 5 times a power of ten."""
    rough = high / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [step * place for place in range(int(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`; with fewer than two of them, also their doubles and fivefolds."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def within(factors: Sequence[int]) -> list[float]:
        every = [factor * 10.0**power for power in powers for factor in factors]
        return [value for value in every if low * 0.999 <= value <= high * 1.001]

    tens = within((1,))
    return tens if len(tens) > 1 else within((1, 2, 5))


def drawing(
    *children: str, title: str, description: str, height: float, name: str, style: str | None = None
) -> Markup:
    """An `svg` element that says what it shows to those who cannot see it; `name` makes its ids unique.

    With `style` it is a document of its own: namespaced, sized, its style sheet inside.
    """
    alone = style is not None
    edge = CARD_EDGE if alone else 0.0
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", description, id=f"{name}-desc"),
        tag("style", trusted(style)) if style is not None else "",
        rectangle((-edge, -edge), (WIDTH + edge, height + edge), "card") if alone else "",
        *children,
        xmlns="http://www.w3.org/2000/svg" if alone else None,
        width=(WIDTH + 2 * edge) * 1.5 if alone else None,
        height=(height + 2 * edge) * 1.5 if alone else None,
        viewBox=f"{-edge:g} {-edge:g} {WIDTH + 2 * edge:g} {height + 2 * edge:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )


def axes(
    frame: Frame,
    *,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    x_title: str,
    y_title: str,
) -> Markup:
    """Grid lines, tick labels and titles with units along both axes."""
    bottom, top, left, right = frame.y.start, frame.y.end, frame.x.start, frame.x.end
    across = [
        join(
            (
                line((left, frame.y(value)), (right, frame.y(value)), "grid"),
                label(y_text(value), (left - 7, frame.y(value) + 4), anchor="end", class_="tick"),
            )
        )
        for value in y_ticks
    ]
    along = [
        join(
            (
                line((frame.x(value), bottom), (frame.x(value), bottom + 4), "axis"),
                label(x_text(value), (frame.x(value), bottom + 18), class_="tick"),
            )
        )
        for value in x_ticks
    ]
    middle = (top + bottom) / 2
    return join(
        (
            *across,
            *along,
            line((left, bottom), (right, bottom), "axis"),
            label(x_title, ((left + right) / 2, bottom + 38), class_="axis-title"),
            tag(
                "text",
                y_title,
                class_="axis-title",
                text_anchor="middle",
                transform=f"translate(12 {middle:g}) rotate(-90)",
            ),
        )
    )


def line(start: Point, end: Point, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def curve(points: Sequence[Point], class_: str) -> Markup:
    """A line through `points`, already on the drawing."""
    return tag("path", d=_through(points), class_=class_)


def band(upper: Sequence[Point], lower: Sequence[Point], class_: str) -> Markup:
    """The area between two lines of points."""
    return tag("path", d=_through([*upper, *reversed(lower)]) + "Z", class_=class_)


def rectangle(start: Point, end: Point, class_: str, *, tip: str = "") -> Markup:
    """A rectangle between two opposite corners; `tip` shows on hovering."""
    return tag(
        "rect",
        tag("title", tip) if tip else "",
        x=min(start[0], end[0]),
        y=min(start[1], end[1]),
        width=abs(end[0] - start[0]),
        height=abs(end[1] - start[1]),
        class_=class_,
    )


def dot(at: Point, class_: str, *, radius: float = 4.5, tip: str = "") -> Markup:
    """A round mark; `tip` shows on hovering."""
    return tag(
        "circle", tag("title", tip) if tip else "", cx=at[0], cy=at[1], r=radius, class_=class_
    )


def label(text: str, at: Point, *, anchor: str = "middle", class_: str = "label") -> Markup:
    """Text with its baseline at `at`."""
    return tag("text", text, x=at[0], y=at[1], text_anchor=anchor, class_=class_)


def clipped(frame: Frame, name: str, *children: str) -> Markup:
    """`children` cut off at the edge of the plot."""
    area = rectangle((frame.x.start, frame.y.start), (frame.x.end, frame.y.end), "clip")
    return join(
        (
            tag("clipPath", area, id=f"{name}-plot"),
            tag("g", *children, clip_path=f"url(#{name}-plot)"),
        )
    )


def _through(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
