"""Figures of structured output, four apart: did it parse, did it keep its schema, was it cut, could it be called.

A share of one says little of another: a model may write perfect JSON that breaks the schema, or break off in
between. Intervals are the caller's (`trust.bounds.interval`), who knows what the rows stand for.
"""

from __future__ import annotations

import msgspec

from rung.receipt import Attempt, JsonValue, Verdict
from rung.structured.calls import NO_CALL

NOT_JSON = "the answer is not JSON"
"""How the reason of an attempt begins whose text does not parse."""

VALID = frozenset({Verdict.ACCEPTED, Verdict.UNSURE})
WRITTEN = VALID | {Verdict.INVALID, Verdict.TRUNCATED, Verdict.REFUSED}
"""Verdicts of attempts in which a model did write something."""


class StructuredFigures(msgspec.Struct):
    """Counts of attempts that wrote something; a repaired attempt counts as it ended.

    Attributes:
        n: attempts.
        parsed: whose text is JSON.
        schema_valid: whose value keeps the task's schema.
        truncated: that were cut before their end; they count as neither parsed nor valid.
        no_call: for tasks of kind `call`, answers that are `calls.NO_CALL`: nothing that could be carried out, and no
            failure to write it.
        executable: for tasks of kind `call`, calls that name a tool of the task with arguments that keep its schema;
            0 for others. Whether the tool then does its work is not known here: nothing is called.
        repaired: that were shown their mistake once.
        calls: whether they are of a task of kind `call`.
    """

    n: int = 0
    parsed: int = 0
    schema_valid: int = 0
    truncated: int = 0
    executable: int = 0
    repaired: int = 0
    calls: bool = False
    no_call: int = 0

    @property
    def wanted(self) -> int:
        """Attempts but those that rightly are no call: what `executable` is a share of."""
        return self.n - self.no_call

    def add(self, attempt: Attempt, value: JsonValue = None) -> None:
        """Count one attempt; one in which nothing was written is left out.

        Args:
            attempt: as the receipt has it.
            value: what it wrote, where it became the answer; a receipt does not keep what was not, and a valid call
                of which nothing else is known counts as one that names a tool.
        """
        if attempt.verdict not in WRITTEN:
            return
        valid = attempt.verdict in VALID
        broken = attempt.verdict is Verdict.INVALID and not attempt.reason.startswith(NOT_JSON)
        self.n += 1
        self.parsed += valid or broken
        self.schema_valid += valid
        self.truncated += attempt.verdict is Verdict.TRUNCATED
        none = valid and self.calls and value == NO_CALL
        self.no_call += none
        self.executable += valid and self.calls and not none
        self.repaired += attempt.repaired
