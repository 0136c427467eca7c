"""Which JSON texts a grammar of `rung.structured` accepts, asked byte by byte."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher

from rung.structured.checking import byte_tokenizer


class Acceptor:
    """Asks one grammar which values it accepts."""

    def __init__(self, lark: str) -> None:
        grammar = LLMatcher.grammar_from_lark(lark)
        self._matcher = LLMatcher(byte_tokenizer(), grammar, log_level=0)
        assert not self._matcher.is_error(), self._matcher.get_error()

    def accepts_text(self, text: str) -> bool:
        """Whether exactly this text may be written, whole."""
        tokens = list(text.encode("utf-8", "surrogatepass"))
        self._matcher.reset()
        return (
            self._matcher.try_consume_tokens(tokens) == len(tokens) and self._matcher.is_accepting()
        )

    def accepts(self, value: Any) -> bool:
        """Whether the value may be written, its members in some order and its whole numbers as such."""
        return any(self.accepts_text(text) for text in spellings(value))


def spellings(value: Any) -> Iterator[str]:
    """The value as compact JSON in every order of its members (up to five of them)."""
    for variant in _orders(_plain(value)):
        yield json.dumps(variant, separators=(",", ":"), ensure_ascii=False)


def _orders(value: Any) -> Iterator[Any]:
    if isinstance(value, dict) and len(value) <= 5:
        for keys in itertools.permutations(value):
            for parts in itertools.product(*(list(_orders(value[key])) for key in keys)):
                yield dict(zip(keys, parts, strict=True))
    else:
        yield value


def _plain(value: Any) -> Any:
    """1.0 as 1: JSON Schema takes them for the same number, a grammar writes one of them."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
