"""Crashes: a batch killed with SIGKILL at random moments answers every row once and pays for none twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from batch_runs import recorded_rows, results_kept, rows, start, write_rows

import upstream
from projects import openai_rung, write_project
from rung.ledger.queries import reading
from rung.ledger.verify import verify

CONCURRENCY = 32


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """The upstream as a process that notes every call on disk before it answers; its address."""
    command = [sys.executable, upstream.__file__, "--log", str(log), "--no-logprobs"]
    # It complains of every client that is killed.
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    finally:
        server.kill()
        server.communicate()


def calls(log: Path) -> list[str]:
    """Idempotency keys of the calls that asked for an answer, in order."""
    if not log.exists():
        return []
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return [line["key"] for line in lines if line["kind"] == "completions"]


def wait_for_calls(log: Path, wanted: int, process: subprocess.Popen[str]) -> None:
    """Until so many calls were made, or the batch is done."""
    while process.poll() is None and _size(log) < wanted:
        time.sleep(0.005)


def _size(log: Path) -> int:
    """About how many calls are in the log, without reading it."""
    return log.stat().st_size // 95 if log.exists() else 0


def kill_and_check(tmp_path: Path, *, count: int, kills: int, seed: int) -> None:
    """Kill a batch `kills` times, let it end, and hold it to its promises."""
    log = tmp_path / "calls.jsonl"
    source = write_rows(tmp_path / "in.jsonl", (f"text number {n}" for n in range(count)))
    moments = random.Random(seed)
    settled: list[tuple[int, set[int]]] = []  # calls made by then, rows recorded by then
    with serving(log) as url:
        limits = f"[rungs.local.limits]\nconcurrency = {CONCURRENCY}"
        config = write_project(tmp_path, openai_rung("local", url, more=limits), ("local",))
        for moment in sorted(moments.uniform(0, count * 0.98) for _ in range(kills)):
            process = start(config, source)
            wait_for_calls(log, int(moment), process)
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
            process.communicate()
            run, recorded = recorded_rows(config)
            settled.append((len(calls(log)), recorded))
        process = start(config, source, "--json")
        printed, complaint = process.communicate()
    assert process.returncode == 0, complaint
    keys = calls(log)
    for made, recorded in settled:
        assert not recorded & {int(key.partition(":")[2]) for key in keys[made:]}
    assert [row.row for row in rows(config)] == list(range(1, count + 1))
    assert [row.id for row in rows(config)] == [f"q{n}" for n in range(1, count + 1)]
    assert all(row.answer for row in rows(config))
    summary = json.loads(printed)
    assert (summary["rows"], summary["answered"], summary["finished"]) == (count, count, True)
    assert {key.partition(":")[0] for key in keys} == {run}
    again = Counter(keys)
    assert len(again) == count
    assert len(keys) <= count + kills * CONCURRENCY
    assert max(again.values()) <= kills + 1
    assert results_kept(config) == 0
    with reading("sqlite:///rung.db", root=tmp_path) as ledger:
        assert verify(ledger).problems == ()


def test_a_batch_killed_twenty_times_pays_for_no_row_twice(tmp_path: Path) -> None:
    """10,000 rows, SIGKILL at 20 random moments: one result a row in order, no recorded row called again."""
    kill_and_check(tmp_path, count=10_000, kills=20, seed=2)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(5))
def test_a_batch_killed_a_hundred_times(tmp_path: Path, seed: int) -> None:
    """The same with five times as many kills."""
    kill_and_check(tmp_path, count=20_000, kills=100, seed=seed)
