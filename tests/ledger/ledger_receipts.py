"""Small builders of what the ledger keeps, and a ledger with a bit of everything in it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from rung.ids import new_id, now
from rung.ledger.queries import reading
from rung.ledger.record import Egress, Head, ReceiptEntry
from rung.ledger.verify import Verified, verify
from rung.ledger.writer import Ledger
from rung.receipt import Attempt, Bound, Receipt, Standing, Usage, Verdict

URL = "sqlite:///rung.db"


def receipt(**changes: Any) -> Receipt:
    """A certified answer of the student; `changes` replace fields."""
    plain = Receipt(
        id=new_id(),
        created=now(),
        task="triage",
        task_digest="ab" * 32,
        input_digest="cd" * 16,
        label="personal",
        rule="policy.egress.personal",
        allowed=("student",),
        attempts=(
            Attempt(
                "student",
                "device",
                Verdict.ACCEPTED,
                confidence=0.97,
                threshold=0.61,
                latency_ms=0.25,
            ),
        ),
        answered_by="student",
        standing=Standing.CERTIFIED,
        bound=Bound("triage@9f3c12ab", 0.05, 0.95, "human", 2000),
        cost=0,
        top_cost=900_000,
        latency_ms=0.5,
    )
    return msgspec.structs.replace(plain, **changes)


def abstained(**changes: Any) -> Receipt:
    """No answer: the student was unsure, a paid rung was too, a third was forbidden."""
    attempts = (
        Attempt("student", "device", Verdict.UNSURE, confidence=0.34, threshold=0.61),
        Attempt(
            "site",
            "site",
            Verdict.INVALID,
            "the answer is not one of the task's labels",
            usage=Usage(120, 4),
            cost=5_000,
            latency_ms=80.0,
        ),
        Attempt("cloud", "anywhere", Verdict.FORBIDDEN, "personal may not go to anywhere"),
    )
    plain = receipt(
        attempts=attempts,
        answered_by=None,
        standing=Standing.ABSTAINED,
        standing_reason="not sure enough, and policy keeps this text from the other rungs",
        bound=None,
        cost=5_000,
    )
    return msgspec.structs.replace(plain, **changes)


def egress(receipt_id: str) -> Egress:
    """A text on its way to the site's server."""
    return Egress(
        id=new_id(),
        created=now(),
        receipt=receipt_id,
        task="triage",
        rung="site",
        where="site",
        host="llm.example:8000",
        label="internal",
        rule="policy.egress.internal",
        input_digest="cd" * 16,
    )


def entries(count: int) -> list[ReceiptEntry]:
    """`count` receipts to be recorded."""
    return [ReceiptEntry(receipt()) for _ in range(count)]


async def _write_one_chain(root: Path, *, sealed: bool = True) -> None:
    ledger = Ledger.open(URL, root=root)
    try:
        await ledger.append(entries(1))
        held = abstained()
        await ledger.append([egress(held.id)])
        await ledger.append([ReceiptEntry(held)])
        await ledger.append(entries(25))
        if not sealed:
            await ledger.append([], also=forget_the_seal)
    finally:
        await ledger.aclose()


def forget_the_seal(connection: sa.Connection) -> None:
    """Make the database refuse the seal, as if the process had been killed before it."""
    connection.exec_driver_sql(
        "CREATE TEMP TRIGGER crash BEFORE INSERT ON ledger_record WHEN NEW.kind = 'seal' "
        "BEGIN SELECT RAISE(ABORT, 'killed'); END"
    )


def write_chains(root: Path, count: int = 2) -> None:
    """A ledger of `count` sealed chains: open, receipt, egress, receipt, block, seal."""
    for _ in range(count):
        asyncio.run(_write_one_chain(root))


def write_unsealed_chain(root: Path) -> None:
    """One more chain: open, receipt, egress, receipt, block, and no seal."""
    with contextlib.suppress(Exception):
        asyncio.run(_write_one_chain(root, sealed=False))


def verified(root: Path, heads: tuple[Head, ...] = ()) -> Verified:
    """What `verify` says of the ledger in `root`."""
    with reading(URL, root=root) as connection:
        return verify(connection, heads=heads)


@contextlib.contextmanager
def tampering(root: Path) -> Iterator[sqlite3.Connection]:
    """Somebody with a SQLite shell, who is held back by nothing."""
    connection = sqlite3.connect(root / "rung.db")
    try:
        with connection:
            yield connection
    finally:
        connection.close()
