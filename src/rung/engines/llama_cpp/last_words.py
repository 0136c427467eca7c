"""Why a child is gone, in one sentence for people: its exit status and the telling lines of its standard error."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from rung.engines.llama_cpp.handshake import REASON

_LINE = re.compile(r"^[\d.]+ ([EWIDT]) (.*)$")
_TELLING = re.compile(r"GGML_ASSERT|what\(\)|terminate called|bad_alloc|rror:|failed", re.ASCII)
_GENERIC = re.compile(r"^Failed to init server|exiting due to")
_WHO = re.compile(r"^\w+ {2,}[\w~]+:? *|^[\w~]+: +")
_LONGEST = 300


def sentence(returncode: int, lines: Sequence[str], *, ended_because: str | None = None) -> str:
    """How a child ended.

    Args:
        returncode: of the process; negative for a signal.
        lines: the last ones of its standard error.
        ended_because: why we ended it, where it was us.
    """
    if ended_because is not None:
        return f"the engine process was ended because {ended_because}"
    how = f"the engine process exited with status {returncode}"
    if returncode < 0:
        how = f"the engine process was ended by {_signal(-returncode)}"
    why = reason(lines)
    return f"{how}: {why}" if why else how


def reason(lines: Sequence[str]) -> str:
    """What standard error says went wrong, empty where it says nothing."""
    own = [line.removeprefix(REASON) for line in lines if line.startswith(REASON)]
    found = [matched[2] for line in lines if (matched := _LINE.match(line)) and matched[1] == "E"]
    found += [line for line in lines if not _LINE.match(line) and _TELLING.search(line)]
    telling = [line for line in found if not _GENERIC.search(line) and REASON not in line]
    telling += [line for line in own if not _GENERIC.search(line)]
    # The first complaint is the cause; the later ones repeat it from further out.
    first = telling[0] if telling else ""
    return _plain(_WHO.sub("", first))


def _plain(text: str) -> str:
    """Fit for a message: one line, printable, bounded."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = re.sub(r" +", " ", text).strip().rstrip(".")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
