"""Reading: one receipt by the start of its id, the latest, totals, everything."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
import pytest
from ledger_receipts import URL, abstained, egress, entries, receipt, tampering, write_chains

from rung.errors import InputError, StorageError
from rung.ledger.queries import LATEST_FIRST, Exported, Shown, Wanted, find, reading, recent
from rung.ledger.queries import entries as exported
from rung.ledger.record import Egress, ReceiptEntry
from rung.ledger.stats import AttemptStats, DayStats, ReceiptStats, stats
from rung.ledger.writer import Ledger
from rung.receipt import Receipt, Standing, Verdict

ANY = Wanted()


def write(root: Path, *calls: Sequence[ReceiptEntry | Egress]) -> None:
    """A chain with one append a call."""

    async def append() -> None:
        async with Ledger.open(URL, root=root) as ledger:
            for call in calls:
                await ledger.append(call)

    asyncio.run(append())


def wrapped(*receipts: Receipt) -> list[ReceiptEntry | Egress]:
    """Receipts as entries."""
    return [ReceiptEntry(one) for one in receipts]


def shown(root: Path, prefix: str) -> Shown:
    """What `find` finds."""
    with reading(URL, root=root) as connection:
        return find(connection, prefix)


def latest(root: Path, wanted: Wanted = ANY, count: int = 1000) -> list[Receipt]:
    """The latest receipts."""
    with reading(URL, root=root) as connection:
        return list(itertools.islice(recent(connection, wanted), count))


def test_a_receipt_is_found_alone_and_in_a_block(tmp_path: Path) -> None:
    """Its id or the start of it is enough, in any case; departures of its text come with it."""
    alone, held, other = receipt(), abstained(), receipt()
    left = egress(held.id)
    write(tmp_path, wrapped(alone), [left], wrapped(held, other))
    assert shown(tmp_path, alone.id).receipt == alone
    found = shown(tmp_path, held.id[:-1].lower() + held.id[-1])
    assert (found.receipt, found.egress) == (held, (left,))
    assert found.record.endswith("/3")


def test_an_id_is_found_by_a_unique_start(tmp_path: Path) -> None:
    """Fewer characters do, as long as they name one receipt; else the candidates are named."""
    first = receipt(id="01AAAAAAAAAAAAAAAAAAAAAAAA")
    twins = [receipt(id=f"01BBBBBBBBBBBBBBBBBBBBBBB{end}") for end in "123"]
    write(tmp_path, wrapped(first), wrapped(*twins))
    assert shown(tmp_path, "01a").receipt == first
    assert shown(tmp_path, "oIA").receipt == first  # letters that are read for digits
    with pytest.raises(InputError, match="several receipts start with '01B': 01BBB"):
        shown(tmp_path, "01B")


@pytest.mark.parametrize("prefix", ["", "zz", "no-id!", "0" * 27, "é"])
def test_an_id_that_is_none_is_refused(tmp_path: Path, prefix: str) -> None:
    """The message repeats it; the hint says how to see ids."""
    write(tmp_path, entries(1))
    with pytest.raises(InputError) as refused:
        shown(tmp_path, prefix)
    assert repr(prefix) in str(refused.value)
    assert "rung ledger show" in (refused.value.hint or "")


def test_the_latest_come_first_across_overlapping_blocks(tmp_path: Path) -> None:
    """Order is by id, wherever the receipts were recorded."""
    receipts = [receipt() for _ in range(40)]
    write(tmp_path, wrapped(*receipts[0:30:3]), wrapped(receipts[39]), wrapped(*receipts[1:30:3]))
    write(tmp_path, wrapped(*receipts[2:30:3]), wrapped(*receipts[30:39]))
    ids = [one.id for one in receipts]
    assert [one.id for one in latest(tmp_path)] == ids[::-1]
    assert [one.id for one in latest(tmp_path, count=5)] == ids[:-6:-1]


def test_the_latest_can_be_narrowed(tmp_path: Path) -> None:
    """By task, standing, rung and verdict; rung and verdict must be those of one attempt."""
    answered, held = receipt(task="other"), abstained()
    write(tmp_path, wrapped(answered, held))
    wants = {
        Wanted(task="other"): [answered],
        Wanted(standing=Standing.ABSTAINED): [held],
        Wanted(rung="student"): [held, answered],
        Wanted(verdict=Verdict.INVALID): [held],
        Wanted(rung="student", verdict=Verdict.INVALID): [],
    }
    assert {want: latest(tmp_path, want) for want in wants} == wants


def test_totals_cover_every_chain(tmp_path: Path) -> None:
    """Receipts and attempts are counted, costs and latencies added up, over all writers."""
    day, later = "2026-11-01T23:59:59.999+00:00", "2026-11-02T00:00:00.000+00:00"
    write(tmp_path, wrapped(receipt(created=day)), wrapped(*[receipt(created=day)] * 3))
    write(tmp_path, wrapped(abstained(created=later)))
    with reading(URL, root=tmp_path) as connection:
        found = stats(connection)
        assert stats(connection, since=date(2026, 11, 2)).days == found.days[1:]
        assert stats(connection, task="nothing").receipts == ()
    assert found.receipts == (
        ReceiptStats("triage", "abstained", None, "USD", 1, 5_000, 900_000, 1, 0.5),
        ReceiptStats("triage", "certified", "student", "USD", 4, 0, 3_600_000, 4, 0.5),
    )
    assert found.attempts == (
        AttemptStats("triage", "cloud", "forbidden", "USD", 1, 0, 0, 0, 0.0),
        AttemptStats("triage", "site", "invalid", "USD", 1, 5_000, 120, 4, 80.0),
        AttemptStats("triage", "student", "accepted", "USD", 4, 0, 0, 0, 0.25),
        AttemptStats("triage", "student", "unsure", "USD", 1, 0, 0, 0, 0.0),
    )
    assert found.days == (
        DayStats("2026-11-01", "USD", 4, 4, 0),
        DayStats("2026-11-02", "USD", 1, 0, 5_000),
    )


def test_an_export_holds_everything_in_order(tmp_path: Path) -> None:
    """A line names its record and its format, and holds one receipt or one departure."""
    held = abstained()
    write(tmp_path, [egress(held.id)], wrapped(held, receipt()))
    with reading(URL, root=tmp_path) as connection:
        lines = [json.loads(msgspec.json.encode(line)) for line in exported(connection)]
    assert [sorted(line) for line in lines] == [
        ["egress", "format", "record"],
        ["format", "receipt", "record"],
        ["format", "receipt", "record"],
    ]
    assert {line["format"] for line in lines} == {1}
    assert msgspec.convert(lines[1], Exported).receipt == held


def test_a_damaged_record_is_a_sentence(tmp_path: Path) -> None:
    """Reading a body that cannot be read names the record and the command that says more."""
    one = receipt()
    write(tmp_path, wrapped(one))
    with tampering(tmp_path) as connection:
        connection.execute("UPDATE ledger_record SET body = x'7b' WHERE kind = 'receipt'")
    with pytest.raises(StorageError, match="/1 is damaged") as damaged:
        shown(tmp_path, one.id)
    assert "rung ledger verify" in (damaged.value.hint or "")


def test_there_must_be_a_ledger_to_read(tmp_path: Path) -> None:
    """A missing ledger and another database are told apart; neither is made or changed."""
    with pytest.raises(StorageError, match="there is no ledger"), reading(URL, root=tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with tampering(tmp_path) as connection:
        connection.execute("CREATE TABLE diary (day)")
    with pytest.raises(StorageError, match="not a ledger"), reading(URL, root=tmp_path):
        pass


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """A connection for reading refuses every change."""
    write_chains(tmp_path, 1)
    with pytest.raises(StorageError, match="read-only"), reading(URL, root=tmp_path) as connection:
        connection.exec_driver_sql("DELETE FROM ledger_record")


def plan(root: Path, query: str, *values: str) -> str:
    """How SQLite would run a query."""
    with reading(URL, root=root) as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)
        return "; ".join(row[3] for row in rows)


def test_reading_a_little_of_much_goes_through_an_index(tmp_path: Path) -> None:
    """Both ways to a receipt, and the way to the latest, neither scan nor sort the table."""
    write_chains(tmp_path, 1)
    select = "SELECT * FROM ledger_record WHERE"
    alone = plan(tmp_path, f"{select} kind = 'receipt' AND first_id BETWEEN ? AND ?", "0", "1")
    block = plan(tmp_path, f"{select} kind = 'block' AND first_id <= ? AND last_id >= ?", "0", "1")
    latest_first = plan(tmp_path, str(LATEST_FIRST))
    for way in (alone, block):
        assert "USING INDEX ledger_record_range" in way
    assert "USING INDEX ledger_record_last" in latest_first
    assert "TEMP B-TREE" not in latest_first
