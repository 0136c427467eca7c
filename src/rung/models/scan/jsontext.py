"""JSON and JSON lines: what in them is a chat template, or makes code.

A file is read by its keys, wherever they stand and however often and however they are escaped, and never made into
objects as a whole: the longest tokenizers would take hundreds of megabytes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence

import msgspec

from rung.models.scan.content import PIECE
from rung.models.scan.report import Finding, Seen, Tell
from rung.models.scan.template import check_template, template_notes

_MOST_VALUE = 4 * 1024 * 1024  # of a key that is looked at
_MOST_TEMPLATES = 64
_MOST_CONSTANTS = 8 * 1024 * 1024
_START = re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*(?:[\[{\"\]]|-?[0-9]))")
_BLANK = re.compile(rb"[ \t\r\n]*")
_CONSTANT = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")|-?\b(?:NaN|Infinity)\b', re.DOTALL)
_IN_TEMPLATES = ("{{", "{%", "{#")


def _escapable(text: str) -> str:
    """A pattern for a text in JSON, each letter as it is or escaped."""
    return "".join(
        rf"(?:{'' if letter != '/' else chr(92) * 2 + '?'}{re.escape(letter)}|\\u00(?i:{ord(letter):02x}))"
        for letter in text
    )


_KEYS = re.compile(
    (
        rf'"(?:({_escapable("chat_template")})|({_escapable("template")})|({_escapable("class_name")})'
        rf'|({_escapable("py/")}[^"]*)|({_escapable("auto_map")}))"[ \t\r\n]*:'
    ).encode()
)
_CHAT, _TEMPLATE, _CLASS, _PYTHON, _AUTO = range(1, 6)
_UNESCAPED = (b'"chat_template"', b'"template"', b'"class_name"', b'"py/', b'"auto_map"')
_ESCAPED_LETTER = re.compile(rb"\\u00[2-7]|\\/")
_MOST_KEYS = 10_000
_CONFIG = re.compile(rf'"{_escapable("config")}"[ \t\r\n]*:'.encode())


def look_at_json(data: bytes, tell: Tell) -> Seen | None:
    """Look at a text that may be JSON.

    Args:
        data: UTF-8.
        tell: is given what was found before a step that may end the process.

    Returns:
        None when it is none, nor begins as if it were.
    """
    kind, notes = "JSON", []
    problem = _problem(data)
    if problem is not None and _has_constants(data):
        notes.append("it holds NaN or Infinity, which are none of JSON's numbers")
    elif problem is not None and _is_lines(data):
        kind = "JSON lines"
    elif problem is not None:
        if not _START.match(data):
            return None
        what = f"the file begins as JSON and is none: {problem}"
        return Seen("JSON", (Finding("json-invalid", what, "text"),))
    elif data.lstrip()[:1] not in (b"{", b"["):
        return None  # a number or a word alone
    keys = list(itertools.islice(_keys(data), _MOST_KEYS))
    found = list(_code(data, keys))
    tell(Seen(kind, tuple(found), tuple(notes)))
    templates: dict[str, None] = {}
    for each in _templates(data, keys):
        if isinstance(each, Finding):
            found.append(each)
        else:
            templates[each] = None
    for text in templates:
        tell(Seen(kind, tuple(found), tuple(notes)))
        found += check_template(text, "chat_template")
        notes += template_notes(text)
    if any(key.lastindex == _AUTO for key in keys):
        notes.append("it names Python code of its repository (auto_map), which Rung never runs")
    return Seen(kind, tuple(found), tuple(notes))


def _problem(data: bytes) -> str | None:
    """Why a text is no JSON, None when it is."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        return str(error)
    return None


def _has_constants(data: bytes) -> bool:
    """Whether it would be JSON without the numbers that only Python writes."""
    if len(data) > _MOST_CONSTANTS or not (b"NaN" in data or b"Infinity" in data):
        return False
    return _problem(_CONSTANT.sub(lambda match: match[1] or b"0", data)) is None


def _is_lines(data: bytes) -> bool:
    """Whether every line is JSON, decoded in pieces to save memory."""
    decoder = msgspec.json.Decoder(msgspec.Raw)
    count = at = 0
    try:
        while at < len(data):
            end = data.rfind(b"\n", at, at + PIECE) + 1 or data.find(b"\n", at) + 1 or len(data)
            count += len(decoder.decode_lines(data[at:end]))
            at = end
    except (msgspec.DecodeError, RecursionError):
        return False
    return count > 1 and data.lstrip()[:1] in (b"{", b"[")


def _keys(data: bytes) -> Iterator[re.Match[bytes]]:
    """The keys that are looked for; the group that matched says which."""
    if _ESCAPED_LETTER.search(data):
        yield from _KEYS.finditer(data)
        return
    for text in _UNESCAPED:  # many times as fast in a long file
        at = data.find(text)
        while at >= 0:
            if match := _KEYS.match(data, at):
                yield match
            at = data.find(text, at + 1)


def _code(data: bytes, keys: Sequence[re.Match[bytes]]) -> Iterator[Finding]:
    """What makes code of its own accord in the libraries that read it, and what is too much to be looked at."""
    first = {key.lastindex: key.start() for key in reversed(keys)}
    if _CLASS in first and _CONFIG.search(data):
        what = "a Keras architecture, which can hold layers made of Python code"
        yield Finding("keras", what, f"byte {first[_CLASS]:,}")
    if _PYTHON in first:
        what = "JSON of which jsonpickle makes Python objects"
        yield Finding("json-code", what, f"byte {first[_PYTHON]:,}")
    if len(keys) == _MOST_KEYS:
        what = f"it has {_MOST_KEYS:,} keys or more that would have to be looked at"
        yield Finding("undecidable", what, "text")


def _templates(data: bytes, keys: Sequence[re.Match[bytes]]) -> Iterator[str | Finding]:
    """Every text under `chat_template`, and those under `template` that are for templates."""
    count = 0
    for match in keys:
        if match.lastindex not in (_CHAT, _TEMPLATE):
            continue
        value = _value(data, match.end())
        if isinstance(value, Finding):
            yield value
            continue
        chat = match.lastindex == _CHAT
        for text in _texts(value):
            if any(mark in text for mark in _IN_TEMPLATES) or (chat and isinstance(value, str)):
                count += 1
                yield text
        if count > _MOST_TEMPLATES:
            what = f"more than {_MOST_TEMPLATES} chat templates, which are not all looked at"
            yield Finding("template-count", what, "chat_template")
            return


def _value(data: bytes, at: int) -> object:
    """What stands behind a key, None for a number or a word; a finding where it is too long."""
    start = match.end() if (match := _BLANK.match(data, at)) else at
    if data[start : start + 1] not in (b'"', b"{", b"["):
        return None
    text = data[start : start + _MOST_VALUE].decode(errors="ignore")
    try:
        return json.JSONDecoder(parse_int=float).raw_decode(text)[0]
    except (ValueError, RecursionError) as error:
        what = f"a chat template that is too long or too deep: {error}"
        return Finding("template-size", what, f"byte {start:,}")


def _texts(value: object) -> Iterator[str]:
    """Every text in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
