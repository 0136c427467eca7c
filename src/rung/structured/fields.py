"""How sure a model was of each field of a record it wrote: the probabilities of its tokens, field by field.

A field's segment of the text runs from the end of the value before it to the end of its own, so the choice to write
this field next, and to leave out those before it, counts as part of it. The last segment closes the record. What
these numbers are worth as evidence is found by calibration, not here.
"""

from __future__ import annotations

import itertools
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

_DECODER = json.JSONDecoder(strict=False)
_BLANKS = " \t\r\n"


class FieldProbabilities(msgspec.Struct, frozen=True):
    """Probabilities of one record's parts, each the product of its tokens' probabilities.

    Attributes:
        fields: of every field asked for, absent ones included, and of every other that was written.
        closing: of ending the record where it ended.
    """

    fields: Mapping[str, float]
    closing: float

    @property
    def least(self) -> float:
        """The smallest of all, the closing included."""
        return min((*self.fields.values(), self.closing))


def field_probabilities(
    text: str, tokens: Sequence[tuple[str, float]], names: Sequence[str]
) -> FieldProbabilities | None:
    """The probability of each top-level field of the JSON object `text`.

    A token that lies in two segments counts in both: the choice it stands for is about both. A field that is absent
    has the probability of the segment that passed it over. A value that is no object is all closing.

    Args:
        text: the record as it was written.
        tokens: each token's text and the natural log of its probability, in order.
        names: the fields of the schema, in its order.

    Returns:
        None when the tokens do not spell the text, a probability is missing, or the text is not JSON.
    """
    starts = _starts(text, tokens)
    if starts is None:
        return None
    try:
        ends = _value_ends(text)
    except (ValueError, RecursionError):
        return None
    logprobs = [logprob for _, logprob in tokens]
    bounds = [0, *ends.values(), len(text)]
    masses = [_mass(starts, logprobs, begin, end) for begin, end in itertools.pairwise(bounds)]
    masses[-1] += sum(p for at, p in zip(starts, logprobs, strict=True) if at >= len(text))
    if not all(map(math.isfinite, masses)):
        return None
    probabilities = [min(1.0, math.exp(mass)) for mass in masses]
    written = dict(zip(ends, probabilities, strict=False))
    passed = _passed_over(names, written, probabilities[-1])
    return FieldProbabilities({**passed, **written}, probabilities[-1])


def least_field(
    text: str, tokens: Sequence[tuple[str, float]] | None, names: Sequence[str]
) -> float | None:
    """The smallest probability among a record's fields and its closing; None as `field_probabilities`."""
    found = field_probabilities(text, tokens, names) if tokens else None
    return found.least if found is not None else None


def _starts(text: str, tokens: Sequence[tuple[str, float]]) -> list[int] | None:
    """Where each token begins in the text; those after its end stand for the end of the answer."""
    spelled = "".join(token for token, _ in tokens)
    if not spelled.startswith(text):
        return None
    starts, at = [], 0
    for token, _ in tokens:
        starts.append(at)
        at += len(token)
    return starts if len(spelled) == len(text) or len(text) in starts else None


def _mass(starts: Sequence[int], logprobs: Sequence[float], begin: int, end: int) -> float:
    """Log-probability of the tokens that touch `text[begin:end]`."""
    first = max(0, bisect_right(starts, begin) - 1)
    last = bisect_right(starts, end - 1)
    return sum(logprobs[first:last]) if end > begin else 0.0


def _value_ends(text: str) -> dict[str, int]:
    """Each top-level member of a JSON object, in the order written, to the end of its value.

    Raises:
        ValueError: the text is not JSON. RecursionError: it is nested too deep.
    """
    ends: dict[str, int] = {}
    value, whole = _DECODER.raw_decode(text, _past_blanks(text, 0))
    if text[whole:].strip(_BLANKS):
        raise ValueError("more than one JSON value")
    if not isinstance(value, dict) or not value:
        return ends
    at = _past_blanks(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _past_blanks(text, _past_blanks(text, at) + 1)
        _, at = _DECODER.raw_decode(text, at)
        if name in ends:
            raise ValueError("a member twice")
        ends[name] = at
        at = _past_blanks(text, at)
        if text[at] == ",":
            at = _past_blanks(text, at + 1)
    return ends


def _past_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _passed_over(
    names: Sequence[str], written: Mapping[str, float], closing: float
) -> dict[str, float]:
    """Each absent field with the probability of the segment after it in the schema's order."""
    order = {name: place for place, name in enumerate(names)}
    passed = {}
    for name, place in order.items():
        later = (p for other, p in written.items() if order.get(other, -1) > place)
        passed[name] = next(later, closing)
    return passed
