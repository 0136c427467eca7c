"""Looks at a leased child now and then, and ends one that no longer answers.

A SERVER is asked for its health, which it answers beside its work; a SCORER works on one thing at a time, so only its
being stopped is looked for. A request that never ends is its caller's to notice (`Supervisor.kill`).
"""

from __future__ import annotations

import asyncio
import contextlib

import psutil

from rung.engines.llama_cpp.options import SupervisorOptions
from rung.engines.llama_cpp.process import ChildProcess
from rung.engines.llama_cpp.role import Role

_QUESTION = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def watch(child: ChildProcess, role: Role, options: SupervisorOptions) -> None:
    """Look at a child until it is gone; cancelled when its last lease ends."""
    loop = asyncio.get_running_loop()
    answered = loop.time()
    while child.alive:
        await asyncio.sleep(options.ping_s)
        before = loop.time()
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            async with asyncio.timeout(options.unresponsive_s):
                if await (_answers(child) if role is Role.SERVER else _runs(child)):
                    answered = loop.time()
        # Time in which this loop itself did not run is no fault of the child's.
        answered = max(answered, before - options.unresponsive_s)
        if loop.time() - answered >= options.unresponsive_s:
            child.kill(f"it did not answer for {options.unresponsive_s:g} s")


async def _answers(child: ChildProcess) -> bool:
    """Whether the server says anything at all."""
    reader, writer = await asyncio.open_unix_connection(child.socket)
    try:
        writer.write(_QUESTION)
        await writer.drain()
        return bool(await reader.readexactly(len(b"HTTP/1.1 200")))
    finally:
        writer.close()


async def _runs(child: ChildProcess) -> bool:
    """Whether the process is not stopped."""
    try:
        return psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
    except psutil.Error:
        return True  # gone: the loop above sees that
