"""What a Python pickle would import and call, read from its opcodes without running one.

Everything found before the opcodes end or break counts: an unpickler runs each as it comes, so a broken tail takes
nothing back. Every pickle is blocked, whatever it names; the names are for the reader of the report.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Sequence

import msgspec

from rung.models.scan.content import Content
from rung.models.scan.report import Finding, shown

MOST_BYTES = 8 * 1024 * 1024
"""Of a pickle, that are looked at."""
MOST_OPCODES = 40_000
"""Of all pickles in a file, that are looked at."""
_MOST_NAMES = 60
_MOST_PICKLES = 16  # one behind the other, as old PyTorch files have them
_MOST_STARTS = 32  # places in a foreign file where a pickle may begin
_SEARCHED = 256 * 1024
_CALLS = frozenset({"REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"})
_NAMES = frozenset({"GLOBAL", "INST"})
_EXTENSIONS = frozenset({"EXT1", "EXT2", "EXT4"})
_TEXTS = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)  # fmt: skip
_FETCHES = frozenset({"GET", "BINGET", "LONG_BINGET"})
_STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_START = re.compile(rb"\x80[\x00-\x05]")
_IDENTIFIER = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


class Name(msgspec.Struct, frozen=True):
    """Something of Python that a pickle imports: `posix.system`, and at which byte."""

    text: str
    at: int


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on the way through one pickle.

    Attributes:
        start, end: bytes in the file; `end` is behind the last opcode that was read.
        names: what it imports.
        calls: whether it calls anything.
        protocol: that it says it has.
        problem: why its opcodes could not be read to their end, None when they could.
        torch: whether it is the number that old PyTorch files begin with.
    """

    start: int
    end: int
    names: tuple[Name, ...] = ()
    calls: bool = False
    protocol: int = 0
    problem: str | None = None
    torch: bool = False

    @property
    def certain(self) -> bool:
        """Whether no text or data looks like this by chance."""
        named = any(_IDENTIFIER.fullmatch(name.text) for name in self.names)
        return named and (self.problem is None or self.calls)


class _Machine:
    """As much of an unpickler as tells which opcodes one would still have run."""

    def __init__(self) -> None:
        self.names: list[Name] = []
        self.calls = False
        self.torch = False
        self.protocol = 0
        self._depth: list[bool] = []  # True for a mark
        self._marks = 0
        self._recent: list[str] = []
        self._memo: dict[int, str] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: object, at: int) -> str | None:
        """Take an opcode; the reason why an unpickler would have given up at it."""
        if not self._moved(opcode):
            return f"{opcode.name} at byte {at:,} finds too little on the stack"
        self._remember(opcode.name, argument)
        self.calls |= opcode.name in _CALLS
        if opcode.name in _NAMES:
            self._name(".".join(str(argument).split(" ", 1)), at)
        elif opcode.name == "STACK_GLOBAL":
            self._name(".".join(self._recent[-2:]) or "a name that is made on the way", at)
        elif opcode.name in _EXTENSIONS:
            self._name(f"extension {argument}", at)
        elif opcode.name == "PROTO" and isinstance(argument, int):
            self.protocol = argument
        elif argument == _TORCH_MAGIC:
            self.torch = True
        return None

    def _name(self, text: str, at: int) -> None:
        if len(self.names) < _MOST_NAMES and text not in {name.text for name in self.names}:
            self.names.append(Name(text, at))

    def _remember(self, name: str, argument: object) -> None:
        """Keep the last texts, which STACK_GLOBAL takes its names from."""
        if name in _TEXTS:
            self._recent = [*self._recent[-1:], str(argument)]
        elif name in _FETCHES and isinstance(argument, int) and argument in self._memo:
            self._recent = [*self._recent[-1:], self._memo[argument]]
        elif self._recent and name == "MEMOIZE":
            self._memo[len(self._memo)] = self._recent[-1]
        elif self._recent and name in _STORES and isinstance(argument, int):
            self._memo[argument] = self._recent[-1]

    def _moved(self, opcode: pickletools.OpcodeInfo) -> bool:
        before, stack = opcode.stack_before, self._depth
        mark = pickletools.markobject
        if mark in before or (opcode.name == "POP" and stack and stack[-1]):
            if not self._marks:
                return False
            while not stack.pop():
                pass
            self._marks -= 1
            before = before[: before.index(mark)] if mark in before else []
        if len(stack) < len(before):
            return False
        for _ in before:
            self._marks -= stack.pop()
        for kind in opcode.stack_after:
            stack.append(kind is mark)
            self._marks += kind is mark
        return True


