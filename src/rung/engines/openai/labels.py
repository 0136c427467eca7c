"""Label probabilities out of the tokens that spell a label.

The probability of the label that was written is the product over the tokens that spell it, JSON
around it left out. At each of those tokens the alternatives tell of labels that were not written:
where an alternative can only be the beginning of one label, that label gets its mass. What stays
ambiguous goes to nobody, so a row need not sum to 1.
"""

from __future__ import annotations

import math
import re

import msgspec
import numpy as np

from rung.engines.protocol import Probabilities, TokenLogprob

_FIELD = re.compile(r'"label"\s*:\s*"((?:[^"\\]|\\.)*)"')
_QUOTES = "\"'`"


class _Object(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON form of a label answer."""

    label: str


class Spelled(msgspec.Struct, frozen=True):
    """Where an output spells which label.

    Attributes:
        index: the label, in the task's order.
        start, end: characters of the output that are the label itself.
        quoted: whether a quote follows, so that the label is known to end there.
    """

    index: int
    start: int
    end: int
    quoted: bool


class LabelReader:
    """Reads the answers of one `classify` task.

    Args:
        names: the labels, in the task's order.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._index = {name: index for index, name in enumerate(names)}

    def find(self, output: str) -> Spelled | None:
        """The label that `output` is: bare, quoted or as `{"label": …}`; None for anything else."""
        body = output.strip()
        start = output.index(body)
        if body in self._index:
            return Spelled(self._index[body], start, start + len(body), quoted=False)
        if body.startswith("{"):
            return self._find_json(body, start)
        inside = body[1:-1]
        if inside in self._index and body[0] in _QUOTES and body[0] == body[-1]:
            return Spelled(self._index[inside], start + 1, start + len(body) - 1, quoted=True)
        return None

    def _find_json(self, body: str, start: int) -> Spelled | None:
        try:
            name = msgspec.json.decode(body, type=_Object).label
        except (ValueError, RecursionError):
            return None
        field = _FIELD.search(body)
        index = self._index.get(name)
        if index is None or field is None or msgspec.json.decode(f'"{field[1]}"') != name:
            return None  # no label, or the key stands twice
        return Spelled(index, start + field.start(1), start + field.end(1), quoted=True)

    def probabilities(
        self, output: str, tokens: tuple[TokenLogprob, ...] | None, spelled: Spelled
    ) -> Probabilities | None:
        """(labels,) float64 masses; None where the tokens are no evidence for what was written.

        Args:
            output: the whole text.
            tokens: its tokens, None where the server gave none.
            spelled: where `output` holds the label.
        """
        path = _covering(output, tokens or (), spelled)
        if path is None:
            return None
        masses = np.zeros(len(self._names))
        name = output[spelled.start : spelled.end]
        before = 0.0  # log-probability of the label's tokens so far
        for token, place in path:
            for text, logprob in token.alternatives:
                index = self._only_label(text, token.token, name, place, spelled)
                if index is not None:
                    masses[index] += math.exp(before + logprob)
            before += token.logprob
        if self._may_go_on(self._names[spelled.index]):
            end = _closing(output, tokens or (), spelled)
            if end is None:
                return None
            before += end.logprob
        masses[spelled.index] = math.exp(before)
        return np.minimum(masses, 1.0)

    def _may_go_on(self, name: str) -> bool:
        """Whether another label starts with this one, so that its tokens alone do not settle it."""
        return any(other != name and other.startswith(name) for other in self._names)

    def _only_label(
        self, text: str, written: str, name: str, place: int, spelled: Spelled
    ) -> int | None:
        """The one other label that alternative `text`, in the place of `written`, can begin.

        `place` counts characters from the label's start, negative where the token begins earlier.
        """
        if text == written:
            return None
        if place < 0:
            before, place = written[:-place], 0
            if text.startswith(before):
                text = text[len(before) :]
            elif not before.isspace():
                return None
        elif place == 0 and not spelled.quoted:
            text = text.lstrip()
        begun = name[:place] + text
        stem, ended = _cut(begun)
        if not stem:
            return None
        if ended:
            fitting = [self._index[stem]] if stem in self._index else []
        else:
            fitting = [i for i, other in enumerate(self._names) if other.startswith(stem)]
        return fitting[0] if len(fitting) == 1 and fitting[0] != spelled.index else None


def _cut(begun: str) -> tuple[str, bool]:
    """What stands before the first quote or line end, and whether there was one."""
    found = re.search(r'["\n]', begun)
    return (begun, False) if found is None else (begun[: found.start()], True)


def _covering(
    output: str, tokens: tuple[TokenLogprob, ...], spelled: Spelled
) -> list[tuple[TokenLogprob, int]] | None:
    """The tokens that share a character with the label, each with its offset from the label's start.

    None where the tokens do not spell the output: they would be evidence about another text.
    """
    joined = "".join(token.token for token in tokens)
    shift = joined.find(output)
    if shift < 0 or not tokens:
        return None
    start, end = spelled.start + shift, spelled.end + shift
    path: list[tuple[TokenLogprob, int]] = []
    at = 0
    for token in tokens:
        if at < end and at + len(token.token) > start:
            path.append((token, at - start))
        at += len(token.token)
    return path


def _closing(
    output: str, tokens: tuple[TokenLogprob, ...], spelled: Spelled
) -> TokenLogprob | None:
    """The token that ends the label; None where nothing shows that it ends."""
    end = "".join(token.token for token in tokens).find(output) + spelled.end
    at = 0
    for token in tokens:
        after = at + len(token.token)
        if at < end < after:
            # The label's last token also ends it, so the product has counted the end already.
            return TokenLogprob(token.token, 0.0)
        if at >= end and token.token:
            return token
        at = after
    return None
