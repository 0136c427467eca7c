"""Reading the ledger: one receipt, the latest ones, totals, everything. Nothing here writes or checks hashes."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from rung.errors import InputError, StorageError
from rung.ids import ALPHABET, ID_LENGTH
from rung.ledger.database import (
    BUSY_TIMEOUT_S,
    complaints,
    locate,
    make_engine,
    store_path,
)
from rung.ledger.record import Content, Egress, Head, Kind, read_body
from rung.ledger.schema import CHAIN, RECORD, applied_migrations
from rung.receipt import Receipt, Standing, Verdict

Row = sa.Row[Any]  # Any: the columns of a `Table` carry no types

_ROWS_AT_ONCE = 8  # a block is some 100 KB, and readers often stop early
_MOST_NAMED = 3
_SPOKEN = str.maketrans("OIL", "011")  # Crockford: letters that are read for these digits


LATEST_FIRST = (
    # The kind is looked at afterwards: asked for here, it would tempt a database into sorting the whole table.
    sa.select(RECORD).where(RECORD.c.last_id.is_not(None)).order_by(RECORD.c.last_id.desc())
)


class Wanted(msgspec.Struct, frozen=True):
    """Which receipts are wanted; None for any."""

    task: str | None = None
    rung: str | None = None
    verdict: Verdict | None = None
    standing: Standing | None = None

    def matches(self, receipt: Receipt) -> bool:
        """Whether `receipt` is wanted: rung and verdict must be those of one attempt."""
        if self.task not in (None, receipt.task) or self.standing not in (None, receipt.standing):
            return False
        if self.rung is None and self.verdict is None:
            return True
        return any(
            self.rung in (None, attempt.rung) and self.verdict in (None, attempt.verdict)
            for attempt in receipt.attempts
        )


class Shown(msgspec.Struct, frozen=True):
    """One receipt with what belongs to it.

    Attributes:
        receipt: as it was recorded.
        egress: decisions to send its text off the device, oldest first.
        record: the record that holds it, as `chain/seq`.
    """

    receipt: Receipt
    egress: tuple[Egress, ...]
    record: str
    format: int = 1


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an export: a receipt or an egress decision, and the record that holds it."""

    format: int = 1
    record: str
    receipt: Receipt | msgspec.UnsetType = msgspec.UNSET
    egress: Egress | msgspec.UnsetType = msgspec.UNSET


