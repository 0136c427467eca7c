"""Running totals, so that `stats` over millions of receipts reads a handful of rows.

Kept for each chain, because only one writer adds to a chain; whole numbers only, so that adding them up in another
order gives the same sum and `verify` can compare them exactly.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from rung.ledger.schema import ATTEMPT_TOTAL, RECEIPT_TOTAL
from rung.receipt import Attempt, Receipt

Key = tuple[str, ...]


class TotalTable(msgspec.Struct, frozen=True):
    """A table of totals: the columns that name a group, the columns that are summed, and how to add to them.

    The statements are built once: building them takes longer than a commit.
    """

    table: sa.Table
    keys: tuple[str, ...]
    sums: tuple[str, ...]
    add: sa.Update
    insert: sa.Insert


def _total_table(table: sa.Table) -> TotalTable:
    """Columns of the primary key name a group, all others are sums."""
    keys = [column for column in table.columns if column.primary_key]
    sums = [column for column in table.columns if not column.primary_key]
    where = [column == sa.bindparam(f"this_{column.name}") for column in keys]
    added = {column: column + sa.bindparam(f"this_{column.name}") for column in sums}
    names = [*keys, *sums]
    return TotalTable(
        table,
        tuple(column.name for column in keys),
        tuple(column.name for column in sums),
        sa.update(table).where(*where).values(added),
        sa.insert(table).values({c: sa.bindparam(f"this_{c.name}") for c in names}),
    )


RECEIPTS = _total_table(RECEIPT_TOTAL)
ATTEMPTS = _total_table(ATTEMPT_TOTAL)


class Totals:
    """Sums by group over receipts: one table of receipts, one of attempts."""

    def __init__(self) -> None:
        self.receipts: dict[Key, list[int]] = {}
        self.attempts: dict[Key, list[int]] = {}

    def add(self, receipts: Iterable[Receipt]) -> None:
        """Count these receipts and their attempts."""
        for receipt in receipts:
            _add(self.receipts, _receipt_key(receipt), _receipt_sums(receipt))
            for attempt in receipt.attempts:
                _add(self.attempts, _attempt_key(receipt, attempt), _attempt_sums(attempt))

    def tables(self) -> tuple[tuple[TotalTable, dict[Key, list[int]]], ...]:
        """Both tables, each with its groups."""
        return (RECEIPTS, self.receipts), (ATTEMPTS, self.attempts)

    def store(self, connection: sa.Connection, chain_id: str) -> None:
        """Add these sums to the stored ones of a chain, inside the caller's transaction."""
        for total, groups in self.tables():
            for key, sums in groups.items():
                _store(connection, total, (chain_id, *key), sums)


def read_totals(
    connection: sa.Connection, total: TotalTable, chain_id: str
) -> dict[Key, list[int]]:
    """The stored sums of a chain, by group."""
    rows = connection.execute(sa.select(total.table).where(total.table.c.chain_id == chain_id))
    width = len(total.keys)
    return {tuple(row[1:width]): list(row[width:]) for row in rows}


def _store(connection: sa.Connection, total: TotalTable, key: Key, sums: list[int]) -> None:
    """Add to the row of `key`, or make it; no other writer touches it, so the two steps cannot race."""
    names = [f"this_{name}" for name in (*total.keys, *total.sums)]
    values = dict(zip(names, (*key, *sums), strict=True))
    if not connection.execute(total.add, values).rowcount:
        connection.execute(total.insert, values)


def _add(groups: dict[Key, list[int]], key: Key, sums: tuple[int, ...]) -> None:
    known = groups.get(key)
    if known is None:
        groups[key] = list(sums)
        return
    for position, value in enumerate(sums):
        known[position] += value


def _receipt_key(receipt: Receipt) -> Key:
    return (
        receipt.created[:10],
        receipt.task,
        receipt.standing.value,
        receipt.answered_by or "",
        receipt.currency,
    )


def _receipt_sums(receipt: Receipt) -> tuple[int, ...]:
    """In the order of the table's columns."""
    known = receipt.top_cost is not None
    return (1, receipt.cost, receipt.top_cost or 0, int(known), _microseconds(receipt.latency_ms))


def _attempt_key(receipt: Receipt, attempt: Attempt) -> Key:
    return (
        receipt.created[:10],
        receipt.task,
        attempt.rung,
        attempt.verdict.value,
        receipt.currency,
    )


def _attempt_sums(attempt: Attempt) -> tuple[int, ...]:
    """In the order of the table's columns."""
    usage = attempt.usage
    latency = _microseconds(attempt.latency_ms)
    return (1, attempt.cost, usage.input_tokens, usage.output_tokens, latency)


def _microseconds(milliseconds: float) -> int:
    return round(milliseconds * 1000)
