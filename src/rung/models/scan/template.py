"""Chat templates, which are programs that come with a model: rendered with little fuel on a few conversations.

A template is blocked for what it does (runs away, writes without end, reads other files, reaches for Python's own
attributes, or for names that it puts together) or because nobody can say what it does (it renders none of the
conversations). The engine's templates have no such attributes; whoever else loads the file may. Names can be hidden in
more ways than are known here. Words are never a reason:
what a template says to a model can only be compared with the pinned one (`template_diff`). Called in the scanner's
child, because some of what hostile templates do ends the process.
"""

from __future__ import annotations

import copy
import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from rung.models.chat_templates import environment, plain
from rung.models.scan.report import Finding, shown

MOST_BYTES = 512 * 1024
"""Longest template; the longest in use are some tens of kilobytes."""
MOST_OUTPUT = 1024 * 1024
"""Most characters that it may write around the short conversations of the probes."""
_FUEL = 1_000_000
_MOST_DIFF = 400
_MOST_PAIRS = 1_000_000
"""Of lines that are compared: the time for a diff grows with their number and more, the longest templates in use have
some hundred lines."""
_ENDS_DIFFER = "only line ends or the end of the text differ"
_MOST_NOTES = 8

_OPENS = re.compile(r"\{\{|\{%")
_CLOSES = {"{{": "}}", "{%": "%}"}
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_OTHER_FILE = re.compile(r"\{%[-+]?\s*(include|import|from|extends)\b")
_PYTHON_ATTRIBUTE = re.compile(
    r"""\b__\w+__\b                            # a name, wherever it stands
    | ['"]_\w*_['"]                            # a text like one, whatever is done with it
    | ['"]__\w*['"]\s*[~+] | [~+]\s*['"]\w*__['"]
    | \\x5f | \\u005f | \\137
    | \|\s*attr\s*\(\s*(?!['"][a-zA-Z]\w*['"]\s*[,)])  # an attribute whose name is made on the way
    | [\w)\]'"]\s*\[\s*['"][^'"]*['"]\s*[|~+*%.]       # an index that is
    | [\w)\]'"]\s*\[\s*\[
    | ['"]_+['"]\s*[*%] | format\s*\([^)]*['"]_+['"]""",
    re.VERBOSE | re.IGNORECASE,
)
_URL = re.compile(r"https?://[^\s'\"<>{}]{4,200}")
_WORD_TEST = re.compile(r"""['"](\w+ [\w ,.!?]{1,80})['"]\s+in\s+[\w.\[\]'"]*content""")

_USER = {"role": "user", "content": "What is the weather in Paris?"}
_ANSWER = {"role": "assistant", "content": "Sunny."}
_CALL = {"name": "weather", "arguments": {"city": "Paris", "days": 2}}
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name."},
                "days": {"type": "integer", "description": "How many."},
            },
            "required": ["city"],
        },
    },
}
_PROBES: Sequence[Mapping[str, object]] = (
    {"messages": [_USER]},
    {"messages": [{"role": "system", "content": "Be brief."}, _USER, _ANSWER, _USER]},
    {"messages": [_USER], "add_generation_prompt": False},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}]}]},
    {
        "messages": [
            _USER,
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "call00001", "type": "function", "function": _CALL}]},
            {"role": "tool", "content": '{"sky": "clear"}', "name": "weather", "tool_call_id": "call00001"},
        ],
        "tools": [_TOOL],
    },
    {"messages": [_USER], "functions": "[]", "datetime": "2026-01-01"},
)  # fmt: skip
"""A plain question, a conversation, one that is not to be answered, content in parts, a tool and its use, and what
templates of before tools were agreed on ask for."""


def check_template(text: str, where: str = "chat template") -> tuple[Finding, ...]:
    """Why a chat template is not to be rendered, nothing when it may be.

    Args:
        text: Jinja source.
        where: it stands, for the findings.
    """
    if len(text.encode(errors="replace")) > MOST_BYTES:
        return (Finding("template-size", f"a chat template of {len(text):,} characters", where),)
    found = _reaching_out(text, where)
    if (ran := _probed(text, where)) is not None:
        found.append(ran)
    return tuple(found)


def template_notes(text: str) -> tuple[str, ...]:
    """What a reader of a template may want to look at: addresses, hidden characters, answers that hang on words.

    Of a text that is too long to be a template nothing is said.
    """
    if len(text) > MOST_BYTES:
        return ()
    notes = [f"the chat template holds the address {shown(url, 120)}" for url in _found(_URL, text)]
    hidden = sorted({letter for letter in text if unicodedata.category(letter) == "Cf"})
    if hidden:
        names = ", ".join(f"U+{ord(letter):04X}" for letter in hidden[:5])
        notes.append(f"the chat template holds characters that cannot be seen: {names}")
    notes += [
        f"the chat template looks for {shown(words, 80)!r} in what is said"
        for words in _found(_WORD_TEST, text)
    ]
    return tuple(notes[:_MOST_NOTES])


