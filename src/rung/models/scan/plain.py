"""Files of text: JSON, chat templates on their own, and all other text, of which nothing is promised.

A file is text when all of it is UTF-8 without control characters. JSON and chat templates have rules to be held to.
Everything else (licences, word lists, prose) is a program for some interpreter or another, so it is never called clean:
it is `Outcome.TEXT`, or blocked where it is seen to be a program.
"""

from __future__ import annotations

import codecs
import re

from rung.models.scan.content import PIECE, Content
from rung.models.scan.jsontext import look_at_json
from rung.models.scan.programs import more_than_a_template, program
from rung.models.scan.report import Finding, Seen, Tell
from rung.models.scan.template import MOST_BYTES as MOST_TEMPLATE
from rung.models.scan.template import check_template, template_notes

MOST_BYTES = 48 * 1024 * 1024
"""Longest text that is looked at; the longest tokenizers in JSON have 35 MB."""
_CONTROL = bytes([*range(9), *range(14, 32)])
_TEMPLATE_START = re.compile(rb"\s*\{[%{#]")
_NO_TEMPLATE = frozenset({"template-syntax", "template-undecidable", "template-size"})
_LFS = b"version https://git-lfs.github.com/spec/"


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
    data = data.removeprefix(codecs.BOM_UTF8)
    return look_at_json(data, tell) or _other_text(data, tell)


def _is_text(data: bytes, *, whole: bool) -> bool:
    """Whether bytes are UTF-8 without control characters; decoded in pieces to save memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), PIECE):
            last = whole and start + PIECE >= len(data)
            piece = data[start : start + PIECE]
            decoder.decode(piece, final=last)
            if len(piece.translate(None, _CONTROL)) < len(piece):
                return False
    except UnicodeDecodeError:
        return False
    return True


def _other_text(data: bytes, tell: Tell) -> Seen:
    if _TEMPLATE_START.match(data):
        return _template(data, tell)
    tell(Seen("text", prose=True))
    notes = ["a pointer of Git LFS in place of a file"] if data.startswith(_LFS) else []
    found = list(program(data))
    if found or len(data) > MOST_TEMPLATE or not (b"{{" in data or b"{%" in data):
        return Seen("text", tuple(found), tuple(notes), prose=True)
    text = data.decode()
    for each in check_template(text):
        if each.rule not in _NO_TEMPLATE:
            found.append(each)
        else:  # a text about templates
            notes.append(f"as a chat template it could not be used: {each.what}")
    notes += template_notes(text)
    return Seen("text", tuple(found), tuple(notes), prose=True)


def _template(data: bytes, tell: Tell) -> Seen:
    """A text that begins as a chat template does, and has to be one."""
    if len(data) > MOST_TEMPLATE:
        what = f"a chat template of {len(data):,} bytes"
        return Seen("chat template", (Finding("template-size", what, "size"),))
    text = data.decode()
    found = tuple(more_than_a_template(text))
    tell(Seen("chat template", found))
    found += check_template(text)
    return Seen("chat template", found, template_notes(text))
