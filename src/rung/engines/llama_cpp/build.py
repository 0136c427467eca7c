"""Which engine is installed, said without loading it."""

from __future__ import annotations

import importlib.metadata

PACKAGE = "xllamacpp"


def engine_build() -> str | None:
    """The engine's version as its children report it, for identities; None where it is not installed."""
    try:
        return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return None
