"""Writing: durable when `append` returns, grouped under load, all or nothing, clear when it cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from ledger_receipts import (
    URL,
    egress,
    entries,
    forget_the_seal,
    receipt,
    tampering,
    verified,
    write_chains,
)

from rung.errors import StorageError
from rung.ledger.queries import Exported, reading
from rung.ledger.queries import entries as exported
from rung.ledger.record import BLOCK_RECEIPTS, ReceiptEntry
from rung.ledger.writer import Ledger


def kinds(root: Path) -> list[str]:
    """The kinds of all records, in order."""
    with reading(URL, root=root) as connection:
        rows = connection.exec_driver_sql("SELECT kind FROM ledger_record ORDER BY chain_id, seq")
        return [kind for (kind,) in rows]


def everything(root: Path) -> list[Exported]:
    """All that was recorded."""
    with reading(URL, root=root) as connection:
        return list(exported(connection))


def test_what_is_appended_can_be_read_before_the_ledger_is_closed(tmp_path: Path) -> None:
    """`append` returns after the commit: another connection sees the receipt at once, whole."""
    kept = receipt(request_id="row 7", run="run 1")

    async def write() -> list[Exported]:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await ledger.append([ReceiptEntry(kept)])
            return everything(tmp_path)

    assert [line.receipt for line in asyncio.run(write())] == [kept]


def test_a_chain_is_opened_by_the_first_append_and_sealed_at_the_end(tmp_path: Path) -> None:
    """The records of a chain, with many receipts of one call in blocks of a bounded size."""

    async def write() -> None:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await ledger.append(entries(1))
            await ledger.append([egress("X"), *entries(BLOCK_RECEIPTS + 1)])

    asyncio.run(write())
    assert kinds(tmp_path) == ["open", "receipt", "egress", "block", "receipt", "seal"]


def test_a_ledger_that_was_not_used_leaves_no_chain(tmp_path: Path) -> None:
    """Opening and closing records nothing."""

    async def touch() -> None:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await ledger.append([])

    asyncio.run(touch())
    assert kinds(tmp_path) == []


def test_a_thousand_appends_at_once_share_commits(tmp_path: Path) -> None:
    """Under load many appends become durable together; each is recorded once."""

    async def write() -> int:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await asyncio.gather(*(ledger.append([entry]) for entry in entries(1000)))
            return ledger.commits

    commits = asyncio.run(write())
    assert commits <= 100
    assert len({line.receipt.id for line in everything(tmp_path) if line.receipt}) == 1000
    assert verified(tmp_path).intact


def test_appends_come_from_any_thread_and_loop(tmp_path: Path) -> None:
    """Four event loops on four threads share one ledger."""
    ledger = Ledger.open(URL, root=tmp_path)

    async def write() -> None:
        await asyncio.gather(*(ledger.append([entry]) for entry in entries(50)))

    threads = [threading.Thread(target=asyncio.run, args=(write(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(ledger.aclose())
    found = verified(tmp_path)
    assert (found.receipts, found.problems) == (200, ())


def test_also_is_written_with_the_receipts_or_not_at_all(tmp_path: Path) -> None:
    """A caller's own rows and its receipts are one transaction, in success and in failure."""

    def make(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE result (row INTEGER PRIMARY KEY)")

    def insert(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO result VALUES (1)")

    async def write() -> None:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await ledger.append([], also=make)
            await ledger.append(entries(1), also=insert)
            with pytest.raises(StorageError, match="UNIQUE"):
                await ledger.append(entries(1), also=insert)

    asyncio.run(write())
    assert kinds(tmp_path) == ["open", "receipt", "seal"]


def test_one_bad_member_of_a_group_does_not_fail_the_others(tmp_path: Path) -> None:
    """When a shared transaction fails, every member is tried alone, and only the bad one hears of it."""

    def fail(_: sa.Connection) -> None:
        raise LookupError("mine")

    async def write() -> list[BaseException | None]:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            calls = [
                ledger.append([entry], also=fail if position == 5 else None)
                for position, entry in enumerate(entries(20))
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(write())
    assert [repr(outcome) for outcome in outcomes if outcome] == ["LookupError('mine')"]
    assert isinstance(outcomes[5], LookupError)
    found = verified(tmp_path)
    assert (found.receipts, found.problems) == (19, ())


def test_a_cancelled_append_leaves_the_ledger_working(tmp_path: Path) -> None:
    """Whoever stops waiting does not disturb those who wait."""

    async def write() -> None:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            impatient = asyncio.create_task(ledger.append(entries(1)))
            await asyncio.sleep(0)
            impatient.cancel()
            await ledger.append(entries(1))

    asyncio.run(write())
    assert verified(tmp_path).intact


def test_a_closed_ledger_says_so(tmp_path: Path) -> None:
    """An append after `aclose` is an error in a sentence; closing twice is none."""

    async def write() -> None:
        ledger = Ledger.open(URL, root=tmp_path)
        await ledger.aclose()
        await ledger.aclose()
        await ledger.append(entries(1))

    with pytest.raises(StorageError, match="is closed"):
        asyncio.run(write())


def test_the_file_is_durable_and_erases_what_is_deleted(tmp_path: Path) -> None:
    """WAL, a flush at every commit, deleted content overwritten, foreign keys enforced."""
    names = ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "busy_timeout")
    settings: list[object] = []

    def look(connection: sa.Connection) -> None:
        settings.extend(connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names)

    async def write() -> None:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await ledger.append([], also=look)

    asyncio.run(write())
    assert settings == ["wal", 2, 1, 1, 5000]


HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    """Another process is in the middle of writing to the file at `path`."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        other.communicate()


def test_a_lock_held_by_another_process_is_named(tmp_path: Path) -> None:
    """Opening and appending wait for the other process, then say that it holds the lock; later all is well."""

    async def write() -> None:
        async with Ledger.open(URL, root=tmp_path, busy_timeout_s=0.1) as ledger:
            with locked_by_another_process(tmp_path / "rung.db"):
                with pytest.raises(StorageError, match=r"rung\.db': another process has locked it"):
                    await asyncio.gather(*(ledger.append([entry]) for entry in entries(9)))
                with pytest.raises(StorageError, match=r"rung\.db': another process has locked it"):
                    Ledger.open(URL, root=tmp_path, busy_timeout_s=0.1)
            await ledger.append(entries(1))

    asyncio.run(write())
    found = verified(tmp_path)
    assert (found.receipts, found.problems) == (1, ())


def limit_pages(pages: int) -> Callable[[sa.Connection], None]:
    """Give the database no more room than this."""

    def limit(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    return limit


def test_a_database_without_room_writes_nothing_by_halves(tmp_path: Path) -> None:
    """A full database fails the append, keeps what was there, and takes the next append when it has room."""

    async def write() -> None:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await ledger.append(entries(1), also=limit_pages(1))
            with pytest.raises(StorageError, match="the disk is full") as full:
                for _ in range(100):
                    await ledger.append([*entries(1), ReceiptEntry(receipt(rule="x" * 10_000))])
            assert full.value.hint is not None
            await ledger.append([], also=limit_pages(1_000_000))
            await ledger.append(entries(3))

    asyncio.run(write())
    found = verified(tmp_path)
    assert found.problems == ()
    assert kinds(tmp_path)[-2:] == ["block", "seal"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    """On a disk that fills up, appends fail in a sentence; with space again they succeed, and all adds up."""
    acknowledged: list[str] = []

    async def write() -> None:
        async with Ledger.open(URL, root=small_disk) as ledger:
            with pytest.raises(StorageError, match="the disk is full"):
                while True:
                    await append(ledger)
            ballast.unlink()
            await append(ledger)

    async def append(ledger: Ledger) -> None:
        batch = [ReceiptEntry(receipt(input_digest=os.urandom(200).hex())) for _ in range(20)]
        await ledger.append(batch)
        acknowledged.extend(entry.receipt.id for entry in batch)

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(400_000))
    asyncio.run(write())
    kept = [line.receipt.id for line in everything(small_disk) if line.receipt]
    assert kept == acknowledged
    assert verified(small_disk).intact


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    """Where nothing can be written, opening says so and what to do."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    if os.geteuid() == 0:
        bind = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
        if subprocess.run(bind, capture_output=True, check=False).returncode:
            pytest.skip("root may write everywhere, and a read-only disk cannot be mounted here")
    try:
        with pytest.raises(StorageError, match=r"rung\.db': it cannot be opened") as refused:
            Ledger.open(URL, root=folder)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(folder)], check=True)
    assert "can be written to" in (refused.value.hint or "")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A ledger in a folder that does not exist cannot be opened."""
    with pytest.raises(StorageError, match=r"no/rung\.db': it cannot be opened"):
        Ledger.open("sqlite:///no/rung.db", root=tmp_path)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """Another kind of file at the ledger's place is an error, and keeps its content."""
    (tmp_path / "rung.db").write_bytes(b"a diary, not a database\n" * 100)
    with pytest.raises(StorageError, match="is not a database"):
        Ledger.open(URL, root=tmp_path)
    assert (tmp_path / "rung.db").read_bytes() == b"a diary, not a database\n" * 100


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("rung.db", "not a database address"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("nosuch://secret@host/db", "no driver for 'nosuch'"),
    ],
)
def test_an_address_that_cannot_hold_a_ledger_is_refused(
    tmp_path: Path, url: str, what: str
) -> None:
    """The message names the setting and shows no password."""
    with pytest.raises(StorageError, match=what) as refused:
        Ledger.open(url, root=tmp_path)
    assert "ledger.url" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_ledger_of_a_newer_rung_is_not_touched(tmp_path: Path) -> None:
    """A migration that this version does not know stops it before it writes."""
    write_chains(tmp_path, 1)
    with tampering(tmp_path) as connection:
        connection.execute("INSERT INTO ledger_migration VALUES ('9999 moons', '2030')")
    with pytest.raises(StorageError, match="newer Rung"):
        Ledger.open(URL, root=tmp_path)


def test_a_ledger_that_is_deleted_while_open_takes_nothing_more(tmp_path: Path) -> None:
    """SQLite would acknowledge writes to a file that no longer has a name; the ledger does not."""

    async def write() -> None:
        ledger = Ledger.open(URL, root=tmp_path)
        await ledger.append(entries(1))
        (tmp_path / "rung.db").rename(tmp_path / "elsewhere.db")
        with pytest.raises(StorageError, match="was removed or replaced while it was open"):
            await ledger.append(entries(1))
        (tmp_path / "elsewhere.db").rename(tmp_path / "rung.db")
        await ledger.append(entries(1))
        await ledger.aclose()

    asyncio.run(write())
    found = verified(tmp_path)
    assert (found.receipts, found.unsealed, found.problems) == (2, 0, ())


def test_a_seal_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """`aclose` says that the chain has no seal; what was acknowledged is there."""

    async def write() -> None:
        async with Ledger.open(URL, root=tmp_path) as ledger:
            await ledger.append(entries(1), also=forget_the_seal)

    with pytest.raises(StorageError, match="killed"):
        asyncio.run(write())
    found = verified(tmp_path)
    assert (found.receipts, found.unsealed, found.problems) == (1, 1, ())
