"""What every model file passes before an engine reads it: a scan, once for as long as the file is the same.

Whether the model fits the machine and the engine is the engine's own check.
"""

from __future__ import annotations

import threading
from pathlib import Path

from rung.errors import ModelError
from rung.models.fingerprint import Fingerprint, fingerprint, unchanged
from rung.models.sanity import oddities
from rung.models.scan.report import Outcome, Report
from rung.models.scan.scanner import scan_file
from rung.models.scan.weights import VOCABULARY
from rung.models.shards import part_names, read_model

_MOST = 4096
_PASSED: dict[Fingerprint, None] = {}
_LOCK = threading.Lock()


def check_loadable(path: Path) -> None:
    """Scan a model file, and the other parts of a split one, unless this process has found it clean before.

    Raises:
        ModelError: a file is missing, blocked, no GGUF file, without weights, or changes meanwhile.
    """
    parts = [path.with_name(name) for name in part_names(path.name)]
    with _LOCK:
        if all(fingerprint(part) in _PASSED for part in parts):
            return
    with unchanged(parts) as prints:
        for part in parts:
            _check(scan_file(part), part)
        if len(parts) > 1:
            _check_together(path)
    with _LOCK:
        while len(_PASSED) > _MOST:
            del _PASSED[next(iter(_PASSED))]
        _PASSED.update(dict.fromkeys(prints))


def _check(report: Report, path: Path) -> None:
    if report.outcome is Outcome.BLOCKED:
        first = report.findings[0]
        raise ModelError(
            f"blocked: the model file {str(path)!r}: {first.what} ({first.where})",
            hint=f"see everything that was found with: rung scan {path}",
        )
    if report.format == VOCABULARY:
        raise ModelError(
            f"the model file {str(path)!r} holds a vocabulary and no weights",
            hint="choose a file with weights",
        )
    if report.format != "GGUF":
        raise ModelError(
            f"the model file {str(path)!r} is {report.format}, not GGUF",
            hint="name a model in GGUF format (.gguf)",
        )


def _check_together(path: Path) -> None:
    """What only all parts of a model together can tell."""
    for odd in oddities(*read_model(path)):
        if odd.grave:
            raise ModelError(
                f"blocked: the model file {str(path)!r}: {odd.what} (header of all parts)",
                hint="download or convert it again, or choose another file",
            )