@contextmanager
def reading(
    url: str, *, root: Path, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> Iterator[sa.Connection]:
    """A connection that sees the ledger as it is now and cannot change it.

    Args:
        url: `ledger.url` of `rung.toml`.
        root: the folder that a relative SQLite path starts from.
        busy_timeout_s: seconds to wait for another process.

    Raises:
        StorageError: there is no ledger, or it cannot be read.
    """
    located = locate(url, root)
    path = store_path(located, root)
    if located.get_backend_name() == "sqlite" and not path.exists():
        raise StorageError(
            f"there is no ledger at {str(path)!r}",
            hint="it is made when the first question is answered: rung ask",
        )
    with complaints(located):
        engine = make_engine(located, writes=False, busy_timeout_s=busy_timeout_s)
        with engine.connect() as connection, connection.begin():
            if not applied_migrations(connection):
                raise StorageError(
                    f"{str(path)!r} is a database, but not a ledger",
                    hint="check ledger.url in rung.toml",
                )
            yield connection


def find(connection: sa.Connection, prefix: str) -> Shown:
    """The one receipt whose id starts with `prefix`.

    Raises:
        InputError: no receipt, or several, or `prefix` cannot begin an id.
        StorageError: the record that holds it is damaged.
    """
    wanted = prefix.upper().translate(_SPOKEN)
    if not wanted or len(wanted) > ID_LENGTH or not set(wanted) <= set(ALPHABET):
        raise InputError(
            f"{prefix!r} is not the beginning of a receipt's id",
            hint="rung ledger show lists the latest receipts with their ids",
        )
    found = _starting_with(connection, wanted)
    if not found:
        raise InputError(
            f"no receipt starts with {prefix!r}",
            hint="rung ledger show lists the latest receipts with their ids",
        )
    if len(found) > 1:
        named = ", ".join(receipt.id for receipt, _ in found[:_MOST_NAMED])
        raise InputError(
            f"several receipts start with {prefix!r}: {named} …", hint="give more of the id"
        )
    receipt, record = found[0]
    return Shown(receipt, _egress_of(connection, receipt.id), record)


def recent(connection: sa.Connection, wanted: Wanted) -> Iterator[Receipt]:
    """Receipts, newest first; read only as far as the caller goes.

    Raises:
        StorageError: a record on the way is damaged.
    """
    rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(LATEST_FIRST)
    # Blocks overlap in time, so a receipt waits until no later row can hold a newer one.
    waiting: list[tuple[str, Receipt]] = []
    for row in rows:
        if row.kind == Kind.EGRESS:
            continue
        certain = bisect.bisect_right(waiting, row.last_id, key=_waiting_id)
        yield from (receipt for _, receipt in reversed(waiting[certain:]))
        del waiting[certain:]
        matching = (receipt for receipt in _receipts(row) if wanted.matches(receipt))
        waiting.extend((receipt.id, receipt) for receipt in matching)
        waiting.sort(key=_waiting_id)
    yield from (receipt for _, receipt in reversed(waiting))


def entries(connection: sa.Connection) -> Iterator[Exported]:
    """Every receipt and egress decision, chain after chain, in the order they were recorded.

    Raises:
        StorageError: a record is damaged.
    """
    rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(
        sa.select(RECORD)
        .where(RECORD.c.kind.in_([Kind.RECEIPT.value, Kind.BLOCK.value, Kind.EGRESS.value]))
        .order_by(RECORD.c.chain_id, RECORD.c.seq)
    )
    for row in rows:
        name, content = _record_name(row), _content(row)
        if isinstance(content, Egress):
            yield Exported(record=name, egress=content)
        elif isinstance(content, tuple):
            yield from (Exported(record=name, receipt=receipt) for receipt in content)


def heads(connection: sa.Connection) -> tuple[Head, ...]:
    """Where every chain ends now; kept elsewhere, it shows later whether an end was cut off."""
    rows = connection.execute(
        sa.select(CHAIN.c.chain_id, CHAIN.c.head_seq, CHAIN.c.head_hash).order_by(CHAIN.c.chain_id)
    )
    return tuple(Head(chain, seq, bytes(digest).hex()) for chain, seq, digest in rows)


def _waiting_id(item: tuple[str, Receipt]) -> str:
    return item[0]


def _starting_with(connection: sa.Connection, prefix: str) -> list[tuple[Receipt, str]]:
    """Receipts by the start of their id, at most one more than are named; with their records."""
    low, high = prefix.ljust(ID_LENGTH, ALPHABET[0]), prefix.ljust(ID_LENGTH, ALPHABET[-1])
    kind, first, last = RECORD.c.kind, RECORD.c.first_id, RECORD.c.last_id
    # A single receipt is one step in the index; only blocks, far fewer, need their ranges compared.
    alone = sa.and_(kind == Kind.RECEIPT.value, first.between(low, high))
    in_block = sa.and_(kind == Kind.BLOCK.value, first <= high, last >= low)
    found: list[tuple[Receipt, str]] = []
    for condition in (alone, in_block):
        query = sa.select(RECORD).where(condition).order_by(first)
        for row in connection.execution_options(yield_per=1).execute(query):
            name = _record_name(row)
            found.extend((r, name) for r in _receipts(row) if r.id.startswith(prefix))
            if len(found) > _MOST_NAMED:
                return found
    return found


def _egress_of(connection: sa.Connection, receipt_id: str) -> tuple[Egress, ...]:
    query = sa.select(RECORD).where(
        RECORD.c.kind == Kind.EGRESS.value, RECORD.c.first_id == receipt_id
    )
    contents = (_content(row) for row in connection.execute(query))
    decisions = [content for content in contents if isinstance(content, Egress)]
    return tuple(sorted(decisions, key=lambda decision: decision.id))


def _record_name(row: Row) -> str:
    return f"{row.chain_id}/{row.seq}"


def _receipts(row: Row) -> tuple[Receipt, ...]:
    content = _content(row)
    return content if isinstance(content, tuple) else ()


def _content(row: Row) -> Content:
    try:
        return read_body(row.kind, row.body)
    except ValueError as error:
        raise StorageError(
            f"record {_record_name(row)} is damaged: {error}",
            hint="rung ledger verify shows all that is wrong",
        ) from error
