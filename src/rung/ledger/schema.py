"""The tables of the ledger, and the migrations that bring an older file up to them.

    ledger_chain           one row a writer: how far its chain goes, and who has linked to it
    ledger_record          the chain itself: every record with its hash and that of the one before
    ledger_receipt_total   running totals of receipts, a row a chain, day, task, standing, rung and currency
    ledger_attempt_total   running totals of attempts, a row a chain, day, task, rung, verdict and currency
    ledger_migration       migrations that were applied

`ledger_record` is the truth and is only ever added to. The rest is derived from it, is written in the same
transaction, and is checked against it by `verify`. Types are those every database has.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from rung.errors import StorageError
from rung.ids import ID_LENGTH, now

METADATA = sa.MetaData()

_BYTEWISE = sa.String(ID_LENGTH).with_variant(sa.String(ID_LENGTH, collation="C"), "postgresql")
"""Ids are compared byte by byte, whatever the database's language."""


def _chain_column(*, primary_key: bool = True) -> sa.Column[str]:
    return sa.Column(
        "chain_id", _BYTEWISE, sa.ForeignKey("ledger_chain.chain_id"), primary_key=primary_key
    )


CHAIN = sa.Table(
    "ledger_chain",
    METADATA,
    sa.Column("chain_id", _BYTEWISE, primary_key=True),
    sa.Column("head_seq", sa.BigInteger, nullable=False),
    sa.Column("head_hash", sa.LargeBinary, nullable=False),
    # The last `open` record of another chain that names a head of this one, and which head that was.
    sa.Column("linked_by", _BYTEWISE),
    sa.Column("linked_seq", sa.BigInteger, nullable=False),
)

RECORD = sa.Table(
    "ledger_record",
    METADATA,
    _chain_column(),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
    # Least and greatest receipt id inside, so that a receipt is found without a row of its own.
    sa.Column("first_id", _BYTEWISE),
    sa.Column("last_id", _BYTEWISE),
    sa.Column("prev_hash", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("ledger_record_range", "kind", "first_id", "last_id"),
    sa.Index("ledger_record_last", "last_id"),
)

_NAME = sa.String(200)
_DAY = sa.String(10)

RECEIPT_TOTAL = sa.Table(
    "ledger_receipt_total",
    METADATA,
    _chain_column(),
    sa.Column("day", _DAY, primary_key=True),
    sa.Column("task", _NAME, primary_key=True),
    sa.Column("standing", sa.String(20), primary_key=True),
    sa.Column("answered_by", _NAME, primary_key=True),  # "" when nothing answered
    sa.Column("currency", sa.String(3), primary_key=True),
    sa.Column("receipts", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),  # nano-units
    sa.Column("top_cost", sa.BigInteger, nullable=False),  # nano-units, of those that have one
    sa.Column("top_known", sa.BigInteger, nullable=False),  # receipts that have one
    sa.Column("latency_us", sa.BigInteger, nullable=False),
)

ATTEMPT_TOTAL = sa.Table(
    "ledger_attempt_total",
    METADATA,
    _chain_column(),
    sa.Column("day", _DAY, primary_key=True),
    sa.Column("task", _NAME, primary_key=True),
    sa.Column("rung", _NAME, primary_key=True),
    sa.Column("verdict", sa.String(20), primary_key=True),
    sa.Column("currency", sa.String(3), primary_key=True),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),  # nano-units
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("latency_us", sa.BigInteger, nullable=False),
)

MIGRATION = sa.Table(
    "ledger_migration",
    METADATA,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("applied", sa.String(32), nullable=False),
)


class Migration(msgspec.Struct, frozen=True):
    """One named change to the tables; applied once to each database."""

    name: str
    apply: Callable[[sa.Connection], None]


def _create_tables(connection: sa.Connection) -> None:
    METADATA.create_all(connection)


MIGRATIONS: tuple[Migration, ...] = (Migration("0001 records, chains and totals", _create_tables),)
"""In order; a new one is added at the end, none is ever changed."""


def migrate(connection: sa.Connection) -> None:
    """Bring the database up to `MIGRATIONS`, inside the caller's transaction.

    Raises:
        StorageError: a newer Rung has changed the tables in a way this one does not know.
    """
    applied = applied_migrations(connection)
    for migration in MIGRATIONS:
        if migration.name not in applied:
            migration.apply(connection)
            connection.execute(sa.insert(MIGRATION).values(name=migration.name, applied=now()))


def applied_migrations(connection: sa.Connection) -> frozenset[str]:
    """Names of the migrations this database has had; empty for one that holds no ledger.

    Raises:
        StorageError: one of them is unknown.
    """
    if not sa.inspect(connection).has_table(MIGRATION.name):
        return frozenset()
    applied = frozenset(connection.scalars(sa.select(MIGRATION.c.name)))
    unknown = applied - {migration.name for migration in MIGRATIONS}
    if unknown:
        raise StorageError(
            f"the ledger was written by a newer Rung (it has {min(unknown)!r})",
            hint="upgrade Rung, or set ledger.url in rung.toml to another place",
        )
    return applied
