"""Looks at files in a process of its own, which whatever they hold can end and nothing else.

What a file is, `inspection` says; which files of a folder are looked at, and what their names and links give away,
`folder` says.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from rung.models.bounded import facts_of
from rung.models.scan.child import WALL_S, Job, Line
from rung.models.scan.folder import Entry, entries
from rung.models.scan.report import MOST_FINDINGS, Finding, Outcome, Report, Seen, shown

_BATCH = 64  # files for one child
_SPARE_S = 5.0  # beyond the child's own limit, after which it hangs in the system
_MOST_SAID = 16 * 1024 * 1024
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from rung.models.scan.child import main; main()"
)
"""Isolated, Python looks at no environment; Rung may have been found by it."""
_PACKAGES = Path(__file__).resolve().parents[3]


class _Heard(msgspec.Struct, frozen=True):
    """What a child said.

    Attributes:
        lines: the final ones.
        last: what it said of the file after those, None for nothing.
        end: what ended it, as the end of a sentence.
    """

    lines: tuple[Line, ...]
    last: Line | None
    end: str


def scan_file(path: Path, *, name: str | None = None) -> Report:
    """Look at one file; a link is followed, because the file was asked for by that name.

    Args:
        path: the file.
        name: for the report; without it the path.

    Raises:
        ModelError: there is no such file.
    """
    _check_there(path)
    return _report(_lines([path])[0], name or str(path), ())


def scan_path(path: Path, *, pinned: Collection[Path] = ()) -> tuple[Report, ...]:
    """Look at a file, or at every file below a folder, sorted by name.

    Args:
        path: the file or folder.
        pinned: paths, resolved but for the last part, of files whose digests are known, and which may therefore be
            links to elsewhere.

    Raises:
        ModelError: there is no such file or folder.
    """
    if not path.is_dir():
        return (scan_file(path),)
    return tuple(report for _, report in scan_folder(path, pinned=pinned))


def scan_folder(folder: Path, *, pinned: Collection[Path] = ()) -> tuple[tuple[Path, Report], ...]:
    """The same for a folder, each file's path beside its report, in which its name may be shortened."""
    found = entries(folder, pinned)
    readable = [entry.path for entry in found if entry.readable]
    lines = dict(zip(readable, _lines(readable), strict=True))
    return tuple((entry.path, _of_entry(entry, lines.get(entry.path))) for entry in found)


def _check_there(path: Path) -> None:
    if not path.is_symlink() and not path.exists():
        facts_of(path)  # says what is wrong


def _of_entry(entry: Entry, line: Line | None) -> Report:
    return _report(line or Line(Seen("unknown"), 0, final=True), entry.name, entry.findings)


def _report(line: Line, name: str, before: Sequence[Finding]) -> Report:
    """The report of a file.

    Args:
        line: what the child said.
        name: of the file.
        before: what its name and its links gave away.
    """
    found = (*before, *line.seen.findings)
    left = len(found) - MOST_FINDINGS
    notes = (*line.seen.notes, f"and {left:,} more findings") if left > 0 else line.seen.notes
    return Report(
        name=shown(name),
        format=line.seen.format,
        size=line.size,
        outcome=Outcome.BLOCKED if found else line.seen.outcome,
        findings=found[:MOST_FINDINGS],
        notes=notes,
    )


def _lines(paths: Sequence[Path]) -> list[Line]:
    """What is known of each path; a file that ends its child is blocked, and the next ones get another."""
    lines: list[Line] = []
    while len(lines) < len(paths):
        batch = paths[len(lines) : len(lines) + _BATCH]
        heard = _asked(batch)
        lines += heard.lines
        if len(heard.lines) < len(batch):
            lines.append(_undecided(heard))
    return lines


def _undecided(heard: _Heard) -> Line:
    """The line of a file that ended its child, with what was found before."""
    last = heard.last or Line(Seen("unknown"), 0, final=False)
    end = Finding("undecidable", f"a file that cannot be decided: {heard.end}", "file")
    seen = msgspec.structs.replace(last.seen, findings=(*last.seen.findings, end))
    return Line(seen, last.size, final=True)


def _asked(batch: Sequence[Path]) -> _Heard:
    """Have a child look at files."""
    job = Job(tuple(os.fsencode(path.absolute()) for path in batch))
    try:
        child = subprocess.Popen(  # noqa: S603  # our own interpreter and program
            [sys.executable, "-I", "-c", _PROGRAM, str(_PACKAGES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _LIBRARY_PATHS if name in os.environ},
            start_new_session=True,
        )
    except OSError as error:
        return _Heard((), None, f"no process could be started: {error}")
    with child:
        try:
            said, end = _conversation(child, msgspec.json.encode(job), len(batch))
        finally:
            child.kill()
    lines = _decoded(said)
    final = tuple(line for line in lines if line.final)[: len(batch)]
    last = lines[-1] if lines and not lines[-1].final else None
    return _Heard(final, last, end or _ending(child.returncode))


def _conversation(child: subprocess.Popen[bytes], job: bytes, count: int) -> tuple[bytes, str]:
    """What a child says until it ends, and why it was ended, empty when it ended itself."""
    if child.stdin is None or child.stdout is None:
        return b"", "its process has no pipes"
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(job)
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    said = bytearray()
    output = child.stdout.fileno()
    until = time.monotonic() + count * WALL_S + _SPARE_S
    while len(said) <= _MOST_SAID:
        if not select.select([output], [], [], max(0.0, until - time.monotonic()))[0]:
            return bytes(said), "it took too long"
        piece = os.read(output, 1 << 16)
        if not piece:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_SPARE_S)
            return bytes(said), ""
        said += piece
    return bytes(said), "too much was found"


def _decoded(said: bytes) -> list[Line]:
    """The whole lines of what a child said, up to the first that is none."""
    lines = []
    for raw in said.split(b"\n")[:-1]:
        try:
            lines.append(msgspec.json.decode(raw, type=Line))
        except msgspec.DecodeError:
            break
    return lines


def _ending(code: int) -> str:
    if code in (-signal.SIGPROF, -signal.SIGXCPU):
        return "looking at it took more time than any model's file takes"
    if code == -signal.SIGALRM:
        return f"looking at it took longer than {WALL_S:g} s"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"it ended the process that looked at it by {signal.Signals(-code).name}"
    return f"it ended the process that looked at it with code {code}"
