"""The tables: made once, the same for every database, and never by half."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from ledger_receipts import URL
from sqlalchemy.schema import CreateTable

from rung.ledger.database import locate, make_engine
from rung.ledger.schema import METADATA, MIGRATIONS, applied_migrations, migrate


def test_the_tables_are_those_of_postgresql_too() -> None:
    """Bytes, 64-bit counts, and ids compared byte by byte whatever the database's language."""
    dialect = sa.make_url("postgresql://").get_dialect()()
    tables = {
        name: str(CreateTable(table).compile(dialect=dialect))
        for name, table in METADATA.tables.items()
    }
    assert "body BYTEA NOT NULL" in tables["ledger_record"]
    assert "seq BIGINT NOT NULL" in tables["ledger_record"]
    assert 'chain_id VARCHAR(26) COLLATE "C"' in tables["ledger_record"]
    assert "latency_us BIGINT NOT NULL" in tables["ledger_attempt_total"]


def test_migrations_are_applied_once(tmp_path: Path) -> None:
    """A second opening finds everything done and writes nothing."""
    engine = make_engine(locate(URL, tmp_path), writes=True)
    for _ in range(2):
        with engine.begin() as connection:
            migrate(connection)
            assert applied_migrations(connection) == {step.name for step in MIGRATIONS}
            tables = set(sa.inspect(connection).get_table_names())
        assert tables == set(METADATA.tables)


def test_migrations_are_part_of_the_transaction(tmp_path: Path) -> None:
    """A crash half-way leaves no table behind."""
    engine = make_engine(locate(URL, tmp_path), writes=True)
    with engine.connect() as connection:
        half = connection.begin()
        migrate(connection)
        half.rollback()
        with connection.begin():
            assert sa.inspect(connection).get_table_names() == []
            assert applied_migrations(connection) == frozenset()
