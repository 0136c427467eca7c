"""Texts that are programs: pages with markup, YAML that makes objects, Python.

Only what is surely a program is found, so that a licence is not blocked for a word in it. What is found by nobody is
not clean for that (`plain`); a chat template is, and is therefore held to more.
"""

from __future__ import annotations

import ast
import codecs
import re
import warnings
from collections.abc import Iterator

from rung.models.scan.report import Finding

MOST_BYTES = 1024 * 1024
"""Longest text that is parsed as a program."""
_HEAD = 16 * 1024
_MARKUP = re.compile(
    rb"\s*(?:<!--.{0,4000}?-->\s*)*<(?:!doctype|html|head|body|script|svg|\?xml|\?php)\b",
    re.IGNORECASE | re.DOTALL,
)
_YAML_CODE = (b"!!python/", b"tag:yaml.org,2002:python/", b"\n%TAG ", b"\n%TAG\t")
_ENCODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_READABLE = frozenset({"utf-8", "ascii", "iso8859-1"})
_LINE_END = re.compile("\r\n?")
_MAY_RUN = re.compile(
    r"\(|(?:^|[;:])[ \t\f]*(?:import|from|class|with|async)[ \t\f\\]+[\w.\\]", re.MULTILINE
)
"""What some line of a program has that does something; lists of words, which Python takes long to parse, do not."""
_RUNS = (
    ast.Import,
    ast.ImportFrom,
    ast.With,
    ast.AsyncWith,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
)
_RUN_BY_NAME = frozenset({"__import__", "eval", "exec"})
_BUILT_IN = _RUN_BY_NAME | {
    "compile", "open", "getattr", "setattr", "delattr", "vars", "globals", "locals", "breakpoint", "print",
}  # fmt: skip
"""What Python has and the language of templates has not, and what calls or reaches something."""


def program(data: bytes) -> Iterator[Finding]:
    """Why a text is a program, nothing where nobody can say.

    Args:
        data: UTF-8.
    """
    if match := _MARKUP.match(data[:_HEAD]):
        mark = match[0].rsplit(b"<", 1)[-1].decode(errors="replace")
        yield Finding("markup", f"a page or document with markup: <{mark}", "byte 0")
    if data.startswith(b"%TAG") or any(mark in data for mark in _YAML_CODE):
        what = "YAML that makes objects, such as Python's, when it is loaded"
        yield Finding("yaml-code", what, "text")
    for line in data[:_HEAD].splitlines()[:2]:
        if (match := _ENCODING.match(line)) and _encoding(match[1]) not in _READABLE:
            what = f"a text that says it is to be read as {match[1].decode(errors='replace')}"
            yield Finding("text-encoding", what, "line 1")
    if len(data) <= MOST_BYTES:
        yield from _python(data.decode())


def more_than_a_template(text: str) -> Iterator[Finding]:
    """Why a text that begins as a chat template does is a program for Python as well."""
    tree = _parsed(_LINE_END.sub("\n", text))
    if isinstance(tree, Finding):
        yield tree
    elif tree is not None and not all(_is_output(node) for node in tree.body):
        yield Finding("python-source", "a chat template that is a Python program as well", "line 1")


def _is_output(node: ast.stmt) -> bool:
    """Whether a statement is what `{{ … }}` is to Python: a set in a set, which it makes and forgets."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Set):
        return False
    return not any(isinstance(each, ast.Name) and each.id in _BUILT_IN for each in ast.walk(node))


def _encoding(name: bytes) -> str:
    try:
        return codecs.lookup(name.decode()).name
    except (LookupError, UnicodeDecodeError):
        return "unknown"


def _python(text: str) -> Iterator[Finding]:
    """Whether Python would run a text; most texts are none of Python's after a line or two."""
    text = _LINE_END.sub("\n", text)
    tree = _parsed(text) if _MAY_RUN.search(text) else None
    if isinstance(tree, Finding):
        yield tree
        return
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, _RUNS) or (isinstance(node, ast.Name) and node.id in _RUN_BY_NAME):
            yield Finding("python-source", "a Python program", f"line {getattr(node, 'lineno', 1)}")
            return


def _parsed(text: str) -> ast.Module | Finding | None:
    """Python's tree of a text, None when it is no Python, a finding when nobody can say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    except (RecursionError, MemoryError):
        return Finding("undecidable", "a text that takes too much memory to parse", "text")
