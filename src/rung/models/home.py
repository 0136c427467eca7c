"""The folder of what Rung keeps for this user on this machine: measurements and headers read over the network.

Everything in it can be made again; models and what is certified about them lie in the projects.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "RUNG_HOME"


def home() -> Path:
    """The folder that the variable `RUNG_HOME` names, else the platform's folder for caches; it need not exist."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    import platformdirs  # noqa: PLC0415

    return Path(platformdirs.user_cache_dir("rung", appauthor=False))
