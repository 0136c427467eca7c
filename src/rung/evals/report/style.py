"""The style sheets beside this file: `style.css` for the page, `chart.css` for charts wherever they stand."""

from __future__ import annotations

from importlib import resources


def page_style() -> str:
    """The page's style sheet, that of the charts included."""
    return f"{_read('chart.css')}\n{_read('style.css')}"


def standalone_style() -> str:
    """The charts' style sheet alone, for an SVG file of its own."""
    return _read("chart.css")


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
