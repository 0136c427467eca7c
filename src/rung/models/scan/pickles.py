"""What a Python pickle would import and call, read from its opcodes without running one.

Everything found before the opcodes end or break counts: an unpickler runs each as it comes, so a broken tail takes
nothing back. Every pickle is blocked, whatever it names; the names are for the reader of the report.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import msgspec

from rung.models.scan.content import Content
from rung.models.scan.opcodes import Fetch, Limit, Opcode, Taker
from rung.models.scan.report import Finding, shown

MOST_OPCODES = 100_000
"""Of all pickles in a file, that are looked at; more cannot be decided."""
_MOST_NAMES = 60
_MOST_PICKLES = 16  # that are told of
_MOST_STARTS = 32  # places in a foreign file where a pickle may begin
_EACH_START = 4  # opcodes that every further pickle counts for, however short it is
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
_TORCH_STARTS = (_TORCH_MAGIC.to_bytes(10, "little"), str(_TORCH_MAGIC).encode() + b"L")


class Name(msgspec.Struct, frozen=True):
    """Something of Python that a pickle imports: `posix.system`, and at which byte."""

    text: str
    at: int


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on the way through one pickle.

    Attributes:
        start, end: bytes in the file; `end` is behind the last opcode that was read.
        names: what it imports.
        imports: whether an unpickler would have tried to import something that can be.
        calls: whether it calls anything.
        protocol: that it says it has.
        problem: why its opcodes could not be read to their end, None when they could.
        limited: whether that is because there are too many.
        torch: whether it is the number that old PyTorch files begin with.
        opcodes: how many were read.
    """

    start: int
    end: int
    names: tuple[Name, ...] = ()
    imports: bool = False
    calls: bool = False
    protocol: int = 0
    problem: str | None = None
    limited: bool = False
    torch: bool = False
    opcodes: int = 0

    @property
    def certain(self) -> bool:
        """Whether no text or data looks like this by chance."""
        named = any(_IDENTIFIER.fullmatch(name.text) for name in self.names)
        return named and (self.problem is None or self.calls)


class _Machine:
    """As much of an unpickler as tells which opcodes one would still have run."""

    def __init__(self) -> None:
        self.names: list[Name] = []
        self.imports = self.calls = self.torch = False
        self.protocol = 0
        self._depth: list[bool] = []  # True for a mark
        self._marks = 0
        self._recent: list[bytes] = []
        self._memo: dict[bytes, bytes] = {}

    def step(self, opcode: Opcode, argument: tuple[bytes, ...], at: int) -> str | None:
        """Take an opcode; the reason why an unpickler would have given up at it."""
        name = opcode.name
        if name in _NAMES:  # imported before the stack is looked at
            module = argument[0].decode(errors="replace")
            if not _IDENTIFIER.fullmatch(module):
                return f"{name} at byte {at:,} names no module: {shown(module, 40)!r}"
            self.imports = True
            self._name(f"{module}.{argument[1].decode(errors='replace')}", at)
        if not self._moved(opcode):
            return f"{name} at byte {at:,} finds too little on the stack"
        self._remember(name, argument)
        self.calls |= name in _CALLS
        if name == "STACK_GLOBAL":
            self.imports = True
            text = b".".join(self._recent[-2:]).decode(errors="replace")
            self._name(text or "a name that is made on the way", at)
        elif name in _EXTENSIONS:
            number = int.from_bytes(argument[0], "little")
            self.imports |= number > 0
            self._name(f"extension {number}", at)
        elif name == "PROTO":
            self.protocol = argument[0][0]
        elif name in ("LONG", "LONG1", "LONG4"):
            self.torch |= argument[0] in _TORCH_STARTS
        return None

    def _name(self, text: str, at: int) -> None:
        if len(self.names) < _MOST_NAMES and text not in {name.text for name in self.names}:
            self.names.append(Name(text, at))

    def _remember(self, name: str, argument: tuple[bytes, ...]) -> None:
        """Keep the last texts, which STACK_GLOBAL takes its names from."""
        if name in _TEXTS:
            self._recent = [*self._recent[-1:], argument[0]]
        elif name in _FETCHES:
            if (found := self._memo.get(_place(name, argument[0]))) is not None:
                self._recent = [*self._recent[-1:], found]
        elif self._recent and name == "MEMOIZE":
            self._memo[b"%d" % len(self._memo)] = self._recent[-1]
        elif self._recent and name in _STORES:
            self._memo[_place(name, argument[0])] = self._recent[-1]

    def _moved(self, opcode: Opcode) -> bool:
        stack = self._depth
        takes = opcode.takes
        popped = opcode.name == "POP" and stack and stack[-1]  # it takes a mark as well
        if opcode.cuts or popped:
            if not self._marks:
                return False
            while not stack.pop():
                pass
            self._marks -= 1
            takes = 0 if popped else takes
        if len(stack) < takes:
            return False
        for _ in range(takes):
            self._marks -= stack.pop()
        for mark in opcode.gives:
            stack.append(mark)
            self._marks += mark
        return True


