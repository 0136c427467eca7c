"""How many ways a GBNF grammar leaves open at once: what decides how long llama.cpp works at one token.

llama.cpp follows every way on in parallel and compares each with each. Parts that may be left out add up where they
follow one another, through groups, repetitions and rules, so the grammar is taken apart the way llama.cpp does it and
counted there. That a rule is known and every bracket closed is checked on the way; what a grammar means is not.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterable

import msgspec

from rung.errors import EngineRefused

MOST_SYMBOLS = 50_000
"""Of a grammar with its repetitions written out."""

MOST_DEPTH = 256
"""Rules and repetitions that begin with one another; llama.cpp takes them one inside the other on its stack."""

MOST_IN_A_ROW = 64
"""Parts in a row that may be left out: the work grows with the cube of their number, 3 s a token at 128."""

MOST_WAYS = 4096
"""Ways on at one place, and these times the parts in a row."""

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n\r]*)+)
    |(?P<rule>[A-Za-z0-9-]+)(?P<defines>(?:\s|\#[^\n\r]*)*::=)?
    |"(?P<text>(?:[^"\\]|\\.)*)"
    |(?P<one>\[(?:[^\]\\]|\\.)*\]|\.|!?<[^<>\s]*>)
    |(?P<repeat>[?*+]|\{\s*(?P<least>[0-9]+)\s*(?P<comma>,)?\s*(?P<most>[0-9]+)?\s*\})
    |(?P<sign>[()|])""",
    re.VERBOSE | re.DOTALL,
)

_ONE = 0  # a symbol that stands for one character; the others are numbers of rules
_EMPTY = 1  # the rule that is empty

_Alternative = tuple[int, ...]
_Combine = Callable[[Iterable[int]], int]


class _Group(msgspec.Struct):
    """A group that is being read."""

    done: list[_Alternative]
    now: list[int]


class _Reader:
    """Takes a grammar apart into plain rules, repetitions as rules of their own."""

    def __init__(self) -> None:
        self.rules: dict[int, list[_Alternative]] = {_EMPTY: [()]}
        self.names: dict[str, int] = {}
        self._size = 0

    def read(self, grammar: str) -> None:
        """Read all of it.

        Raises:
            EngineRefused: it is no grammar, or too large with its repetitions.
        """
        at, rule, groups = 0, "", [_Group([], [])]
        while at < len(grammar):
            found = _TOKEN.match(grammar, at)
            if found is None or (not rule and not found["space"] and not found["defines"]):
                raise _no_grammar(grammar, at)
            at = found.end()
            if found["defines"]:
                self._end_rule(rule, groups, grammar, at)
                rule, groups = found["rule"], [_Group([], [])]
            elif found["sign"]:
                self._bracket(found["sign"], groups, grammar, at)
            elif found["repeat"]:
                self._repeat(found, groups[-1].now, grammar, at)
            elif not found["space"]:
                groups[-1].now.append(self._item(found))
        self._end_rule(rule, groups, grammar, at)
        for name, number in self.names.items():
            if number not in self.rules:
                raise EngineRefused(f"the grammar has no rule {name[:40]!r}")
        if "root" not in self.names:
            raise EngineRefused("the grammar has no rule 'root'")

    def _item(self, found: re.Match[str]) -> int:
        if found["rule"]:
            return self._named(found["rule"])
        if found["one"]:
            return _ONE
        self._grow(len(found["text"]))
        # the number of characters matters for nothing here but whether there is one
        return _ONE if found["text"] else _EMPTY

    def _bracket(self, sign: str, groups: list[_Group], grammar: str, at: int) -> None:
        group = groups[-1]
        if sign == "(":
            groups.append(_Group([], []))
        elif sign == "|":
            group.done.append(tuple(group.now))
            group.now = []
        elif len(groups) == 1:
            raise _no_grammar(grammar, at - 1)
        else:
            groups.pop()
            groups[-1].now.append(self._rule([*group.done, tuple(group.now)]))

    def _repeat(self, found: re.Match[str], now: list[int], grammar: str, at: int) -> None:
        """Write a repetition out: so many times, then one in another for those that may be left out."""
        if not now:
            raise _no_grammar(grammar, at - 1)
        item = now.pop()
        sign = found["repeat"]
        least = {"?": 0, "*": 0, "+": 1}.get(sign, int(found["least"] or 0))
        most = 1 if sign == "?" else int(found["most"]) if found["most"] else None
        if found["least"] and not found["comma"]:
            most = least
        self._grow(least + 2 * max(0, (most or 0) - least))
        now += [item] * least
        if most is None:
            loop = self._rule([()])
            self.rules[loop] = [(item, loop), ()]
            now.append(loop)
            return
        rest = 0
        for _ in range(most - least):
            rest = self._rule([(item, rest) if rest else (item,), ()])
        if rest:
            now.append(rest)

    def _end_rule(self, name: str, groups: list[_Group], grammar: str, at: int) -> None:
        if len(groups) > 1:
            raise _no_grammar(grammar, at)
        if name:
            self.rules[self._named(name)] = [*groups[0].done, tuple(groups[0].now)]

    def _named(self, name: str) -> int:
        return self.names.setdefault(name, _EMPTY + 1 + 2 * len(self.names))

    def _rule(self, alternatives: list[_Alternative]) -> int:
        self._grow(sum(map(len, alternatives)) + 1)
        number = _EMPTY + 2 + 2 * len(self.rules)  # even ones are nobody's names
        self.rules[number] = alternatives
        return number

    def _grow(self, count: int) -> None:
        self._size += count
        if self._size > MOST_SYMBOLS:
            raise EngineRefused(
                f"the grammar has more than {MOST_SYMBOLS:,} symbols with its repetitions written out",
                hint="ask with a JSON Schema, or write an llguidance grammar",
            )


