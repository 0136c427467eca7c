"""Whether the ledger is what was written: every hash, every link between chains, every row derived from records.

Reads each record once, in order, and keeps none. What cannot be seen from inside is said so: the end of a chain
that was never sealed may have been cut off; heads exported earlier (`heads`) show that too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from rung.ledger.database import fault_of
from rung.ledger.record import (
    GENESIS,
    Content,
    Egress,
    Head,
    Kind,
    Opening,
    Sealing,
    id_range,
    read_body,
    record_hash,
)
from rung.ledger.schema import ATTEMPT_TOTAL, CHAIN, RECEIPT_TOTAL, RECORD
from rung.ledger.totals import Totals, read_totals

MOST_PROBLEMS = 20
"""Problems after which the rest of the ledger is not looked at."""

_ROWS_AT_ONCE = 64
_COLUMN_TYPES = {
    "seq": int,
    "kind": str,
    "created": str,
    "prev_hash": bytes,
    "hash": bytes,
    "body": bytes,
}

Progress = Callable[[int, int], None]
Row = sa.Row[Any]  # Any: a damaged database holds any type in any column


class Problem(msgspec.Struct, frozen=True):
    """One thing that is not as it was written.

    Attributes:
        where: `chain/seq` of the record, or the name of what else it is about.
        what: a sentence.
    """

    where: str
    what: str


class Verified(msgspec.Struct, frozen=True):
    """What a verification found.

    Attributes:
        chains, records, receipts, egress: how many of each were read.
        unsealed: chains without a seal: their writer is still at work, or it crashed.
        unsealed_named: the first few of them.
        problems: empty when all is as it was written; at most `MOST_PROBLEMS`.
    """

    chains: int
    records: int
    receipts: int
    egress: int
    unsealed: int
    unsealed_named: tuple[str, ...]
    problems: tuple[Problem, ...]
    format: int = 1

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class _Enough(Exception):
    """As many problems have been found as are reported."""


def verify(
    connection: sa.Connection, *, heads: Sequence[Head] = (), progress: Progress | None = None
) -> Verified:
    """Check the whole ledger as one snapshot.

    Args:
        connection: from `queries.reading`.
        heads: ends of chains noted earlier, which must still be there.
        progress: told the number of records read and the number there are, now and then.
    """
    search = _Search(connection, progress)
    try:
        search.run(heads)
    except _Enough:
        pass
    except sa.exc.DBAPIError as error:
        if fault_of(error).shared:
            raise  # nothing is wrong with what is stored; it cannot be reached just now
        search.problems.append(Problem("the file", f"the database cannot be read: {error.orig}"))
    return search.result()


class _Search:
    """The state of one verification: counts and problems so far."""

    def __init__(self, connection: sa.Connection, progress: Progress | None) -> None:
        self._connection = connection
        self._progress = progress
        self._all_records = 0
        self._chains = self._records = self._receipts = self._egress = 0
        self._unsealed = 0
        self._unsealed_named: list[str] = []
        self.problems: list[Problem] = []

    def run(self, heads: Sequence[Head]) -> None:
        """Look at everything, in the order in which problems are most telling."""
        self._check_file()
        counted = self._connection.scalar(sa.select(sa.func.sum(CHAIN.c.head_seq + 1)))
        self._all_records = int(counted or 0)
        for chain in self._stream(sa.select(*map(_raw, CHAIN.columns)).order_by(CHAIN.c.chain_id)):
            self._check_chain(chain)
        self._tell_progress()
        self._check_strays()
        for head in heads:
            self._check_head(head, Problem(f"{head.chain}/{head.seq}", _HEAD_LOST))

    def result(self) -> Verified:
        """What was found."""
        return Verified(
            chains=self._chains,
            records=self._records,
            receipts=self._receipts,
            egress=self._egress,
            unsealed=self._unsealed,
            unsealed_named=tuple(self._unsealed_named),
            problems=tuple(self.problems),
        )

    def _note(self, problem: Problem) -> None:
        self.problems.append(problem)
        if len(self.problems) >= MOST_PROBLEMS:
            raise _Enough

    def _stream(self, query: sa.Select[Any]) -> Iterator[Row]:
        return iter(self._connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query))

    def _check_file(self) -> None:
        """SQLite's own check: pages, and indexes against tables."""
        if self._connection.dialect.name != "sqlite":
            return
        for (found,) in self._connection.exec_driver_sql("PRAGMA integrity_check(5)"):
            if found != "ok":
                self._note(Problem("the file", f"SQLite finds it damaged: {found}"))

    def _check_chain(self, chain: Row) -> None:
        """One chain: its records, then what is derived from them."""
        walk = _Walk(str(chain.chain_id))
        query = sa.select(*map(_raw, RECORD.columns)).where(RECORD.c.chain_id == chain.chain_id)
        before = len(self.problems)
        for row in self._stream(query.order_by(RECORD.c.seq)):
            problem = walk.step(row)
            self._count(walk.content)
            if problem is not None:
                self._note(Problem(f"{chain.chain_id}/{row.seq}", problem))
            elif isinstance(walk.content, Opening):
                self._check_links(walk.content, f"{chain.chain_id}/{row.seq}")
        self._chains += 1
        if not walk.sealed:
            self._unsealed += 1
            if len(self._unsealed_named) < MOST_PROBLEMS:
                self._unsealed_named.append(str(chain.chain_id))
        if len(self.problems) == before:  # else it would only repeat what is wrong
            self._check_derived(chain, walk)

    def _count(self, content: Content | None) -> None:
        self._records += 1
        if isinstance(content, tuple):
            self._receipts += len(content)
        elif isinstance(content, Egress):
            self._egress += 1
        if self._records % 256 == 0:
            self._tell_progress()

    def _tell_progress(self) -> None:
        if self._progress is not None:
            self._progress(self._records, self._all_records)

    def _check_derived(self, chain: Row, walk: _Walk) -> None:
        """The chain's own row and its totals against its records."""
        name = str(chain.chain_id)
        if chain.head_seq != walk.records - 1 or chain.head_hash != walk.head:
            ends = f"{chain.head_seq!r}, its records end at {walk.records - 1}"
            self._note(Problem(name, f"the chain's row says that it ends with record {ends}"))
        if not self._is_linked(chain):
            self._note(Problem(name, "the chain's row names a link that no record holds"))
        for total, groups in walk.totals.tables():
            if read_totals(self._connection, total, name) != groups:
                what = f"{total.table.name} does not add up to the chain's receipts"
                self._note(Problem(name, what))

    def _is_linked(self, chain: Row) -> bool:
        """Whether the `open` record that the chain's row names does name the chain."""
        if chain.linked_by is None:
            return bool(chain.linked_seq == -1)
        query = sa.select(_raw(RECORD.c.body)).where(
            RECORD.c.chain_id == chain.linked_by, RECORD.c.seq == 0
        )
        body = self._connection.scalar(query)
        try:
            opening = read_body(Kind.OPEN, body if isinstance(body, bytes) else b"")
        except ValueError:
            return False
        return isinstance(opening, Opening) and any(
            link.chain == chain.chain_id and link.seq == chain.linked_seq for link in opening.links
        )

    def _check_links(self, opening: Opening, where: str) -> None:
        """Every head that an `open` record names must still be there, and be known as named."""
        for link in opening.links:
            named = f"record {link.chain}/{link.seq}, which it names,"
            self._check_head(link, Problem(where, f"{named} is missing or has been replaced"))
            query = sa.select(_raw(CHAIN.c.linked_seq)).where(CHAIN.c.chain_id == link.chain)
            known = self._connection.scalar(query)
            if known is not None and not _reaches(known, link.seq):
                self._note(Problem(link.chain, f"the chain's row denies the link from {where}"))

    def _check_head(self, head: Head, problem: Problem) -> None:
        query = sa.select(_raw(RECORD.c.hash)).where(
            RECORD.c.chain_id == head.chain, RECORD.c.seq == head.seq
        )
        stored = self._connection.scalar(query)
        if not isinstance(stored, bytes) or stored.hex() != head.hash:
            self._note(problem)

    def _check_strays(self) -> None:
        """Rows of chains that have no row of their own."""
        known = sa.select(CHAIN.c.chain_id)
        for table in (RECORD, RECEIPT_TOTAL, ATTEMPT_TOTAL):
            column = table.c.chain_id
            query = sa.select(column).where(column.not_in(known)).distinct().limit(MOST_PROBLEMS)
            for (chain_id,) in self._connection.execute(query).all():
                what = f"{table.name} holds rows of a chain that has no row in {CHAIN.name}"
                self._note(Problem(str(chain_id), what))


