"""Reading a TOML file a person wrote: its values, the line of every key, and one way to report what is wrong.

What the keys mean is the business of `settings` and `tasks`. Mistakes are collected and reported together,
each as `file:line: sentence`, in the order of the file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec

from rung.errors import ConfigError

Key = tuple[str | int, ...]
"""Where a value is: table keys and list positions from the top of the file."""

LARGEST = 4 * 2**20
"""Bytes. A settings or task file beyond this is a mistake, not a big project."""

SHOWN = 10
"""Mistakes printed of one file; the rest are counted."""


class Document(msgspec.Struct, frozen=True):
    """One parsed TOML file.

    Attributes:
        path: as given.
        data: the parsed top-level table.
        lines: the line, from 1, on which each key, table and list item stands.
    """

    path: Path
    data: Mapping[str, object]
    lines: Mapping[Key, int]

    def line(self, at: Key) -> int | None:
        """The line of `at`, or of the nearest table around it; None for the top of the file."""
        for length in range(len(at), 0, -1):
            if at[:length] in self.lines:
                return self.lines[at[:length]]
        return None


class Mistakes:
    """What is wrong with one file, collected so that all of it is said at once.

    Args:
        document: the file.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[tuple[Key, str]] = []
        self._meant: set[Key] = set()

    def add(self, at: Key, message: str) -> None:
        """Note one mistake of the value at `at`."""
        self._found.append((at, message))

    def add_unknown(self, at: Key, known: Iterable[str]) -> None:
        """Note a key that there is none of, and hold on to which one may be meant."""
        names = list(known)
        near = _nearest(at[-1], names)
        guess = f"; did you mean {near!r}?" if near else f"; known here: {', '.join(names)}"
        self.add(at, f"unknown key {shown_key(at)!r}{guess}")
        if near:
            self._meant.add((*at[:-1], near))

    def add_missing(self, at: Key, key: Key, message: str) -> None:
        """Note that `key` is not there, unless another is that is likely the same one mistyped.

        Args:
            at: where to report it.
            key: what is missing.
            message: what to say.
        """
        if key not in self._meant:
            self.add(at, message)

    def touch(self, at: Key) -> bool:
        """Whether a mistake was noted at `at` or below it."""
        return any(found[: len(at)] == at for found, _ in self._found)

    def raise_any(self, *, hint: str | None = None) -> None:
        """Raise everything noted so far; return when nothing was.

        Raises:
            ConfigError: one `file:line: sentence` a line, in the order of the file.
        """
        if not self._found:
            return
        name = shown_path(self._document.path)
        placed = sorted(
            ((self._document.line(at) or 0, message) for at, message in self._found),
            key=lambda pair: pair[0],
        )
        said = dict.fromkeys(
            f"{name}:{line}: {message}" if line else f"{name}: {message}"
            for line, message in placed
        )
        rows = list(said)[:SHOWN]
        if len(said) > SHOWN:
            rows.append(f"{name}: and {len(said) - SHOWN} more")
        raise ConfigError("\n".join(rows), hint=hint)


def read_document(path: Path) -> Document:
    """Parse the file at `path`.

    Raises:
        ConfigError: it is missing, unreadable, too large, not UTF-8, or not TOML; with the line where one is known.
    """
    text = read_text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_toml_sentence(path, str(error), text)) from error
    except RecursionError as error:
        raise ConfigError(f"{shown_path(path)}: nested too deeply") from error
    return Document(path, data, find_lines(text))


def find_lines(text: str) -> dict[Key, int]:
    """The line, from 1, of every key, table and list item in TOML that the parser accepts."""
    return _Locator(text).lines


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file that belongs to a project.

    Raises:
        ConfigError: it is missing, a folder, unreadable, too large, or not UTF-8.
    """
    name = shown_path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{name}: is a folder, not a file") from error
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    if len(raw) > LARGEST:
        raise ConfigError(f"{name}: larger than {LARGEST // 2**20} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{name}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x} at offset {error.start})",
            hint="save the file as UTF-8",
        ) from error


def shown_path(path: Path) -> str:
    """`path` as a person would type it here: relative when it is below the current folder."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def shown_key(at: Key) -> str:
    """`at` as it is written in the file, for example `rungs.local.base_url` or `ladders.default[1]`."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def shown_value(value: object) -> str:
    """`value` as source text, cut when it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is close to `word`, else nothing."""
    near = _nearest(word, known)
    return f"; did you mean {near!r}?" if near else ""


def _nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word that is most likely meant; letters that changed places count for less than others."""
    close = difflib.get_close_matches(str(word), list(known), n=3)
    swapped = [other for other in close if sorted(other) == sorted(str(word))]
    return next(iter(swapped or close), None)


