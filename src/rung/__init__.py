"""Rung matches every LLM task to the smallest model that does it well.

    import rung

    async with await rung.Ladder.open("rung.toml") as ladder:
        answer = await ladder.run(rung.Request("triage", "why was I charged twice?"))
        print(answer.value, answer.receipt.standing)

From code without a loop, or from a notebook, pass any of these coroutines to `rung.run_blocking`. Names are imported
when first used, so `import rung` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rung.version import __version__

if TYPE_CHECKING:
    from rung.blocking import run_blocking
    from rung.errors import RungError
    from rung.ladder import Ladder
    from rung.policy import Place, Policy
    from rung.project import Project
    from rung.receipt import Answer, Attempt, Bound, Receipt, Standing, Usage, Verdict
    from rung.suite import Example, Suite
    from rung.task import Conversation, Kind, Message, Passage, Privacy, Request, Task, Text
    from rung.trust.certificate import Certificate

__all__ = [
    "Answer",
    "Attempt",
    "Bound",
    "Certificate",
    "Conversation",
    "Example",
    "Kind",
    "Ladder",
    "Message",
    "Passage",
    "Place",
    "Policy",
    "Privacy",
    "Project",
    "Receipt",
    "Request",
    "RungError",
    "Standing",
    "Suite",
    "Task",
    "Text",
    "Usage",
    "Verdict",
    "__version__",
    "run_blocking",
]

_HOMES = {
    "rung.blocking": ("run_blocking",),
    "rung.errors": ("RungError",),
    "rung.ladder": ("Ladder",),
    "rung.policy": ("Place", "Policy"),
    "rung.project": ("Project",),
    "rung.receipt": ("Answer", "Attempt", "Bound", "Receipt", "Standing", "Usage", "Verdict"),
    "rung.suite": ("Example", "Suite"),
    "rung.task": (
        "Conversation",
        "Kind",
        "Message",
        "Passage",
        "Privacy",
        "Request",
        "Task",
        "Text",
    ),
    "rung.trust.certificate": ("Certificate",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'rung' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
