"""What a scan says of one file; how it is found out is the other modules'."""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

MOST_FINDINGS = 100
"""Of one file; what is left out is counted in a note."""
_MOST_CHARS = 300


class Outcome(enum.StrEnum):
    """Whether a file may be loaded; what cannot be decided is blocked.

    `TEXT` is neither: prose, lists, or a program that nobody recognised. Nothing of Rung loads or runs it, and nothing
    is promised of it.
    """

    CLEAN = "clean"
    TEXT = "text"
    BLOCKED = "blocked"


class Finding(msgspec.Struct, frozen=True):
    """One reason to block a file.

    Attributes:
        rule: stable name of the kind of finding, such as `pickle-global`.
        what: what was found, as a clause: `the pickle calls os.getcwd`.
        where: place in the file: `byte 24`, `tokenizer.chat_template`, `archive/data.pkl, byte 3`.
    """

    rule: str
    what: str
    where: str


class Seen(msgspec.Struct, frozen=True):
    """What the content of a file turned out to be.

    Attributes:
        format, findings, notes: as in a `Report`.
        prose: whether it is text of no format, which is never called clean.
    """

    format: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    prose: bool = False

    @property
    def outcome(self) -> Outcome:
        """What follows from that."""
        if self.findings:
            return Outcome.BLOCKED
        return Outcome.TEXT if self.prose else Outcome.CLEAN


Tell = Callable[[Seen], None]
"""Takes what was found so far, before a step that may end the process."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan says of one file.

    Attributes:
        name: the file, as it was asked for.
        format: what its content is, in words: `GGUF`, `PyTorch archive (zip)`, `unknown`.
        size: in bytes.
        outcome: clean, blocked, or text that is never loaded.
        findings: why it is blocked, what was found before what could not be read; empty when it is not.
        notes: what a reader may want to know and what blocks nothing.
    """

    name: str
    format: str
    size: int
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The outcome and its first reason: `clean`, `blocked: the pickle calls os.getcwd (byte 24)`."""
        if self.outcome is Outcome.TEXT:
            return "text, which nothing here loads and nothing is promised of"
        if not self.findings:
            return self.outcome.value
        first = self.findings[0]
        return f"{self.outcome.value}: {first.what} ({first.where})"


def shown(text: str, most: int = _MOST_CHARS) -> str:
    """Text from a file, with everything that a terminal could act on escaped, and no longer than `most`."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in cut.encode(errors="backslashreplace").decode()
    )