def one_of(known: Iterable[str]) -> str:
    """Known words as a phrase: `'a', 'b' or 'c'`."""
    *rest, last = [repr(word) for word in known]
    return f"{', '.join(rest)} or {last}" if rest else last


def stays_below(root: Path, relative: str) -> bool:
    """Whether `relative` is a path below `root`, links followed; the same answer on every system."""
    windows = PureWindowsPath(relative)
    if windows.drive or windows.root or PurePosixPath(relative).is_absolute():
        return False
    if ".." in windows.parts or "\0" in relative:
        return False
    return (root / relative).resolve().is_relative_to(root.resolve())


def _toml_sentence(path: Path, message: str, text: str) -> str:
    """The parser's complaint, with its place moved to the front."""
    name = shown_path(path)
    placed = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if placed is not None:
        what, line, column = placed.groups()
        return f"{name}:{line}: not valid TOML: {what} (column {column})"
    return f"{name}:{text.count(chr(10)) + 1}: not valid TOML: {message.removesuffix(' (at end of document)')}"


_TOKEN = re.compile(
    r"""
      (?P<blank>   [ \t\r]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<string>  \"{3} (?: \\. | [^\\] )*? \"{3,5} (?!\")
                 | '{3} .*? '{3,5} (?!')
                 | \" (?: \\. | [^\"\\\n] )* \"
                 | ' [^'\n]* ' )
    | (?P<mark>    [\[\]{},=.] )
    | (?P<bare>    [^\s\[\]{},=.\"'\#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)

_Token = tuple[str, str, int]
_END: _Token = ("end", "", 0)


class _Locator:
    """Lines of keys, tables and list items in TOML text that the parser has accepted already."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Key, int] = {}
        self._tokens = list(_tokens(text))
        self._next = 0
        self._counts: dict[Key, int] = {}
        self._document()

    def _peek(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else _END

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token

    def _document(self) -> None:
        table: Key = ()
        while (token := self._peek()) != _END:
            if token[0] == "newline":
                self._take()
            elif token[1] == "[" and token[0] == "mark":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Key:
        """`[a.b]` or `[[a.b]]`: the table that the following keys belong to."""
        line = self._take()[2]
        repeated = self._peek()[:2] == ("mark", "[")
        if repeated:
            self._take()
        at = self._inside_lists(self._key())
        for _ in range(2 if repeated else 1):
            self._take()
        if repeated:
            count = self._counts.get(at, 0)
            self._counts[at] = count + 1
            at = (*at, count)
        self._note(at, line)
        return at

    def _inside_lists(self, at: Key) -> Key:
        """`at` with the position of the latest `[[table]]` added after each list of tables on the way."""
        placed: Key = ()
        for part in at[:-1]:
            placed = (*placed, part)
            if placed in self._counts:
                placed = (*placed, self._counts[placed] - 1)
        return (*placed, at[-1])

    def _pair(self, table: Key) -> None:
        line = self._peek()[2]
        at = (*table, *self._key())
        self._take()  # the equals sign
        self._note(at, line)
        self._value(at)

    def _key(self) -> Key:
        parts: list[str] = []
        while True:
            kind, text, _ = self._take()
            parts.append(_unquoted(text) if kind == "string" else text)
            if self._peek()[:2] != ("mark", "."):
                return tuple(parts)
            self._take()

    def _value(self, at: Key) -> None:
        kind, text, line = self._peek()
        self.lines.setdefault(at, line)
        if kind == "mark" and text == "[":
            self._list(at)
        elif kind == "mark" and text == "{":
            self._inline_table(at)
        else:
            while not _ends_scalar(self._peek()):
                self._take()

    def _list(self, at: Key) -> None:
        self._take()
        position = 0
        while (token := self._peek())[:2] != ("mark", "]") and token != _END:
            if token[0] == "newline" or token[1] == ",":
                self._take()
                continue
            self._value((*at, position))
            position += 1
        self._take()

    def _inline_table(self, at: Key) -> None:
        self._take()
        while (token := self._peek())[:2] != ("mark", "}") and token != _END:
            if token[0] == "newline" or token[1] == ",":
                self._take()
                continue
            self._pair(at)
        self._take()

    def _note(self, at: Key, line: int) -> None:
        for length in range(1, len(at) + 1):
            self.lines.setdefault(at[:length], line)


def _tokens(text: str) -> Iterable[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "blank":
            yield kind, match.group(), line
        line += match.group().count("\n")


def _ends_scalar(token: _Token) -> bool:
    return token[0] in ("newline", "end") or (token[0] == "mark" and token[1] in ",]}")


def _unquoted(text: str) -> str:
    return str(tomllib.loads(f"key = {text}")["key"])