def _place(name: str, argument: bytes) -> bytes:
    """A place in the memo, which is a text in the oldest opcodes and a number in all others."""
    if name in ("GET", "PUT"):
        return argument.strip()
    return b"%d" % int.from_bytes(argument, "little")


def of_bytes(data: bytes) -> Fetch:
    """Bytes that are there already, as `walk` takes them."""
    return lambda start, count: data[start : start + count]


def walk(fetch: Fetch, start: int = 0, most: int = MOST_OPCODES) -> Walk:
    """Read one pickle's opcodes.

    Args:
        fetch: gives the bytes.
        start: where its first opcode lies.
        most: opcodes to be read.
    """
    machine, taker = _Machine(), Taker(fetch, start)
    problem, end, count, limited = None, start, 0, False
    try:
        while problem is None:
            at = taker.at
            opcode = taker.opcode()
            if opcode is None:
                problem = f"there is no opcode at byte {at:,}"
                break
            if count >= most:
                raise Limit
            argument = taker.argument(opcode)
            if argument is None:
                problem = f"{opcode.name} at byte {at:,} has no argument"
                break
            problem = machine.step(opcode, argument, at)
            end, count = taker.at, count + 1
            if opcode.name == "STOP":
                break
    except Limit:
        problem, limited = "it is longer than what is looked at", True
    return Walk(
        start=start,
        end=end,
        names=tuple(machine.names),
        imports=machine.imports,
        calls=machine.calls,
        protocol=machine.protocol,
        problem=problem,
        limited=limited,
        torch=machine.torch,
        opcodes=count,
    )


def begun(fetch: Fetch) -> tuple[Walk, ...]:
    """What an unpickler would run that begins at the first byte, whatever else the file is.

    Pickles may follow each other, as they do in old PyTorch files. The walk goes as far as an unpickler would, through
    texts and through jumps of gigabytes.

    Returns:
        Nothing when it would import nothing; the first pickle and those that import something, or cannot be decided.
    """
    walks: list[Walk] = []
    left, at = MOST_OPCODES, 0
    while True:
        each = walk(fetch, at, max(left, 0))
        if not walks or ((each.imports or each.limited) and len(walks) < _MOST_PICKLES):
            walks.append(each)
        left -= each.opcodes + _EACH_START
        if each.problem is not None:
            break
        at = each.end
    return tuple(walks) if any(walk.imports or walk.limited for walk in walks) else ()


def pickles_in(content: Content) -> tuple[Walk, ...]:
    """The pickles that a binary file consists of, or that lie near its start behind something else."""
    found = begun(content.at) or _in_a_row(content)
    if found:
        return found
    data = content.at(0, _SEARCHED)
    starts = [match.start() for match in _START.finditer(data, 1)][:_MOST_STARTS]
    walks = (walk(content.at, start, MOST_OPCODES // len(starts)) for start in starts)
    return tuple(each for each in walks if each.certain)[:_MOST_PICKLES]


def _in_a_row(content: Content) -> tuple[Walk, ...]:
    """Pickles from the first byte on, harmless ones too."""
    found: list[Walk] = []
    at = 0
    while at < content.size and len(found) < _MOST_PICKLES:
        each = walk(content.at, at, MOST_OPCODES // _MOST_PICKLES)
        if each.problem is not None and not _START.match(content.at(at, 2)):
            break
        found.append(each)
        if each.problem is not None:
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
