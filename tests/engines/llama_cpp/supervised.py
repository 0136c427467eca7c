"""Parts for tests of child processes: parameters, patience in tenths of seconds, raw requests, looking at a process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rung.engines.llama_cpp.options import SupervisorOptions
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.supervisor import Lease, Supervisor
from rung.errors import EngineError

Result = TypeVar("Result")

QUICK = SupervisorOptions(
    ping_s=0.25, unresponsive_s=1.5, backoff_s=0.05, open_s=0.3, window_s=30, room_s=0.3
)
"""The product's limits, short enough for a test."""


def parameters(path: Path, **others: Any) -> ModelParameters:  # Any: the fields' own types
    """A model with a small context."""
    return ModelParameters(path=str(path), **{"context": 512, **others})


def run(work: Coroutine[object, object, Result]) -> Result:
    """Run a test's coroutine; a hang becomes a failure."""

    async def bounded() -> Result:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(bounded())


async def together(scenes: Iterable[Coroutine[object, object, None]]) -> None:
    """Scenes that have nothing to do with each other, at once: most of what they do is wait."""
    await asyncio.gather(*scenes)


async def ask(lease: Lease, **body: object) -> dict[str, Any]:  # Any: JSON
    """One completion by a leased child, over its socket."""
    request = {"prompt": "my card", "n_predict": 4, "temperature": 0, "ignore_eos": True, **body}
    content = json.dumps(request).encode()
    reader, writer = await asyncio.open_unix_connection(lease.socket)
    try:
        writer.write(
            f"POST /completion HTTP/1.0\r\nAuthorization: Bearer {lease.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        _, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    found: dict[str, Any] = json.loads(answer)
    return found


async def refusal(supervisor: Supervisor) -> EngineError:
    """The error that a lease ends with."""
    with pytest.raises(EngineError) as caught:
        async with supervisor.lease():
            pass
    return caught.value


def pid_of(supervisor: Supervisor) -> int:
    """The process number of a running child."""
    assert supervisor.pid is not None
    return supervisor.pid


def limits_of(pid: int) -> dict[str, list[str]]:
    """The soft and the hard limit of a process for everything that is limited."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:25].strip(): line[25:].split()[:2] for line in lines}


def running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that happens on its own."""
    while not true():  # noqa: ASYNC110  # there is nothing to wait on
        await asyncio.sleep(0.01)


def wait_until(true: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        os.sched_yield()
        time.sleep(0.01)
