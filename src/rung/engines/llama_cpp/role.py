"""Which program a child process runs."""

from __future__ import annotations

import enum


class Role(enum.StrEnum):
    """What a child does with its model; the value is the module that it runs."""

    SERVER = "rung.engines.llama_cpp.child"
    SCORER = "rung.engines.llama_cpp.scoring.child"