class _Ways:
    """Counts ways on at every place of some rules.

    Args:
        rules: by number.
        combine: what the ways of several alternatives come to.
        limit: counting ends above it.
    """

    def __init__(self, rules: dict[int, list[_Alternative]], combine: _Combine, limit: int) -> None:
        self._rules = rules
        self._combine = combine
        self._limit = limit
        self._empty = _nullable(rules)
        self._starts: dict[int, int] = {_ONE: 1}
        self._depths: dict[int, int] = {_ONE: 0}

    def most(self, root: int) -> int:
        """The most ways on at any place that can be reached, or something above the limit."""
        for rule in self._rules:
            self._find_starts(rule)
        after: dict[int, int] = {}
        above: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)
        for rule, alternatives in self._rules.items():
            for alternative in alternatives:
                ways, open_ended = 0, True
                for symbol in reversed(alternative):
                    after[symbol] = max(after.get(symbol, 0), ways)
                    if open_ended:
                        above[rule].append((symbol, ways))
                    nullable = symbol in self._empty
                    ways = self._starts[symbol] + (ways if nullable else 0)
                    open_ended &= nullable
        return max(self._starts[root], self._carried(after, above))

    def _carried(self, after: dict[int, int], above: dict[int, list[tuple[int, int]]]) -> int:
        """What comes after a rule is added to what comes after its last parts, as far as that goes."""
        waiting = collections.deque(rule for rule, ways in after.items() if ways)
        work = 0
        while waiting:
            rule = waiting.popleft()
            for symbol, ways in above.get(rule, ()):
                work += 1
                if after[symbol] < (carried := ways + after[rule]):
                    after[symbol] = carried
                    if carried > self._limit or work > 20 * MOST_SYMBOLS:
                        return self._limit + 1
                    waiting.append(symbol)
        return max(after.values(), default=0)

    def _find_starts(self, rule: int) -> None:
        """How many first characters a rule has, those of what follows a part that may be left out included."""
        path, seen = [rule], {rule}
        while path:
            top = path[-1]
            missing = next((s for s in self._first(top) if s not in self._starts), None)
            if missing is None:
                self._starts[top] = min(self._limit + 1, self._count(top))
                self._depths[top] = 1 + max((self._depths[s] for s in self._first(top)), default=0)
                if self._depths[top] > MOST_DEPTH:
                    raise EngineRefused(
                        f"the grammar has rules and repetitions nested more than {MOST_DEPTH} deep"
                    )
                seen.discard(path.pop())
            elif missing in seen:
                raise EngineRefused("the grammar has a rule that begins with itself")
            else:
                path.append(missing)
                seen.add(missing)

    def _first(self, rule: int) -> Iterable[int]:
        """The parts that an answer to a rule can begin with."""
        for alternative in self._rules[rule]:
            for symbol in alternative:
                yield symbol
                if symbol not in self._empty:
                    break

    def _count(self, rule: int) -> int:
        if not self._rules[rule]:
            return 0
        return self._combine(self._count_one(each) for each in self._rules[rule])

    def _count_one(self, alternative: _Alternative) -> int:
        ways = 0
        for symbol in alternative:
            ways += self._starts[symbol]
            if symbol not in self._empty:
                break
        return ways


def check_looseness(grammar: str) -> None:
    """Check that llama.cpp can follow a GBNF grammar at every token in good time.

    Raises:
        EngineRefused: it is no grammar, or leaves more open at once than is taken.
    """
    reader = _Reader()
    reader.read(grammar)
    root = reader.names["root"]
    in_a_row = _Ways(reader.rules, max, MOST_IN_A_ROW).most(root)
    ways = _Ways(reader.rules, sum, MOST_WAYS).most(root)
    if in_a_row > MOST_IN_A_ROW:
        said = f"more than {MOST_IN_A_ROW} parts in a row that may be left out"
    elif ways * in_a_row > MOST_WAYS:
        said = f"places with more than {MOST_WAYS // max(in_a_row, 1):,} ways on"
    else:
        return
    raise EngineRefused(
        f"the grammar has {said}, its rules and repetitions written out",
        hint="ask with a JSON Schema, or write an llguidance grammar",
    )


def _nullable(rules: dict[int, list[_Alternative]]) -> set[int]:
    """The rules that an empty text satisfies."""
    users: dict[int, set[int]] = collections.defaultdict(set)
    for rule, alternatives in rules.items():
        for symbol in {symbol for alternative in alternatives for symbol in alternative}:
            users[symbol].add(rule)
    empty: set[int] = set()
    waiting = list(rules)
    while waiting:
        rule = waiting.pop()
        if rule not in empty and any(empty.issuperset(each) for each in rules[rule]):
            empty.add(rule)
            waiting += users[rule]
    return empty


def _no_grammar(grammar: str, at: int) -> EngineRefused:
    line = grammar.count("\n", 0, at) + 1
    return EngineRefused(f"the grammar is not one: its line {line:,} cannot be read")
