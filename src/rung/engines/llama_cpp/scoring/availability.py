"""Whether the C API may be called: its structs belong to one exact version of the library."""

from __future__ import annotations

from rung.errors import EngineUnsupported

LIBRARY = "xllamacpp"
VERSION = "2026.10.11549"
"""The version whose struct layouts `capi` states. Another one is not called, however alike it may look."""


class ScorerUnavailable(EngineUnsupported):
    """Labels cannot be scored through the C API here; the server's log-probabilities can be used."""

    code = "engine.scorer_unavailable"


def check_version(installed: str) -> None:
    """Compare a version of the library with the one that may be called.

    Raises:
        ScorerUnavailable: it is another one.
    """
    if installed != VERSION:
        raise ScorerUnavailable(
            f"labels are scored directly with {LIBRARY} {VERSION} only; {installed} is installed",
            hint="the server's log-probabilities are used instead: same numbers, more CPU time",
        )
