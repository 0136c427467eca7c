"""Chat templates as model files expect them to be rendered: the one set-up that the scan and the engine share.

Limits on fuel are the caller's to choose, those on time and memory its process's. A template is a program of a
stranger: it is rendered in a short-lived process only.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minijinja import Environment

# The mark around assistant turns in templates for training; the text between is rendered as it stands.
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


def plain(template: str) -> str:
    """The template with the tags that only Hugging Face's library knows put as ones that every engine knows."""
    return _GENERATION.sub(_block, template)


def environment(fuel: int, refusals: list[str]) -> Environment:
    """What a template is rendered in.

    Args:
        fuel: steps that it may take.
        refusals: takes what a template says when it refuses a conversation by `raise_exception`.
    """
    from minijinja import Environment  # noqa: PLC0415

    def raise_exception(message: object) -> None:
        refusals.append(str(message))
        raise ValueError(message)

    return Environment(
        fuel=fuel,
        debug=False,
        trim_blocks=True,
        lstrip_blocks=True,
        pycompat=True,
        auto_escape_callback=lambda _name: False,
        globals={"raise_exception": raise_exception, "strftime_now": _today},
    )


def _block(match: re.Match[str]) -> str:
    """`generation` as a condition that holds, cutting white space as the original."""
    left, end, right = match.groups()
    return f"{{%{left} {'endif' if end else 'if true'} {right}%}}"


def _today(form: object) -> str:
    """A date for templates that ask for one: always the same, so that equal prompts are equal."""
    return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).strftime(str(form))
