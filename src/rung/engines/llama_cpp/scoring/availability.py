"""Whether the C API may be called: its structs belong to one exact version of the library."""

from __future__ import annotations

import importlib.metadata

from rung.errors import EngineUnsupported

LIBRARY = "xllamacpp"
VERSION = "2026.10.11549"
"""The version whose struct layouts `capi` states. Another one is not called, however alike it may look."""


class ScorerUnavailable(EngineUnsupported):
    """Labels cannot be scored through the C API here; the server's log-probabilities can be used."""

    code = "engine.scorer_unavailable"


def check_version() -> None:
    """Look at the installed library without loading it.

    Raises:
        ScorerUnavailable: it is missing or another version.
    """
    try:
        installed = importlib.metadata.version(LIBRARY)
    except importlib.metadata.PackageNotFoundError as error:
        raise ScorerUnavailable(f"{LIBRARY} is not installed") from error
    if installed != VERSION:
        raise ScorerUnavailable(
            f"labels are scored directly with {LIBRARY} {VERSION} only; {installed} is installed",
            hint="the server's log-probabilities are used instead: same numbers, more CPU time",
        )
