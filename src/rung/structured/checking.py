"""Asking llguidance whether it can hold text to a schema, with the very grammar that an engine is given."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

from rung.receipt import JsonValue

if TYPE_CHECKING:
    from llguidance import LLTokenizer

UNSATISFIABLE = "Unsatisfiable schema"
"""How a refusal begins when no value at all can keep the schema."""

_COMPILING = "failed to compile JSON schema: "

END = 256
"""The token that ends an answer; the others are the bytes."""


def grammar_text(schema: JsonValue) -> str:
    """The grammar of compact JSON that keeps `schema`, as llama.cpp's `grammar` field takes it.

    White space is left out: models that may write it can fill an answer with it.
    """
    table = (
        schema if isinstance(schema, dict) else {}
    )  # `true`; nothing keeps `false`, and none is planned
    options = {"x-guidance": {"whitespace_flexible": False}}
    return f"%llguidance {{}}\nstart: %json {msgspec.json.encode(options | table).decode()}\n"


def refusal(schema: JsonValue) -> str | None:
    """Why llguidance does not take the schema, in its own words and one line; None when it does."""
    from llguidance import LLMatcher  # noqa: PLC0415 - 20 ms that only structured output needs

    grammar = LLMatcher.grammar_from_lark(grammar_text(schema))
    matcher = LLMatcher(byte_tokenizer(), grammar, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()
    said = matcher.get_error() if matcher.is_error() else "\n".join(matcher.get_grammar_warnings())
    return said.splitlines()[0].rpartition(_COMPILING)[2][:200] if said else None


def vocabulary_fits(tokens: int) -> bool:
    """Whether the llguidance inside the engine can mask a vocabulary of so many tokens; if not, GBNF can.

    Where the number is 31 modulo 32 it panics on the first string without bounds, and the engine goes on without any
    constraint (measured with xllamacpp 2026.10.11549).
    """
    return tokens % 32 != 31


@functools.cache
def byte_tokenizer() -> LLTokenizer:
    """A tokenizer whose tokens are the 256 bytes and `END`: what it accepts, a grammar accepts."""
    from llguidance import LLTokenizer, TokenizerWrapper  # noqa: PLC0415 - as above

    return LLTokenizer(TokenizerWrapper(_Bytes()))


class _Bytes:
    """Bytes as tokens, in the shape that `TokenizerWrapper` asks for."""

    eos_token_id = END
    bos_token_id = None
    special_token_ids = (END,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