def template_diff(pinned: str, now: str, *, name: str = "pinned") -> str:
    """What changed between two templates, as a unified diff of at most some hundred lines; empty for nothing.

    Of two that are longer than templates are, only where they begin to differ.

    Args:
        pinned: the one that was agreed to.
        now: the one that is there.
        name: what the first is called.
    """
    before, after = pinned.splitlines(), now.splitlines()
    if len(before) * len(after) > _MOST_PAIRS:
        return _first_difference(before, after, name)
    lines = difflib.unified_diff(before, after, name, "now", lineterm="")
    kept = [shown(line) for line, _ in zip(lines, range(_MOST_DIFF), strict=False)]
    if not kept and pinned != now:
        return _ENDS_DIFFER
    return "\n".join([*kept, "…"] if len(kept) == _MOST_DIFF else kept)


def _first_difference(before: Sequence[str], after: Sequence[str], name: str) -> str:
    if before == after:
        return _ENDS_DIFFER
    pairs = itertools.zip_longest(before, after)
    number, (old, new) = next(pair for pair in enumerate(pairs, 1) if pair[1][0] != pair[1][1])
    lines = [
        f"too long to be compared line by line: {len(before):,} lines {name}, {len(after):,} now; "
        f"line {number:,} is the first that differs",
        *([shown(f"-{old}")] if old is not None else []),
        *([shown(f"+{new}")] if new is not None else []),
    ]
    return "\n".join(lines)


def _found(pattern: re.Pattern[str], text: str) -> list[str]:
    return list(dict.fromkeys(pattern.findall(text)))[:3]


def _reaching_out(text: str, where: str) -> list[Finding]:
    """What stands in a template though none of the probes may reach it."""
    closed = (
        text.rfind("#}") + 2 if "#}" in text else 0
    )  # behind it, looking for an end takes too long
    code = _COMMENT.sub("", text[:closed]) + text[closed:]
    found = []
    if match := _OTHER_FILE.search(code):
        what = f"a chat template that reads another file with {match[1]!r}"
        found.append(Finding("template-include", what, where))
    for each in _code(code):
        if _PYTHON_ATTRIBUTE.search(each):
            what = f"a chat template that reaches for Python's own attributes: {shown(each, 80)}"
            found.append(Finding("template-attribute", what, where))
            break
    return found


def _code(text: str) -> Iterator[str]:
    """What stands in braces; all the rest where they are not closed."""
    at = 0
    for match in _OPENS.finditer(text):
        if match.start() < at:
            continue
        end = text.find(_CLOSES[match[0]], match.end())
        at = end + 2 if end >= 0 else len(text)
        yield text[match.start() : at]


def _probed(text: str, where: str) -> Finding | None:
    """What rendering it shows: the first thing to be said against it, None when one conversation renders."""
    from minijinja import TemplateError  # noqa: PLC0415

    refusals: list[str] = []
    engine = environment(_FUEL, refusals)
    try:
        engine.add_template("chat", plain(text))
    except TemplateError as error:
        what = f"a chat template that cannot be compiled: {_first_line(error)}"
        return Finding("template-syntax", what, where)
    rendered, problem = 0, ""
    for probe in _PROBES:
        refusals.clear()
        try:
            written = engine.render_template("chat", **_variables(probe))
        except Exception as error:  # noqa: BLE001  # also what Python's own methods raise, which templates call
            if getattr(error, "kind", "") == "OutOfFuel":
                what = (
                    "a chat template that does not end: it ran out of fuel on a short conversation"
                )
                return Finding("template-fuel", what, where)
            rendered += bool(refusals)
            problem = problem or _first_line(error)
            continue
        rendered += 1
        if len(written) > MOST_OUTPUT:
            what = f"a chat template that writes {len(written):,} characters around a short conversation"
            return Finding("template-output", what, where)
    if not rendered:
        what = f"a chat template that renders no conversation: {problem}"
        return Finding("template-undecidable", what, where)
    return None


def _variables(probe: Mapping[str, object]) -> dict[str, object]:
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    given = copy.deepcopy(dict(probe))  # templates can change lists
    return {"add_generation_prompt": True, "enable_thinking": False, **named, **given}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0] if lines else type(error).__name__, 160)
