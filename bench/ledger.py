"""What durable recording costs: appends one by one and under load, blocks, against plain SQLite commits; verification.

    python bench/ledger.py --single 500 --grouped 10000 --rows 100000 --block 1000

Plain commits are single-row inserts of as many bytes, one transaction each, with the same durability settings, on
the same disk in the same run: what a disk allows differs by a factor of a hundred. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from rung.ids import new_id, now
from rung.ledger.queries import Wanted, find, reading, recent
from rung.ledger.stats import stats
from rung.ledger.verify import verify
from rung.ledger.writer import Ledger, ReceiptEntry
from rung.receipt import Attempt, Bound, Receipt, Standing, Verdict

URL = "sqlite:///bench.db"


class Result(msgspec.Struct):
    """Rates are per second; times are milliseconds. Plain commits ran before and after the single appends."""

    plain_commits_per_s: float
    single_appends_per_s: float
    single_share_of_plain: float
    grouped_appends_per_s: float
    grouped_commits: int
    block_receipts_per_s: float
    bytes_per_receipt_in_blocks: float
    verify_receipts_per_s: float
    receipts: int
    find_alone_ms: float
    find_in_block_ms: float
    stats_ms: float
    recent_ms: float
    bench: str = "ledger"
    format: int = 1


def make_receipt(draw: random.Random) -> Receipt:
    """A receipt such as a batch makes: one attempt, numbers that differ."""
    confidence = draw.uniform(0.62, 1)
    latency = draw.uniform(0.02, 0.4)
    return Receipt(
        id=new_id(),
        created=now(),
        task="triage",
        task_digest="ab" * 32,
        input_digest=draw.randbytes(16).hex(),
        label="personal",
        rule="policy.egress.personal",
        allowed=("student",),
        attempts=(
            Attempt(
                "student",
                "device",
                Verdict.ACCEPTED,
                confidence=confidence,
                threshold=0.61,
                latency_ms=latency,
            ),
        ),
        answered_by="student",
        standing=Standing.CERTIFIED,
        bound=Bound("triage@9f3c12ab", 0.05, 0.95, "human", 2000),
        top_cost=draw.randrange(800_000, 1_000_000),
        latency_ms=latency,
        request_id=str(draw.randrange(10**9)),
        run="bench",
    )


def plain_commits(folder: Path, count: int, body: bytes) -> float:
    """Single-row transactions per second with nothing but sqlite3."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS record (seq INTEGER PRIMARY KEY, body BLOB)")
    started = time.perf_counter()
    for _ in range(count):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO record (body) VALUES (?)", (body,))
        connection.execute("COMMIT")
    rate = count / (time.perf_counter() - started)
    connection.close()
    return rate


async def append_singles(ledger: Ledger, receipts: list[Receipt]) -> float:
    """Appends per second when each waits for the one before."""
    started = time.perf_counter()
    for receipt in receipts:
        await ledger.append([ReceiptEntry(receipt)])
    return len(receipts) / (time.perf_counter() - started)


async def append_together(ledger: Ledger, receipts: list[Receipt]) -> tuple[float, int]:
    """Appends per second when all are asked for at once, and the commits they took."""
    before = ledger.commits
    started = time.perf_counter()
    await asyncio.gather(*(ledger.append([ReceiptEntry(receipt)]) for receipt in receipts))
    return len(receipts) / (time.perf_counter() - started), ledger.commits - before


async def append_blocks(
    ledger: Ledger, draw: random.Random, args: argparse.Namespace
) -> tuple[float, list[str]]:
    """Receipts per second in blocks, making them not counted, and one id of each block."""
    rows, block = args.rows, args.block
    ids: list[str] = []
    spent = 0.0
    for first in range(0, rows, block):
        entries = [ReceiptEntry(make_receipt(draw)) for _ in range(min(block, rows - first))]
        started = time.perf_counter()
        await ledger.append(entries)
        spent += time.perf_counter() - started
        ids.append(draw.choice(entries).receipt.id)
    return rows / spent, ids


def measure(folder: Path, args: argparse.Namespace) -> Result:
    """All measurements, one after the other."""
    draw = random.Random(args.seed)
    singles = [make_receipt(draw) for _ in range(args.single)]
    grouped = [make_receipt(draw) for _ in range(args.grouped)]
    body = msgspec.json.encode(singles[0])
    plain = [plain_commits(folder, args.single, body)]

    async def write() -> tuple[float, float, int, float, list[str], int]:
        async with Ledger.open(URL, root=folder) as ledger:
            await ledger.append([ReceiptEntry(make_receipt(draw))])
            single = await append_singles(ledger, singles)
            plain.append(plain_commits(folder, args.single, body))
            together, commits = await append_together(ledger, grouped)
            before = stored_bytes(folder)
            blocks, ids = await append_blocks(ledger, draw, args)
            return single, together, commits, blocks, ids, stored_bytes(folder) - before

    single, together, commits, blocks, ids, grown = asyncio.run(write())
    bare = sum(plain) / len(plain)
    with reading(URL, root=folder) as connection:
        started = time.perf_counter()
        verified = verify(connection)
        verify_s = time.perf_counter() - started
        if not verified.intact:
            raise SystemExit(f"the ledger does not verify: {verified.problems}")
        alone = [receipt.id for receipt in grouped]
        find_alone_ms = timed_ms(lambda: find(connection, draw.choice(alone)))
        find_in_block_ms = timed_ms(lambda: find(connection, draw.choice(ids)))
        stats_ms = timed_ms(lambda: stats(connection))
        recent_ms = timed_ms(lambda: next(recent(connection, Wanted())))
    return Result(
        plain_commits_per_s=bare,
        single_appends_per_s=single,
        single_share_of_plain=single / bare,
        grouped_appends_per_s=together,
        grouped_commits=commits,
        block_receipts_per_s=blocks,
        bytes_per_receipt_in_blocks=grown / args.rows,
        verify_receipts_per_s=verified.receipts / verify_s,
        receipts=verified.receipts,
        find_alone_ms=find_alone_ms,
        find_in_block_ms=find_in_block_ms,
        stats_ms=stats_ms,
        recent_ms=recent_ms,
    )


def stored_bytes(folder: Path) -> int:
    """Bytes of all record bodies."""
    with reading(URL, root=folder) as connection:
        total = connection.exec_driver_sql("SELECT sum(length(body)) FROM ledger_record").scalar()
        return int(total or 0)


def timed_ms(work: Callable[[], object], repeats: int = 20) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[repeats // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--single", type=int, default=300, help="appends one after the other")
    parser.add_argument("--grouped", type=int, default=5000, help="appends at once")
    parser.add_argument("--rows", type=int, default=100_000, help="receipts in blocks")
    parser.add_argument("--block", type=int, default=1000, help="receipts in one append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to write; default a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        result = measure(Path(folder), args)
    for name, value in msgspec.structs.asdict(result).items():
        print(
            f"{name:<30}{value:>14,.2f}" if isinstance(value, float) else f"{name:<30}{value:>14}"
        )
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
