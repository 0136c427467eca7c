"""Looks at a leased child now and then, and ends one that no longer answers.

A SERVER is asked for its health, which it answers beside its work; a SCORER works on one thing at a time, so only its
being stopped is looked for, and after a caller gave up whether it takes the next one. A request to a SERVER that never
ends is its caller's to notice (`Supervisor.kill`).
"""

from __future__ import annotations

import asyncio
import contextlib

import psutil

from rung.engines.llama_cpp.options import SupervisorOptions
from rung.engines.llama_cpp.process import ChildProcess
from rung.engines.llama_cpp.role import Role

_QUESTION = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ANSWER = b"HTTP/1.1 200"
_NO_KEY = bytes(4)  # an empty frame where the key is expected


async def watch(child: ChildProcess, role: Role, options: SupervisorOptions) -> None:
    """Look at a child every `ping_s` until it is gone; cancelled when its last lease ends."""
    loop = asyncio.get_running_loop()
    # Counted in looks, not in time: a loop that was blocked itself costs the child one look at most.
    misses = 0
    due = loop.time() + options.ping_s
    while child.alive:
        await asyncio.sleep(due - loop.time())
        due = loop.time() + options.ping_s
        seen = await _answers(child, options.ping_s) if role is Role.SERVER else _runs(child)
        misses = 0 if seen else misses + 1
        if misses * options.ping_s >= options.unresponsive_s:
            child.kill(f"it did not answer for {options.unresponsive_s:g} s")


async def _answers(child: ChildProcess, within_s: float) -> bool:
    """Whether the server says that it is well."""
    with contextlib.suppress(OSError, TimeoutError, EOFError):
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_unix_connection(child.socket)
            try:
                writer.write(_QUESTION)
                return await reader.readexactly(len(_ANSWER)) == _ANSWER
            finally:
                writer.close()
    return False


async def turns(child: ChildProcess, within_s: float) -> bool:
    """Whether a SCORER is done with the caller before: it takes one who shows no key, and hangs up, or is gone."""
    try:
        async with asyncio.timeout(within_s):
            try:
                reader, writer = await asyncio.open_unix_connection(child.socket)
                try:
                    writer.write(_NO_KEY)
                    await reader.read(1)
                finally:
                    writer.close()
            except OSError:
                await child.gone()  # broken connections are seen before the end of their process
    except TimeoutError:
        return False
    return True


def _runs(child: ChildProcess) -> bool:
    """Whether the process is not stopped."""
    try:
        return psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
    except psutil.Error:
        return True  # gone: the caller sees that
