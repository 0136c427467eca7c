"""What the values in `rung.toml` and task files look like: names, money, shares, folders; and what a table is.

`settings_shape` and `task_shape` are made of these. The loaders check files against them (`shape`) and the JSON
Schemas that editors use are made from them (`schemas`), so the two cannot drift apart.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rung.config import to_nano

END = r"$(?!\n)"  # JSON Schema's `$`: in Python's a newline may still follow

NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}{END}"
"""Names of tasks, rungs and ladders: they become parts of file names."""

Format = Annotated[
    Literal[1],
    Meta(description="Version of this file's format.", extra={"must": "1", "otherwise": 1}),
]

Name = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        extra={"must": "1 to 64 letters, digits, '-' and '_', beginning with a letter or digit"},
    ),
]

Money = Annotated[
    Annotated[str, Meta(pattern=rf"^[0-9]{{1,9}}(\.[0-9]{{1,9}})?{END}")]
    | Annotated[float, Meta(ge=0, le=999_999_999)],
    Meta(extra={"must": 'an amount such as "2.50", not negative, with at most nine decimals'}),
]

Share = Annotated[
    Annotated[str, Meta(pattern=rf"^(?=.*[1-9])[0-9]{{1,2}}(\.[0-9]{{1,6}})? ?%{END}")]
    | Annotated[float, Meta(gt=0, lt=1)],
    Meta(extra={"must": 'a share between 0 and 1 such as 0.05, or a percentage such as "5%"'}),
]

Seconds = Annotated[
    float, Meta(gt=0, le=86_400, extra={"must": "seconds, above 0 and at most 86,400"})
]

Folder = Annotated[
    str, Meta(min_length=1, extra={"must": "the path of a folder below this file's folder"})
]

EnvName = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z_][A-Za-z0-9_]*{END}",
        extra={"must": "the name of an environment variable", "secret": True},
    ),
]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in which an unknown key is a mistake."""


def money(value: str | float) -> int:
    """A `Money` value in nano-units; a TOML number counts as the decimal it was written as.

    Raises:
        ValueError: finer than a nano-unit.
    """
    return to_nano(value if isinstance(value, str) else repr(value))


def share(value: str | float) -> float:
    """A `Share` value as a number between 0 and 1."""
    if isinstance(value, str):
        return float(Decimal(value.removesuffix("%").strip()) / 100)
    return float(value)
