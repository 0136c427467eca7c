"""The one blocking form: usable without a loop, inside a running loop, and never a deadlock."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rung.blocking import run_blocking


async def thread_name() -> str:
    """The thread the coroutine runs on."""
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_it_returns_the_result_and_runs_on_its_own_thread() -> None:
    """The caller's thread only waits."""
    assert run_blocking(thread_name()) == "rung-blocking"


def test_it_works_where_a_loop_is_running() -> None:
    """A notebook has a running loop; blocking there must not fail."""

    async def cell() -> str:
        return run_blocking(thread_name())

    assert asyncio.run(cell()) == "rung-blocking"


def test_errors_come_out_as_they_are() -> None:
    """The caller sees the coroutine's own exception."""

    async def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_blocking(fails())


def test_calling_it_from_inside_is_refused_and_not_a_deadlock() -> None:
    """Waiting for oneself would never end."""

    async def nested() -> str:
        return run_blocking(thread_name())

    with pytest.raises(RuntimeError, match="await instead"):
        run_blocking(nested())