def walk(data: bytes, start: int = 0, most: int = MOST_OPCODES) -> Walk:
    """Read one pickle's opcodes.

    Args:
        data: from its first opcode on.
        start: where that lies in the file.
        most: opcodes to be read.
    """
    machine, problem, end = _Machine(), None, start
    stream = io.BytesIO(data)
    try:
        for number, (opcode, argument, at) in enumerate(pickletools.genops(stream)):
            problem = machine.step(opcode, argument, start + (at or 0))
            end = start + stream.tell()
            if problem is None and number >= most:
                problem = f"it has more than the {most:,} opcodes that are looked at"
            if problem:
                break
    except (ValueError, OverflowError, MemoryError) as error:
        problem = shown(str(error) or type(error).__name__, 160)
    return Walk(
        start=start,
        end=end,
        names=tuple(machine.names),
        calls=machine.calls,
        protocol=machine.protocol,
        problem=problem,
        torch=machine.torch,
    )


def pickles_in(content: Content) -> tuple[Walk, ...]:
    """The pickles that a binary file consists of, or that lie near its start behind something else."""
    data = content.at(0, MOST_BYTES)
    found = _in_a_row(data)
    if found:
        return found
    starts = [match.start() for match in _START.finditer(data, 1, _SEARCHED)][:_MOST_STARTS]
    walks = (walk(data[start:], start, MOST_OPCODES // len(starts)) for start in starts)
    return tuple(each for each in walks if each.certain)[:_MOST_PICKLES]


def _in_a_row(data: bytes) -> tuple[Walk, ...]:
    found: list[Walk] = []
    at = 0
    while at < len(data) and len(found) < _MOST_PICKLES:
        each = walk(data[at:], at, MOST_OPCODES if not found else MOST_OPCODES // _MOST_PICKLES)
        if not (each.certain or each.problem is None or _START.match(data, at)):
            break
        found.append(each)
        if each.problem is not None or each.end == at:
            break
        at = each.end
    return tuple(found)


def findings(walks: Sequence[Walk], place: str = "") -> tuple[Finding, ...]:
    """What is to be said of pickles.

    Args:
        walks: of one file.
        place: what they lie in, such as `archive/data.pkl`; empty for the file itself.
    """
    lead = f"{place}, " if place else ""
    named = list(dict.fromkeys(shown(name.text, 80) for each in walks for name in each.names))
    text = f": it imports {', '.join(named[:3])}{' …' if named[3:] else ''}" if named else ""
    kind = "a Python pickle, which can run any code when it is loaded"
    found = [Finding("pickle", kind + text, f"{lead}byte {walks[0].start:,}")]
    for each in walks:
        verb = "imports and calls" if each.calls else "imports"
        found += [
            Finding("pickle-global", f"the pickle {verb} {shown(name.text, 160)}", f"{lead}byte {name.at:,}")
            for name in each.names
        ]  # fmt: skip
    found += [
        Finding("pickle-broken", f"the pickle cannot be read further: {each.problem}", f"{lead}byte {each.end:,}")
        for each in walks
        if each.problem
    ]  # fmt: skip
    return tuple(found)


def second_opinion(data: bytes) -> str | None:
    """What picklescan says of a pickle: which of its names are known to run code; None where it is not installed.

    It adds a judgement of the names to a verdict that is settled without it.
    """
    try:
        from picklescan.scanner import (  # type: ignore[import-untyped]  # noqa: PLC0415  # it ships none
            SafetyLevel,
            scan_pickle_bytes,
        )
    except ImportError:
        return None
    import logging  # noqa: PLC0415

    logging.disable(logging.CRITICAL)
    try:
        result = scan_pickle_bytes(io.BytesIO(data), "pickle")
    except Exception as error:  # noqa: BLE001  # another project's parser on hostile bytes; the verdict stands
        return f"picklescan gives up: {type(error).__name__}"
    known = [
        f"{each.module}.{each.name}"
        for each in result.globals
        if each.safety is SafetyLevel.Dangerous
    ]
    if known:
        return f"picklescan knows as dangerous: {shown(', '.join(known))}"
    return f"picklescan knows none of its {len(result.globals)} names as dangerous"
