"""Crashes: a process killed at any moment, a write-ahead log cut anywhere, two processes at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ledger_receipts import URL, verified, write_chains

from rung.ledger.queries import entries, heads, reading

WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ledger_receipts import URL, entries
from rung.ledger.writer import Ledger

async def write(root, rounds):
    async with Ledger.open(URL, root=root) as ledger:
        async def one(size):
            batch = entries(size)
            await ledger.append(batch)
            print(*(entry.receipt.id for entry in batch), flush=True)
        for _ in range(rounds):
            await asyncio.gather(*(one(size) for size in (1, 1, 3, 40)))

asyncio.run(write(Path(sys.argv[2]), int(sys.argv[3])))
"""


def start_writer(root: Path, rounds: int) -> subprocess.Popen[str]:
    """A process that appends and prints the ids of what was acknowledged."""
    arguments = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(root), str(rounds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def recorded(root: Path) -> list[str]:
    """Ids of all receipts in the ledger."""
    with reading(URL, root=root) as connection:
        return [line.receipt.id for line in entries(connection) if line.receipt]


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL at ten random moments: every time the ledger is intact and holds what was acknowledged."""
    moments = random.Random(7)
    acknowledged: list[str] = []
    for kills in range(1, 11):
        writer = start_writer(tmp_path, 100_000)
        assert writer.stdout is not None
        acknowledged += writer.stdout.readline().split()
        time.sleep(moments.uniform(0, 0.12))
        writer.send_signal(signal.SIGKILL)
        # The kill may cut the last line short; a cut id was acknowledged, but its name is not known.
        acknowledged += [name for name in writer.communicate()[0].split() if len(name) == 26]
        found = verified(tmp_path)
        assert (found.problems, found.unsealed) == ((), kills)
    ids = recorded(tmp_path)
    assert len(ids) == len(set(ids))
    assert set(acknowledged) <= set(ids)


def test_processes_share_a_ledger(tmp_path: Path) -> None:
    """Two processes that make the ledger at the same moment and write together lose nothing."""
    writers = [start_writer(tmp_path, 10) for _ in range(2)]
    acknowledged = [name for w in writers for name in w.communicate()[0].split()]
    found = verified(tmp_path)
    assert (found.chains, found.unsealed, found.problems) == (2, 0, ())
    assert sorted(acknowledged) == sorted(recorded(tmp_path))
    assert len(acknowledged) == 2 * 10 * 45


def test_a_torn_copy_is_whole_up_to_a_commit(tmp_path: Path) -> None:
    """Wherever a copied log is cut off, what is left verifies, and exported heads show what is missing."""
    write_chains(tmp_path, 1)
    writer = start_writer(tmp_path, 100_000)
    assert writer.stdout is not None
    for _ in range(40):
        writer.stdout.readline()
    writer.kill()
    writer.communicate()
    log = (tmp_path / "rung.db-wal").read_bytes()
    file = (tmp_path / "rung.db").read_bytes()  # before a reader moves the log into it
    with reading(URL, root=tmp_path) as connection:
        ends = heads(connection)
    counts = set()
    for part in range(8):
        copy = tmp_path / f"copy{part}"
        copy.mkdir()
        (copy / "rung.db").write_bytes(file)
        (copy / "rung.db-wal").write_bytes(log[: len(log) * part // 8 + part])
        found = verified(copy)
        assert found.problems == ()
        counts.add(found.records)
        assert not verified(copy, ends).intact
    assert len(counts) > 2
