"""From a stream of routed rows to what the report shows, in memory that grows by a few numbers a row.

Rows are seen once. What is drawn is made at the end, by `rung.evals.metrics`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

import msgspec

from rung.evals.metrics import latency_histogram, reliability, risk_coverage
from rung.evals.report.model import Aggregates, Confusion, ReportRow, RungPath
from rung.receipt import JsonValue, Verdict

CURVE_POINTS = 400
WORST = 12
DISTINCT = 50_000
"""Different answers counted by name; free-form answers beyond are counted without one."""
SHOWN_CHARACTERS = 160


def aggregate(rows: Iterable[ReportRow]) -> Aggregates:
    """What the report needs to know of `rows`, read once."""
    seen = _Seen()
    for row in rows:
        seen.add(row)
    return seen.finish()


class _Seen:
    """Running counts; owned by one `aggregate` call."""

    def __init__(self) -> None:
        self.rows = self.answered = self.known = self.known_answered = self.wrong = self.cost = 0
        self.confidence = array("d")
        self.correct = array("b")
        self.latency_ms = array("d")
        self.answered_by: Counter[str] = Counter()
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.paths: dict[str, Counter[str]] = {}
        self.confusions = _Confusions()

    def add(self, row: ReportRow) -> None:
        self.rows += 1
        self.cost += row.cost
        self.latency_ms.append(row.latency_ms)
        self._walk(row)
        if row.rung is not None:
            self.answered += 1
            self.answered_by[row.rung] += 1
        if row.correct is not None and row.confidence is not None:
            self.confidence.append(row.confidence)
            self.correct.append(row.correct)
        self.known += row.expected is not None or row.correct is not None
        if row.rung is not None and row.correct is not None:
            self.known_answered += 1
            self.wrong += not row.correct
            self.confusions.add(row)

    def _walk(self, row: ReportRow) -> None:
        self.verdicts.update(row.path)
        tried = [rung for rung, verdict in row.path if verdict != Verdict.FORBIDDEN]
        for rung in tried:
            self.paths.setdefault(rung, Counter())
        for rung in tried[:-1]:
            self.paths[rung]["passed_up"] += 1
        for rung in tried[-1:]:
            self.paths[rung]["accepted" if rung == row.rung else "held_back"] += 1

    def finish(self) -> Aggregates:
        confusions, left_out = self.confusions.worst(self.wrong)
        order = {rung: place for place, rung in enumerate(self.paths)}
        return Aggregates(
            rows=self.rows,
            answered=self.answered,
            answered_by=tuple(self.answered_by.items()),
            known=self.known,
            known_answered=self.known_answered,
            wrong=self.wrong,
            curve=risk_coverage(self.confidence, self.correct).thinned(CURVE_POINTS),
            reliability=reliability(self.confidence, self.correct),
            paths=tuple(
                RungPath(rung, ends["accepted"], ends["passed_up"], ends["held_back"])
                for rung, ends in self.paths.items()
            ),
            verdicts=tuple(
                (rung, verdict, rows)
                for (rung, verdict), rows in sorted(
                    self.verdicts.items(),
                    key=lambda item: (order.get(item[0][0], len(order)), item[0][0], -item[1]),
                )
            ),
            confusions=confusions,
            confusions_left_out=left_out,
            latencies=latency_histogram(self.latency_ms),
            cost=self.cost,
        )


class _Confusions:
    """Which known answer was taken for which, with one example each; bounded whatever the answers are."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], str | None] = {}

    def add(self, row: ReportRow) -> None:
        expected = _shown(row.expected)
        if expected in self.answered or len(self.answered) < DISTINCT:
            self.answered[expected] += 1
        if row.correct:
            return
        pair = (expected, _shown(row.answer))
        if pair in self.pairs or len(self.pairs) < DISTINCT:
            self.pairs[pair] += 1
            example = row.text if row.text is not None else row.id
            self.examples.setdefault(pair, None if example is None else _cut(example))

    def worst(self, wrong: int) -> tuple[tuple[Confusion, ...], int]:
        ranked = sorted(self.pairs.items(), key=lambda item: (-item[1], item[0]))[:WORST]
        made = tuple(
            Confusion(*pair, rows, self.answered.get(pair[0]), self.examples[pair])
            for pair, rows in ranked
        )
        return made, wrong - sum(confusion.rows for confusion in made)


def _shown(value: JsonValue) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
