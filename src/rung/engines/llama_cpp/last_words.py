"""Why a child is gone, in one sentence for people: its exit status and the telling lines of its standard error.

While a child loads, what it says is about its model. Later it is about requests, and may quote them, so of a child
that had been ready nothing is told but how it ended and the assertion it ended with.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from rung.engines.llama_cpp.handshake import REASON

_LEVELLED = re.compile(r"^[\d.]+ ([A-Z]) (.*)$")
_TELLING = re.compile(
    r"error|failed|what\(\)|terminate called|bad_alloc|unsupported", re.IGNORECASE
)
_SOURCE = re.compile(r"^\S*/([\w.-]+:\d+: )")
_WHO = re.compile(r"^\w+ {2,}[\w~]+:? *|^[\w~]+: +|^error loading model: ")
_GENERIC = re.compile(r"^Failed to init server|exiting due to")
_ASSERTION = re.compile(
    r"^\S*/([\w.-]+\.(?:c|cc|cpp|cu|h|hpp):\d+: GGML_ASSERT\([^\"']*\) failed)$"
)
_UNCAUGHT = re.compile(r"^terminate called after throwing an instance of '[\w:]+'$")
_GAVE_UP = 3  # the exit status of `child_frame` for a start that failed with a reason
_LONGEST = 300


def sentence(
    returncode: int,
    lines: Sequence[str],
    *,
    ended_because: str | None = None,
    had_been_ready: bool = False,
) -> str:
    """How a child ended.

    Args:
        returncode: of the process; negative for a signal.
        lines: the last ones of its standard error.
        ended_because: why we ended it, where it was us.
        had_been_ready: whether it answered requests, which its lines may quote.
    """
    if ended_because is not None:
        return f"the engine process was ended because {ended_because}"
    why = _assertion(returncode, lines) if had_been_ready else reason(lines)
    if returncode == _GAVE_UP and why:
        return f"the engine refused it: {why}"
    how = f"the engine process exited with status {returncode}"
    if returncode < 0:
        how = f"the engine process was ended by {_signal(-returncode)}"
    return f"{how}: {why}" if why else how


def reason(lines: Sequence[str]) -> str:
    """What standard error says went wrong, empty where it says nothing."""
    own = [line.removeprefix(REASON) for line in lines if line.startswith(REASON)]
    found = [complaint for line in lines if (complaint := _complaint(line)) is not None]
    # The first complaint is the cause; the later ones repeat it from further out.
    telling = [text for text in (*found, *own) if not _GENERIC.search(text)]
    return _plain(telling[0]) if telling else ""


def _assertion(returncode: int, lines: Sequence[str]) -> str:
    """What the engine said of its own code when it aborted, empty where it did not or said nothing."""
    for line in reversed(lines) if returncode == -signal.SIGABRT else ():
        if (asserted := _ASSERTION.match(line)) is not None:
            return _plain(asserted[1])
        if _UNCAUGHT.match(line):
            return _plain(line)
    return ""


def _complaint(line: str) -> str | None:
    """What a line of the engine complains about, without where in the engine; None for other lines."""
    if line.startswith(REASON):
        return None
    if (levelled := _LEVELLED.match(line)) is not None:
        if levelled[1] != "E":
            return None
        line = levelled[2]
    elif _SOURCE.match(line):
        return _SOURCE.sub(
            r"\1", line
        )  # an assertion: the folder is that of whoever built the library
    elif not _TELLING.search(line):
        return None
    while (shorter := _WHO.sub("", line)) != line:
        line = shorter
    return line


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
