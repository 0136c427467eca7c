"""What `rung scan` says of files, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rung.cli.modeltext import size
from rung.errors import RungError
from rung.models.scan.report import Outcome, Report
from rung.quantities import counted

_MOST_SHOWN = 20
_WORST = (Outcome.BLOCKED, Outcome.TEXT, Outcome.CLEAN)
_TEXT = "nothing here loads it, and nothing is promised of it"
_WORDS = frozenset({"json", "markup", "python", "template", "text", "yaml"})
"""What findings about texts begin with, which are no weights that there might be as GGUF."""
_OTHERS = f"the rest is text: {_TEXT}"


class Scanned(msgspec.Struct, frozen=True):
    """One file's report.

    Attributes:
        report: of the scan.
        diff: from the agreed chat template to the file's, empty when they are the same or none was agreed to.
        pinned: whether the one that was agreed to is pinned, and not of another file.
    """

    report: Report
    diff: str = ""
    pinned: bool = True


def describe(scanned: Sequence[Scanned]) -> str:
    """The verdict, then each file with what was found, then what to do."""
    return "\n".join(_lines(scanned))


def facts(scanned: Sequence[Scanned], errors: Sequence[RungError] = ()) -> dict[str, object]:
    """The same for programs, with what could not be looked at."""
    said: dict[str, object] = {
        "format": 1,
        "verdict": _outcome(scanned).value,
        "files": [
            msgspec.structs.asdict(each.report)
            | {"verdict": each.report.verdict, "template_diff": each.diff}
            for each in scanned
        ],
    }
    return said | {"errors": [error.message for error in errors]} if errors else said


def _outcome(scanned: Sequence[Scanned]) -> Outcome:
    """The worst of all: a folder with a text in it is not clean as a whole."""
    outcomes = {each.report.outcome for each in scanned}
    return next((each for each in _WORST if each in outcomes), Outcome.CLEAN)


def _lines(scanned: Sequence[Scanned]) -> Iterator[str]:
    blocked, texts, clean = (
        [each for each in scanned if each.report.outcome is outcome] for outcome in _WORST
    )
    count = counted(len(scanned), "file")
    if blocked:
        yield f"blocked   {len(blocked):,} of {count}" if len(scanned) > 1 else f"blocked   {count}"
    elif texts:
        yield (
            f"clean     {len(clean):,} of {count}; {_OTHERS}"
            if clean
            else f"text      {count}; {_TEXT}"
        )
    else:
        yield f"clean     {count}"
    for each in (*blocked, *texts, *clean):
        yield from _file(each)
    if blocked:
        yield ""
        yield from _advice(blocked)


def _file(each: Scanned) -> Iterator[str]:
    report = each.report
    yield f"{report.outcome.value:<10}{report.name}   {report.format}, {size(report.size)}"
    for finding in report.findings[:_MOST_SHOWN]:
        yield f"          {finding.rule:<22} {finding.what} ({finding.where})"
    if len(report.findings) > _MOST_SHOWN:
        yield f"          … and {len(report.findings) - _MOST_SHOWN:,} more; --json has all"
    for note in report.notes:
        yield f"          note: {note}"
    for line in each.diff.splitlines():
        yield f"          {line}"


def _advice(blocked: Sequence[Scanned]) -> Iterator[str]:
    rules = {finding.rule for each in blocked for finding in each.report.findings}
    if "template-changed" in rules:
        meant = "if it is meant, pin it: rung lock"
        pinned = all(each.pinned for each in blocked)
        yield f"next      read the change; {meant}" if pinned else "next      read the change"
    found = {rule.partition("-")[0] for rule in rules - {"template-changed"}}
    if found - _WORDS:
        yield "next      do not load these in any program; fetch the model as GGUF, from its publisher"
    elif found:
        yield "next      do not load or run these; what is only damaged, mend or fetch again"
