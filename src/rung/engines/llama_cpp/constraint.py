"""What holds an answer to its form while it is decoded: the grammar for a schema, or one that the caller wrote.

llama.cpp drops a constraint it cannot compile without a word, so every grammar is compiled here first, and what a
schema's grammar does not enforce is named.
"""

from __future__ import annotations

import asyncio
import json

import msgspec

from rung.engines.llama_cpp.guard import LLGUIDANCE, check_written_grammar
from rung.engines.protocol import GenerateRequest
from rung.errors import ConfigError, EngineRefused
from rung.structured import SchemaPlan, gbnf, gbnf_plan, llguidance_grammar, plan

PROBE_TEXT = '{"bird":"Kestrel ½ \\n"}'
"""What the probe's grammar allows, and nothing else: pieces of words, a character of several bytes, an escape."""

_PROBE_SCHEMA = {
    "type": "object",
    "properties": {"bird": {"const": "Kestrel ½ \n"}},
    "required": ["bird"],
    "additionalProperties": False,
}


class Constraint(msgspec.Struct, frozen=True):
    """What decoding is held to.

    Attributes:
        grammar: for the engine; empty for free text.
        relaxed: parts of the schema that the grammar does not enforce.
    """

    grammar: str = ""
    relaxed: tuple[str, ...] = ()


FREE = Constraint()


def probe() -> Constraint:
    """Allows `PROBE_TEXT` only: a model that writes anything else is not held by llguidance's masks."""
    return Constraint(llguidance_grammar(SchemaPlan(msgspec.json.encode(_PROBE_SCHEMA).decode())))


def gbnf_probe() -> Constraint:
    """The same for GBNF."""
    return Constraint(f"root ::= {json.dumps(PROBE_TEXT, ensure_ascii=False)}")


async def constraint_of(request: GenerateRequest, *, masks: bool) -> Constraint:
    """The constraint that a request asks for.

    Args:
        request: with a schema, a grammar or neither.
        masks: whether llguidance masks this model's tokens rightly; GBNF is used where it does not.

    Raises:
        EngineRefused: both are given, or what is given cannot be enforced.
        EngineUnsupported: the schema cannot be written as GBNF.
    """
    if request.schema is not None and request.grammar is not None:
        raise EngineRefused("a request has a schema or a grammar, not both")
    if request.schema is not None:
        return await asyncio.to_thread(_of_schema, request.schema, masks=masks)
    if request.grammar is not None:
        return await asyncio.to_thread(_of_grammar, request.grammar, masks=masks)
    return FREE


def _of_schema(schema: str, *, masks: bool) -> Constraint:
    try:
        if masks:
            held = plan(schema)
            return Constraint(llguidance_grammar(held), held.relaxed)
        held = gbnf_plan(schema)
        return Constraint(gbnf(held), held.relaxed)
    except ConfigError as error:
        raise EngineRefused(error.message, hint=error.hint) from error
    except UnicodeEncodeError as error:
        raise EngineRefused(
            "the schema holds half of a surrogate pair, which is no character"
        ) from error


def _of_grammar(grammar: str, *, masks: bool) -> Constraint:
    """A caller's grammar; one in llguidance's notation is compiled, the engine itself refuses broken GBNF."""
    if not grammar.strip():
        raise EngineRefused("the grammar is empty")
    check_written_grammar(grammar)
    if not grammar.startswith(LLGUIDANCE):
        return Constraint(grammar)
    if not masks:
        raise EngineRefused(
            "llguidance cannot mask this model's tokens", hint="write the grammar as GBNF"
        )
    from llguidance import LLMatcher  # noqa: PLC0415 - 20 ms that only structured output needs

    problem = LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(grammar))
    if problem:
        raise EngineRefused(f"the grammar is not one: {problem.splitlines()[0][:200]}")
    return Constraint(grammar)
