"""Files of text: JSON, vocabularies, licences, chat templates on their own; and texts that are something else besides.

A file is text when all of it is UTF-8 without control characters. That leaves programs and pickles that are written
as text, which are looked for by reading the file as what they would have to be.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
import warnings
from collections.abc import Callable, Iterator

import msgspec

from rung.models.scan import pickles
from rung.models.scan.content import PIECE, Content
from rung.models.scan.report import Finding, Seen
from rung.models.scan.template import check_template, template_notes

MOST_BYTES = 48 * 1024 * 1024
"""Longest text that is looked at; the longest tokenizers in JSON have 35 MB."""
_PARSED_WHOLE = 4 * 1024 * 1024
"""Longest JSON that is made into objects; of a longer one only the outermost names are."""
_CONTROL = re.compile("[\0-\x08\x0e-\x1f]")
_MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|script|svg|\?xml|\?php)\b", re.IGNORECASE)
_JSON_START = re.compile(rb'\s*(?:\{\s*["}]|\[\s*(?:[\[{"\]]|-?[0-9]))')
_TEMPLATE_CODE = re.compile(r"\{%.+?%\}|\{\{.+?\}\}", re.DOTALL)
_TEMPLATE_START = re.compile(r"\s*\{[%{#]")
_NO_TEMPLATE = frozenset({"template-syntax", "template-undecidable", "template-size"})
_LFS = "version https://git-lfs.github.com/spec/"
_YAML_CODE = "!!python/"
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_RUNS = (ast.Call, ast.Import, ast.ImportFrom, ast.With, *_DEFINES)
_MAY_RUN = re.compile(
    r"\(|(?:^|[;:])[ \t]*(?:import|from|class|with|async)[ \t\\]+[\w.\\]", re.MULTILINE
)
"""What some line of a program has that does something; lists of words, which Python takes long to parse, do not."""
_NAME = "chat_template"

Tell = Callable[[Seen], None]


class _Outermost(msgspec.Struct):
    """What is looked for in a JSON object that is too long to be made into objects."""

    chat_template: str | dict[str, str] | list[dict[str, str]] | None = None


def look_at_text(content: Content, tell: Tell) -> Seen | None:
    """Look at a file that may be text.

    Args:
        content: the file.
        tell: is given what was found before a step that may end the process.

    Returns:
        None when it is no text.
    """
    if not _is_text(content.at(0, PIECE), whole=content.size <= PIECE):
        return None
    if content.size > MOST_BYTES:
        what = f"a text of {content.size:,} bytes, more than {MOST_BYTES:,}, cannot be decided"
        return Seen("text", (Finding("too-large", what, "size"),))
    data = content.at(0, content.size)
    if not _is_text(data, whole=True):
        return None
    if _JSON_START.match(data):
        return _json(data, tell)
    return _other_text(data, tell)


def _is_text(data: bytes, *, whole: bool) -> bool:
    """Whether bytes are UTF-8 without control characters; decoded in pieces to save memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), PIECE):
            last = whole and start + PIECE >= len(data)
            if _CONTROL.search(decoder.decode(data[start : start + PIECE], final=last)):
                return False
    except UnicodeDecodeError:
        return False
    return True


def _json(data: bytes, tell: Tell) -> Seen:
    lines = False
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        lines = _is_lines(data)
        if not lines:
            what = f"begins as JSON and is none: {error}"
            return Seen("JSON", (Finding("json-invalid", f"the file {what}", "text"),))
    found: list[Finding] = []
    notes: list[str] = []
    try:
        templates = [] if lines else list(_json_templates(data))
    except (RecursionError, ValueError) as error:  # msgspec's errors are ValueErrors, too
        what = f"its chat template cannot be read: {error}"
        return Seen("JSON", (Finding("json-invalid", what, _NAME),))
    for text in templates:
        notes += template_notes(text)
        tell(Seen("JSON", tuple(found), tuple(notes)))
        found += check_template(text, _NAME)
    if b'"auto_map"' in data:
        notes.append("it names Python code of its repository (auto_map), which Rung never runs")
    return Seen("JSON lines" if lines else "JSON", tuple(found), tuple(notes))


def _is_lines(data: bytes) -> bool:
    try:
        return len(msgspec.json.Decoder(msgspec.Raw).decode_lines(data)) > 1
    except (msgspec.DecodeError, RecursionError):
        return False


def _json_templates(data: bytes) -> Iterator[str]:
    """Every text under `chat_template`, wherever it stands and however often."""
    if len(data) > _PARSED_WHOLE:
        if data.lstrip().startswith(b"{"):
            said = msgspec.json.decode(data, type=_Outermost).chat_template
            yield from _texts(said)
        return
    found: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> dict[str, str]:
        for key, value in pairs:
            if key == _NAME or (key == "template" and _TEMPLATE_CODE.search(str(value))):
                found.extend(_texts(value))
        return {key: value for key, value in pairs if key != "template" and isinstance(value, str)}

    json.loads(data, object_pairs_hook=collect, parse_int=float)
    yield from found


def _texts(value: object) -> Iterator[str]:
    """The templates in `chat_template`: one text, or some by name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for text in value.values() if isinstance(text, str))
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict) and isinstance(text := item.get("template"), str):
                yield text


def _other_text(data: bytes, tell: Tell) -> Seen:
    walk = pickles.walk(data[: pickles.MOST_BYTES])
    if walk.certain or (walk.names and walk.problem is None):
        return Seen(f"pickle (protocol {walk.protocol})", pickles.findings((walk,)))
    text = data.decode().removeprefix("\ufeff")
    tell(Seen("text"))
    notes = ["a pointer of Git LFS in place of a file"] if text.startswith(_LFS) else []
    whole = _TEMPLATE_START.match(text) is not None
    found = [] if whole else list(_programs(text))
    if found or not (whole or _TEMPLATE_CODE.search(text)):
        return Seen("text", tuple(found), tuple(notes))
    notes += template_notes(text)
    for each in check_template(text):
        if whole or each.rule not in _NO_TEMPLATE:
            found.append(each)
        else:  # a text about templates
            notes.append(f"as a chat template it could not be used: {each.what}")
    return Seen("chat template" if whole else "text", tuple(found), tuple(notes))


def _programs(text: str) -> Iterator[Finding]:
    if match := _MARKUP.match(text):
        yield Finding("markup", f"a page or document with markup: {match[0].strip()}", "byte 0")
    if _YAML_CODE in text:
        yield Finding("yaml-code", "YAML that makes Python objects when it is loaded", _YAML_CODE)
    yield from _python(text)


def _python(text: str) -> Iterator[Finding]:
    """Whether Python would run a text; most texts are none of Python's after a line or two."""
    if not _MAY_RUN.search(text):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    except (RecursionError, MemoryError):
        yield Finding("undecidable", "a text that takes too much memory to parse", "text")
        return
    for node in ast.walk(tree):
        if isinstance(node, _RUNS):
            yield Finding("python-source", "a Python program", f"line {getattr(node, 'lineno', 1)}")
            return
