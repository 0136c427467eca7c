"""An embedded model as a rung of a ladder: many records at once on few slots."""

from __future__ import annotations

import asyncio
from pathlib import Path

from projects import write_project
from rung.blocking import run_blocking
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.ladder import Ladder
from rung.receipt import Answer
from rung.task import Request

RUNG = """
[rungs.local]
engine = "llama_cpp"
model = "model.gguf"
where = "device"
accept = "contract"
load = { context = 512, slots = 2, threads = 1 }
"""
RECORD = """format = 1
kind = "extract"
instructions = "What is it?"
privacy = "personal"
max_output_tokens = 24
[schema]
type = "object"
required = ["kind"]
additionalProperties = false
properties = { kind = { enum = ["card", "cash"] } }
"""


def test_no_record_of_a_long_batch_waits_behind_all_others(tiny: Path, tmp_path: Path) -> None:
    """The ladder has as many in flight as there are slots, so that waiting for one eats nobody's limit."""
    config = write_project(tmp_path, RUNG, ("local",), task=RECORD)
    (tmp_path / "model.gguf").symlink_to(tiny)
    most = 0

    async def batch() -> list[Answer]:
        nonlocal most
        async with await Ladder.open(config) as ladder:
            engine = ladder.project.rung("local", ladder.project.task("triage")).engine
            assert isinstance(engine, LlamaCppEngine)

            async def look() -> None:
                nonlocal most
                while True:
                    most = max(most, engine._server._waiting + engine._server.in_flight)
                    await asyncio.sleep(0.005)

            looking = asyncio.create_task(look())
            try:
                return await ladder.run_many(
                    [Request("triage", f"my card {number}") for number in range(60)]
                )
            finally:
                looking.cancel()

    answers = run_blocking(batch())
    assert [answer.receipt.attempts[0].verdict.value for answer in answers] == ["accepted"] * 60
    assert 1 <= most <= 2
