"""Verification: one flipped bit, a record taken out, put in, moved or edited is found and named."""

from __future__ import annotations

import random
import shutil
import sqlite3
import zlib
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from ledger_receipts import (
    URL,
    abstained,
    tampering,
    verified,
    write_chains,
    write_unsealed_chain,
)

from rung.errors import StorageError
from rung.ledger import schema
from rung.ledger.database import locate, make_engine
from rung.ledger.queries import entries, heads, reading
from rung.ledger.record import Head
from rung.ledger.totals import Totals
from rung.ledger.verify import MOST_PROBLEMS, Problem, verify

TABLES = (schema.CHAIN, schema.RECORD, schema.RECEIPT_TOTAL, schema.ATTEMPT_TOTAL)
COLUMNS = [(table.name, column.name) for table in TABLES for column in table.columns]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger of two sealed chains and one that is not."""
    root = tmp_path_factory.mktemp("written")
    write_chains(root, 2)
    write_unsealed_chain(root)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy of that ledger, to be damaged."""
    shutil.copy(written / "rung.db", tmp_path)
    return tmp_path


def chains(root: Path) -> list[str]:
    """Ids of all chains, oldest first."""
    with reading(URL, root=root) as connection:
        return [head.chain for head in heads(connection)]


def test_an_untouched_ledger_is_intact(root: Path) -> None:
    """Everything is counted; a chain without a seal is reported and is no problem."""
    found = verified(root)
    assert found.problems == ()
    assert (found.chains, found.records, found.receipts, found.egress) == (3, 17, 81, 3)
    assert (found.unsealed, found.unsealed_named) == (1, (chains(root)[2],))