_HEAD_LOST = "the record is missing or is not the one whose hash was exported"


class _Walk:
    """One chain, record by record: what the next one must be."""

    def __init__(self, chain_id: str) -> None:
        self._chain_id = chain_id
        self.records = 0
        self.head = GENESIS
        self.sealed = False
        self.totals = Totals()
        self.content: Content | None = None

    def step(self, row: Row) -> str | None:
        """Take the next record; what is wrong with it, None when it is as it was written."""
        self.content = None
        problem = _wrong_type(row)
        if problem is None:
            problem = self._misplaced(row) or self._read(row)
            self.head = row.hash  # a later record is measured against what is there
            self.records = row.seq + 1
        return problem

    def _misplaced(self, row: Row) -> str | None:
        if row.seq != self.records:
            missing = f"{self.records} to {row.seq - 1}" if row.seq > self.records else "none"
            return f"records are missing before it ({missing})"
        if row.prev_hash != self.head:
            return "it does not follow the record before it (prev_hash differs)"
        digest = record_hash(
            self._chain_id, row.seq, row.kind, row.created, row.prev_hash, row.body
        )
        if digest != row.hash:
            return "its content is not what was written (hash differs)"
        if self.sealed:
            return "it comes after the seal"
        return None

    def _read(self, row: Row) -> str | None:
        try:
            content = read_body(row.kind, row.body)
        except ValueError as error:
            return str(error)
        if isinstance(content, Opening) is not (row.seq == 0):
            return "a chain starts with an open record, and only there is one"
        if (row.first_id, row.last_id) != id_range(content):
            return "first_id and last_id are not those of its receipts"
        if isinstance(content, tuple):
            self.totals.add(content)
        if isinstance(content, Sealing):
            self.sealed = True
            if content.records != row.seq:
                return f"the seal counts {content.records} records before it, not {row.seq}"
        self.content = content
        return None


def _wrong_type(row: Row) -> str | None:
    """SQLite keeps any type in any column; Rung writes one in each."""
    for name, expected in _COLUMN_TYPES.items():
        if not isinstance(row._mapping[name], expected):
            return f"its {name} is not of the type that was written"
    return None


def _raw(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """The column as the driver gives it: a damaged value must not fail before it is named."""
    return sa.type_coerce(column, sa.types.NullType()).label(column.name)


def _reaches(known: object, seq: int) -> bool:
    return isinstance(known, int) and known >= seq
