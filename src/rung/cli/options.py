"""Options that several verbs share, so that they read and behave the same everywhere."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rung.task import Privacy


class Share(click.ParamType[float]):
    """A share written as `2%` or `0.02`."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The share as a number between 0 and 1."""
        import msgspec

        from rung.userfiles import values

        if isinstance(value, float):
            return value
        text = str(value)
        try:
            number: object = text if text.endswith("%") else float(text)
            return values.share(msgspec.convert(number, values.Share))
        except (ValueError, msgspec.ValidationError):
            self.fail(f"{value!r} is not a share such as 2% or 0.02", param, ctx)


class Tokens(click.ParamType[int]):
    """A number of tokens: `32768` or `32k`, k for 1,024."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,8})([kK]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is not a number of tokens such as 8192 or 32k", param, ctx)
        return int(found[1]) * (1024 if found[2] else 1)


class Number(click.FloatRange):
    """A number within bounds, which `nan` and `inf` are not."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a number; give it without a unit, such as 16", param, ctx)
        found = float(super().convert(number, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return found


class PrivacyLabel(click.ParamType["Privacy"]):
    """One of the four privacy labels."""

    name = "label"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Privacy:
        """The label as a `Privacy`."""
        from rung.task import Privacy

        try:
            return Privacy(value)
        except ValueError:
            self.fail(f"{value!r} is not one of {', '.join(Privacy)}", param, ctx)


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The rung.toml to use; without it the nearest one upwards.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
target_option = click.option(
    "--target",
    type=Share(),
    help="Largest share of wrong answers, such as 2%; without it the task's own.",
)
privacy_option = click.option(
    "--privacy", type=PrivacyLabel(), help="Raise the text's privacy label (it cannot be lowered)."
)
