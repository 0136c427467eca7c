"""What the ledger adds up to, from its running totals: by task and standing, by rung and verdict, by day."""

from __future__ import annotations

from datetime import date

import msgspec
import sqlalchemy as sa

from rung.ledger.schema import ATTEMPT_TOTAL, RECEIPT_TOTAL


class ReceiptStats(msgspec.Struct, frozen=True):
    """Receipts of one task that ended alike.

    Attributes:
        task, standing, currency: what they share; `answered_by` is None when Rung abstained.
        receipts: how many.
        cost: nano-units of `currency`.
        top_cost: estimated nano-units had the top rung answered the `top_known` receipts that have an estimate.
        mean_latency_ms: from request to answer.
    """

    task: str
    standing: str
    answered_by: str | None
    currency: str
    receipts: int
    cost: int
    top_cost: int
    top_known: int
    mean_latency_ms: float


class AttemptStats(msgspec.Struct, frozen=True):
    """Attempts of one task on one rung that ended alike; `cost` in nano-units of `currency`."""

    task: str
    rung: str
    verdict: str
    currency: str
    attempts: int
    cost: int
    input_tokens: int
    output_tokens: int
    mean_latency_ms: float


class DayStats(msgspec.Struct, frozen=True):
    """Receipts of one day (UTC); `cost` in nano-units of `currency`."""

    day: str
    currency: str
    receipts: int
    answered: int
    cost: int


class Stats(msgspec.Struct, frozen=True):
    """All totals since a day, or since the beginning."""

    since: str | None
    task: str | None
    receipts: tuple[ReceiptStats, ...]
    attempts: tuple[AttemptStats, ...]
    days: tuple[DayStats, ...]
    format: int = 1


def stats(
    connection: sa.Connection, *, since: date | None = None, task: str | None = None
) -> Stats:
    """Totals over the receipts made on `since` (UTC) or later, of one task or of all."""
    day = since.isoformat() if since is not None else None
    return Stats(
        since=day,
        task=task,
        receipts=_receipt_stats(connection, day, task),
        attempts=_attempt_stats(connection, day, task),
        days=_day_stats(connection, day, task),
    )


def _receipt_stats(
    connection: sa.Connection, since: str | None, task: str | None
) -> tuple[ReceiptStats, ...]:
    table = RECEIPT_TOTAL
    keys = [table.c[name] for name in ("task", "standing", "answered_by", "currency")]
    sums = ["receipts", "cost", "top_cost", "top_known", "latency_us"]
    return tuple(
        ReceiptStats(name, standing, by or None, currency, n, cost, top, known, _mean_ms(spent, n))
        for (name, standing, by, currency), (n, cost, top, known, spent) in _grouped(
            connection, table, keys, sums, since, task
        )
    )


def _attempt_stats(
    connection: sa.Connection, since: str | None, task: str | None
) -> tuple[AttemptStats, ...]:
    table = ATTEMPT_TOTAL
    keys = [table.c[name] for name in ("task", "rung", "verdict", "currency")]
    sums = ["attempts", "cost", "input_tokens", "output_tokens", "latency_us"]
    return tuple(
        AttemptStats(name, rung, verdict, currency, n, cost, read, written, _mean_ms(spent, n))
        for (name, rung, verdict, currency), (n, cost, read, written, spent) in _grouped(
            connection, table, keys, sums, since, task
        )
    )


def _day_stats(
    connection: sa.Connection, since: str | None, task: str | None
) -> tuple[DayStats, ...]:
    table = RECEIPT_TOTAL
    days: dict[tuple[str, str], DayStats] = {}
    keys = [table.c[name] for name in ("day", "currency", "answered_by")]
    for (day, currency, by), (n, cost) in _grouped(
        connection, table, keys, ["receipts", "cost"], since, task
    ):
        known = days.get((day, currency), DayStats(day, currency, 0, 0, 0))
        days[day, currency] = DayStats(
            day, currency, known.receipts + n, known.answered + (n if by else 0), known.cost + cost
        )
    return tuple(days.values())


def _grouped(
    connection: sa.Connection,
    table: sa.Table,
    keys: list[sa.Column[str]],
    sums: list[str],
    since: str | None,
    task: str | None,
) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Sums over all chains by `keys`, in the order of the keys."""
    query = sa.select(*keys, *(sa.func.sum(table.c[name]) for name in sums))
    if since is not None:
        query = query.where(table.c.day >= since)
    if task is not None:
        query = query.where(table.c.task == task)
    rows = connection.execute(query.group_by(*keys).order_by(*keys))
    width = len(keys)
    return [(tuple(row[:width]), tuple(int(value) for value in row[width:])) for row in rows]


def _mean_ms(microseconds: int, count: int) -> float:
    return microseconds / count / 1000
