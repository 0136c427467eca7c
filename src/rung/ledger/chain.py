"""One writer's chain of records: where it stands, and how it grows inside a transaction.

A chain that has been closed by `seal` is never taken up again; each writer starts one of its own. Its first record
names the heads of other chains, so that a chain that has been named cannot vanish or be shortened unseen.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from rung.ids import now
from rung.ledger.record import (
    GENESIS,
    Draft,
    Head,
    Opening,
    draft_opening,
    draft_seal,
    record_hash,
)
from rung.ledger.schema import CHAIN, RECORD
from rung.ledger.totals import Totals
from rung.version import __version__

# Built once: building a statement takes longer than a commit.
_ADD_RECORDS = sa.insert(RECORD)
_START_CHAIN = sa.insert(CHAIN).values(
    chain_id=sa.bindparam("this_chain"),
    head_seq=sa.bindparam("this_seq"),
    head_hash=sa.bindparam("this_hash"),
    linked_seq=-1,
)
_MOVE_HEAD = (
    sa.update(CHAIN)
    .where(CHAIN.c.chain_id == sa.bindparam("this_chain"))
    .values(head_seq=sa.bindparam("this_seq"), head_hash=sa.bindparam("this_hash"))
)


class Chain(msgspec.Struct, frozen=True):
    """How far a chain goes: `records` in it, the last with hash `head`."""

    id: str
    records: int = 0
    head: bytes = GENESIS

    def extend(self, connection: sa.Connection, drafts: Sequence[Draft]) -> Chain:
        """Add records, opening the chain if these are its first; the caller's transaction makes it true."""
        links: tuple[Head, ...] = ()
        if self.records == 0:
            links = unlinked_heads(connection)
            drafts = [draft_opening(Opening(__version__, links)), *drafts]
        grown, rows = self._place(drafts)
        _store_head(connection, grown, first=self.records == 0)
        _mark_linked(connection, grown.id, links)
        connection.execute(_ADD_RECORDS, rows)
        totals = Totals()
        for draft in drafts:
            totals.add(draft.receipts)
        totals.store(connection, self.id)
        return grown

    def seal(self, connection: sa.Connection) -> Chain:
        """Add the record that ends the chain."""
        return self.extend(connection, [draft_seal(self.records)])

    def _place(self, drafts: Sequence[Draft]) -> tuple[Chain, list[dict[str, object]]]:
        """The drafts as rows, each tied to the one before."""
        created, head = now(), self.head
        rows: list[dict[str, object]] = []
        for seq, draft in enumerate(drafts, start=self.records):
            previous = head
            head = record_hash(self.id, seq, draft.kind, created, previous, draft.body)
            rows.append(
                {
                    "chain_id": self.id,
                    "seq": seq,
                    "kind": draft.kind.value,
                    "created": created,
                    "first_id": draft.first_id,
                    "last_id": draft.last_id,
                    "prev_hash": previous,
                    "hash": head,
                    "body": draft.body,
                }
            )
        return Chain(self.id, self.records + len(rows), head), rows


def unlinked_heads(connection: sa.Connection) -> tuple[Head, ...]:
    """Heads that no `open` record names yet: with those that are named, they hold every chain in place."""
    rows = connection.execute(
        sa.select(CHAIN.c.chain_id, CHAIN.c.head_seq, CHAIN.c.head_hash)
        .where(CHAIN.c.linked_seq < CHAIN.c.head_seq)
        .order_by(CHAIN.c.chain_id)
    )
    return tuple(Head(chain, seq, bytes(digest).hex()) for chain, seq, digest in rows)


def _store_head(connection: sa.Connection, chain: Chain, *, first: bool) -> None:
    head = {"this_chain": chain.id, "this_seq": chain.records - 1, "this_hash": chain.head}
    connection.execute(_START_CHAIN if first else _MOVE_HEAD, head)


def _mark_linked(connection: sa.Connection, by: str, links: Sequence[Head]) -> None:
    if not links:
        return
    connection.execute(
        sa.update(CHAIN)
        .where(CHAIN.c.chain_id == sa.bindparam("linked_chain"))
        .values(linked_by=by, linked_seq=sa.bindparam("linked_to")),
        [{"linked_chain": link.chain, "linked_to": link.seq} for link in links],
    )