def flipped(value: str | bytes | int | None) -> str | bytes | int:
    """The value with one bit flipped."""
    if value is None:
        return "0"
    if isinstance(value, int):
        return value ^ 64
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    raw[len(raw) // 2] ^= 1
    return raw.decode() if isinstance(value, str) else bytes(raw)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_flipped_bit_is_found_in_every_column(root: Path, table: str, column: str) -> None:
    """One bit of any value of any row, in every table."""
    with sqlite3.connect(root / "rung.db") as connection:
        rows = connection.execute(f'SELECT rowid, "{column}" FROM {table}').fetchall()  # noqa: S608
    connection.close()
    for rowid, value in rows[:: max(1, len(rows) // 3)]:
        new = "x" if value == "" else flipped(value)
        update = f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?'  # noqa: S608
        with tampering(root) as connection:
            connection.execute(update, (new, rowid))
        assert not verified(root).intact, (rowid, value, new)
        with tampering(root) as connection:
            connection.execute(update, (value, rowid))
    assert verified(root).intact


@pytest.mark.parametrize("column", ["kind", "created", "body", "hash", "prev_hash"])
def test_the_damaged_record_is_named(root: Path, column: str) -> None:
    """The first problem is the record itself, by chain and number."""
    chain = chains(root)[1]
    with tampering(root) as connection:
        connection.execute(
            f"UPDATE ledger_record SET {column} = CAST({column} || x'ff' AS BLOB)"  # noqa: S608
            " WHERE chain_id = ? AND seq = 3",
            (chain,),
        )
    assert verified(root).problems[0].where == f"{chain}/3"


def test_a_text_that_is_not_utf_8_is_named(root: Path) -> None:
    """A flipped high bit makes a text unreadable; verification still says which record it is in."""
    chain = chains(root)[0]
    with tampering(root) as connection:
        connection.execute(
            "UPDATE ledger_record SET created = CAST(x'b2' || substr(created, 2) AS TEXT)"
            " WHERE chain_id = ? AND seq = 1",
            (chain,),
        )
    assert verified(root).problems[0] == Problem(
        f"{chain}/1", "its content is not what was written (hash differs)"
    )


def test_a_deleted_record_is_named(root: Path) -> None:
    """The gap is reported at the record that comes after it."""
    chain = chains(root)[0]
    with tampering(root) as connection:
        connection.execute("DELETE FROM ledger_record WHERE chain_id = ? AND seq = 2", (chain,))
    assert verified(root).problems == (
        Problem(f"{chain}/3", "records are missing before it (2 to 2)"),
    )


def test_renumbered_records_are_found(root: Path) -> None:
    """Closing the gap after a deletion does not hide it."""
    chain = chains(root)[0]
    with tampering(root) as connection:
        connection.execute("DELETE FROM ledger_record WHERE chain_id = ? AND seq = 2", (chain,))
        for seq in (3, 4, 5):
            connection.execute(
                "UPDATE ledger_record SET seq = ? WHERE chain_id = ? AND seq = ?",
                (seq - 1, chain, seq),
            )
    assert verified(root).problems[0] == Problem(
        f"{chain}/2", "it does not follow the record before it (prev_hash differs)"
    )


def test_swapped_records_are_found(root: Path) -> None:
    """Two records that change places are both wrong."""
    chain = chains(root)[0]
    with tampering(root) as connection:
        for old, new in ((1, 99), (2, 1), (99, 2)):
            connection.execute(
                "UPDATE ledger_record SET seq = ? WHERE chain_id = ? AND seq = ?",
                (new, chain, old),
            )
    assert {f"{chain}/1", f"{chain}/2"} <= {problem.where for problem in verified(root).problems}


def test_an_inserted_record_is_found(root: Path) -> None:
    """A copy of a record at the end of an unsealed chain does not follow what is there."""
    chain = chains(root)[2]
    with tampering(root) as connection:
        connection.execute(
            "INSERT INTO ledger_record SELECT chain_id, 5, kind, created, first_id, last_id,"
            " prev_hash, hash, body FROM ledger_record WHERE chain_id = ? AND seq = 1",
            (chain,),
        )
    assert verified(root).problems[0].where == f"{chain}/5"


def test_a_rewritten_receipt_is_found(root: Path) -> None:
    """A receipt inside a block that is replaced by a plausible one betrays its record."""
    chain = chains(root)[0]
    body = zlib.compress(msgspec.json.encode([abstained()]))
    with tampering(root) as connection:
        connection.execute(
            "UPDATE ledger_record SET body = ? WHERE chain_id = ? AND kind = 'block'",
            (body, chain),
        )
    assert verified(root).problems[0].where == f"{chain}/4"


@pytest.mark.parametrize("table", [schema.RECEIPT_TOTAL, schema.ATTEMPT_TOTAL])
def test_totals_that_do_not_add_up_are_found(root: Path, table: sa.Table) -> None:
    """A total that is taken away is missed."""
    chain = chains(root)[0]
    with tampering(root) as connection:
        connection.execute(f"DELETE FROM {table.name} WHERE chain_id = ?", (chain,))  # noqa: S608
    assert verified(root).problems == (
        Problem(chain, f"{table.name} does not add up to the chain's receipts"),
    )


def cut_off_the_end(root: Path, chain: str) -> None:
    """Take the last record of an unsealed chain away, and mend everything that tells of it."""
    with reading(URL, root=root) as connection:
        kept = [e.receipt for e in entries(connection) if e.receipt and e.record < f"{chain}/4"]
        totals = Totals()
        totals.add(kept[-2:])  # the first two of the third chain
    with tampering(root) as connection:
        for table in ("ledger_receipt_total", "ledger_attempt_total"):
            connection.execute(f"DELETE FROM {table} WHERE chain_id = ?", (chain,))  # noqa: S608
        connection.execute("DELETE FROM ledger_record WHERE chain_id = ? AND seq = 4", (chain,))
        connection.execute(
            "UPDATE ledger_chain SET head_seq = 3, head_hash ="
            " (SELECT hash FROM ledger_record WHERE chain_id = ? AND seq = 3) WHERE chain_id = ?",
            (chain, chain),
        )
    engine = make_engine(locate(URL, root), writes=True)
    with engine.begin() as connection:
        totals.store(connection, chain)


def test_heads_kept_elsewhere_show_an_end_that_was_cut_off(root: Path) -> None:
    """An unsealed chain can be shortened unseen from inside; a head exported before shows it."""
    with reading(URL, root=root) as connection:
        ends = heads(connection)
    chain = chains(root)[2]
    cut_off_the_end(root, chain)
    assert verified(root).problems == ()
    assert verified(root, ends).problems == (
        Problem(f"{chain}/4", "the record is missing or is not the one whose hash was exported"),
    )


def test_heads_of_an_untouched_ledger_match(root: Path) -> None:
    """Later records do not disturb earlier heads."""
    with reading(URL, root=root) as connection:
        ends = heads(connection)
    write_chains(root, 1)
    assert verified(root, ends).intact
    assert not verified(root, (Head("0" * 26, 0, "00"),)).intact


def test_a_chain_that_was_named_cannot_vanish(root: Path) -> None:
    """Taking a whole chain away is seen by the chain that names it."""
    first, second, _ = chains(root)
    with tampering(root) as connection:
        for table in reversed(TABLES):
            connection.execute(f"DELETE FROM {table.name} WHERE chain_id = ?", (first,))  # noqa: S608
    problems = verified(root).problems
    assert problems[0].where == f"{second}/0"
    assert f"record {first}/5, which it names, is missing" in problems[0].what


def test_records_of_no_known_chain_are_found(root: Path) -> None:
    """Taking the chain's row alone leaves strays."""
    with tampering(root) as connection:
        connection.execute("DELETE FROM ledger_chain WHERE chain_id = ?", (chains(root)[2],))
    assert "has no row in ledger_chain" in verified(root).problems[0].what


def test_a_table_that_is_gone_is_a_problem(root: Path) -> None:
    """What cannot be read at all is reported like everything else that is wrong."""
    with tampering(root) as connection:
        connection.execute("DROP TABLE ledger_attempt_total")
    assert verified(root).problems[0].where == "the file"


def test_the_search_ends_when_enough_is_wrong(root: Path) -> None:
    """A ledger that is wrong everywhere is reported by its first problems."""
    write_chains(root, 4)
    with tampering(root) as connection:
        connection.execute("UPDATE ledger_record SET body = x'00'")
    assert len(verified(root).problems) == MOST_PROBLEMS


def test_progress_is_told(written: Path) -> None:
    """The last word is that all records have been read."""
    told: list[tuple[int, int]] = []
    with reading(URL, root=written) as connection:
        verify(connection, progress=lambda done, total: told.append((done, total)))
    assert told == [(17, 17)]


def test_any_bit_of_the_file(root: Path) -> None:
    """A flipped bit anywhere in the file is found, or changes nothing of what was recorded."""
    with reading(URL, root=root) as connection:
        before = list(entries(connection))
    original = (root / "rung.db").read_bytes()
    places = random.Random(3)
    harmless = 0
    for _ in range(120):
        damaged = bytearray(original)
        damaged[places.randrange(len(damaged))] ^= 1 << places.randrange(8)
        (root / "rung.db").write_bytes(damaged)
        try:
            intact = verified(root).intact
            if intact:
                with reading(URL, root=root) as connection:
                    assert list(entries(connection)) == before
                harmless += 1
        except StorageError:
            continue
    assert harmless < 120
