"""One model's child: started lazily, leased in order, restarted when it dies, ended when nobody needs it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from supervised import (
    QUICK,
    ask,
    limits_of,
    parameters,
    pid_of,
    refusal,
    run,
    running,
    together,
    until,
)

from rung.engines.llama_cpp.options import SupervisorOptions
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.supervisor import ChildState, Supervisor
from rung.errors import EngineOverloaded, EngineTimeout, EngineUnavailable


@asynccontextmanager
async def supervisor(
    path: Path, options: SupervisorOptions = QUICK, role: Role = Role.SERVER, **others: object
) -> AsyncIterator[Supervisor]:
    """A supervisor that is closed at the end."""
    made = Supervisor(parameters(path, **others), role, options)
    try:
        yield made
    finally:
        await made.aclose()


def test_a_child_goes_through_its_states(tiny: Path) -> None:
    """Nothing runs before the first lease; the child is warm once it has answered, and gone at the end."""

    async def fail(made: Supervisor) -> None:
        with contextlib.suppress(RuntimeError):
            async with made.lease():
                raise RuntimeError

    async def scene() -> list[ChildState]:
        async with supervisor(tiny) as made:
            seen = [made.state]
            first = asyncio.create_task(fail(made))
            await until(lambda: made.state is not ChildState.DOWN)
            seen.append(made.state)
            await first
            seen.append(made.state)
            async with made.lease(), made.lease():
                seen.append(made.state)
            seen.append(made.state)
            os.kill(pid_of(made), signal.SIGKILL)
            await until(lambda: made.state is not ChildState.WARM)
            seen.append(made.state)
        return seen

    assert run(scene()) == ["down", "loading", "cold", "saturated", "warm", "crashed"]


def test_a_child_answers_to_its_key_only(tiny: Path) -> None:
    """The socket is its owner's, in a folder that is its owner's, and a wrong key is refused."""

    def mode(path: str | Path) -> int:
        return stat.S_IMODE(Path(path).stat().st_mode)

    async def scene() -> Path:
        async with supervisor(tiny) as made, made.lease() as lease:
            assert (await ask(lease))["tokens_predicted"] == 4
            wrong = msgspec.structs.replace(lease, key="guess")
            assert (await ask(wrong))["error"]["code"] == 401
            assert lease.key not in repr(lease)
            assert [mode(lease.socket), mode(Path(lease.socket).parent)] == [0o600, 0o700]
            return Path(lease.socket).parent

    assert not run(scene()).exists()


def test_a_child_gets_no_secrets(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its environment nor its arguments hold a provider's key or its own."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider-secret")

    async def scene() -> None:
        async with supervisor(tiny) as made, made.lease() as lease:
            process = Path("/proc") / str(pid_of(made))
            environment = (process / "environ").read_bytes()
            arguments = (process / "cmdline").read_bytes()
            for secret in (b"sk-provider-secret", lease.key.encode()):
                assert secret not in environment + arguments
            assert b"GOMP_SPINCOUNT=0" in environment
            assert b"GGML_NO_BACKTRACE=1" in environment

    run(scene())


def test_a_child_has_limits(tiny: Path) -> None:
    """Its address space is bounded by what its model should need, and it leaves no memory dump."""

    async def limited(**others: object) -> tuple[int, int]:
        async with supervisor(tiny, **others) as made, made.lease() as lease:
            assert (await ask(lease))["tokens_predicted"] == 4
            limits = limits_of(pid_of(made))
            assert limits["Max core file size"] == ["0", "0"]
            soft, hard = limits["Max address space"]
            assert soft == hard
            return int(soft), made.memory_bytes

    async def scene() -> list[tuple[int, int]]:
        return await asyncio.gather(
            limited(slots=1), limited(context=2048, slots=64), limited(slots=1, memory_mib=2048)
        )

    (small, estimate), (large, more), (asked, _) = run(scene())
    assert estimate + (1 << 30) < small < estimate + (4 << 30)
    assert large - small > more - estimate > 100 << 20
    assert asked == 2048 * 1024 * 1024 + tiny.stat().st_size


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_child_costs_its_own_leases_only(tiny: Path, number: signal.Signals) -> None:
    """The lease learns why its child is gone; the next one gets a new child."""

    async def scene() -> None:
        async with supervisor(tiny) as made:
            async with made.lease() as lease:
                assert made.epitaph(lease) is None
                os.kill(pid_of(made), number)
                expected = f"the engine process was ended by {number.name}"
                assert await made.death(lease) == expected
                assert made.epitaph(lease) == expected
            async with made.lease() as again:
                assert (await ask(again))["tokens_predicted"] == 4
                assert again.generation == lease.generation + 1
                assert made.epitaph(again) is None
                assert made.epitaph(lease) == expected

    run(scene())


def test_a_death_is_not_explained_with_what_a_caller_wrote(tiny: Path) -> None:
    """An earlier refusal wrote the caller's grammar to the child's log."""

    async def scene() -> None:
        async with supervisor(tiny) as made, made.lease() as lease:
            for grammar in ('root ::= "my-secret', "root ::= my-secret"):
                assert "error" in await ask(lease, grammar=grammar)
            os.kill(pid_of(made), signal.SIGABRT)
            assert await made.death(lease) == "the engine process was ended by SIGABRT"

    run(scene())


def test_a_stopped_child_is_ended_while_it_is_leased(tiny: Path) -> None:
    """SIGSTOP in the middle of a lease: the next one works. A scorer answers nobody while it works, a server does."""

    async def scene(role: Role) -> None:
        async with supervisor(tiny, role=role, slots=1) as made:
            async with made.lease() as lease:
                assert made.state is ChildState.SATURATED
                os.kill(pid_of(made), signal.SIGSTOP)
                expected = "the engine process was ended because it did not answer for 1.5 s"
                assert await made.death(lease, within_s=20) == expected
            async with made.lease() as again:
                assert again.generation == 2

    run(together(scene(role) for role in Role))


def test_a_scorer_whose_caller_gave_up_is_lent_again_only_if_it_turns(tiny: Path) -> None:
    """However short the callers' limits are: each would else find it stuck and leave it to the next one."""

    async def give_up(made: Supervisor, how: str) -> None:
        if how == "stopped":
            os.kill(pid_of(made), signal.SIGSTOP)
        elif how == "gone":
            os.kill(pid_of(made), signal.SIGKILL)
        raise EngineTimeout("labels were not scored within 0.1 s")

    async def scene(how: str) -> None:
        async with supervisor(tiny, role=Role.SCORER) as made:
            with pytest.raises(EngineTimeout):
                async with made.lease() as lease:
                    _, writer = await asyncio.open_unix_connection(lease.socket)
                    if how != "busy with another":
                        writer.close()
                    await give_up(made, how)
            async with made.lease() as again:
                assert again.generation == 2
                expected = "ended by SIGKILL" if how == "gone" else "it did not answer for 1.5 s"
                assert expected in (made.epitaph(lease) or "")
            writer.close()
            for error in (EngineTimeout("slow"), asyncio.CancelledError()):
                with contextlib.suppress(EngineTimeout, asyncio.CancelledError):
                    async with made.lease():
                        raise error
            async with made.lease() as last:
                assert (last.generation, made.in_flight) == (2, 1)

    run(together(scene(how) for how in ("stopped", "busy with another", "gone")))


def test_a_child_that_works_hard_is_left_alone(tiny: Path) -> None:
    """A watched child that generates for many times the watchdog's patience is not taken for stuck."""

    async def scene() -> None:
        async with supervisor(tiny, context=2048) as made, made.lease() as lease:
            answer = await ask(lease, n_predict=1900)
            assert answer["tokens_predicted"] == 1900
            assert made.epitaph(lease) is None

    run(scene())


def test_a_caller_can_end_a_child_it_found_stuck(tiny: Path) -> None:
    """The reason becomes the epitaph; ending a child that is gone already does nothing."""

    async def scene() -> None:
        async with supervisor(tiny) as made:
            async with made.lease() as lease:
                await made.kill(lease, "it sent no token for 3 s")
                assert (
                    made.epitaph(lease)
                    == "the engine process was ended because it sent no token for 3 s"
                )
            async with made.lease() as again:
                await made.kill(lease, "too late")
                assert made.epitaph(again) is None

    run(scene())


def test_five_hundred_leases_on_two_slots_come_in_order(tiny: Path) -> None:
    """Never more than two at once, each gets its turn, first come first served."""
    order: list[int] = []
    most = 0

    async def one(made: Supervisor, number: int) -> None:
        nonlocal most
        async with made.lease():
            order.append(number)
            most = max(most, made.in_flight)
            await asyncio.sleep(0)

    async def scene() -> None:
        async with supervisor(tiny) as made:
            await asyncio.gather(*(one(made, number) for number in range(500)))
            assert made.in_flight == 0

    run(scene())
    assert order == list(range(500))
    assert most == 2


def test_too_many_waiting_are_refused(tiny: Path) -> None:
    """The queue is bounded."""

    async def scene() -> None:
        options = msgspec.structs.replace(QUICK, queue=1)
        async with supervisor(tiny, options, slots=1) as made, made.lease():
            waiting = asyncio.create_task(refusal(made))
            await asyncio.sleep(0)
            error = await refusal(made)
            assert isinstance(error, EngineOverloaded)
            assert str(error) == "1 requests wait for the 1 slots of the model 'tiny.gguf'"
            waiting.cancel()

    run(scene())


def test_a_cancelled_wait_leaves_nothing_behind(tiny: Path) -> None:
    """Cancelled while loading or while waiting for a slot, a lease takes no slot and does not stop the start."""

    async def scene() -> None:
        async with supervisor(tiny, slots=1) as made:
            loading = asyncio.create_task(refusal(made))
            await until(lambda: made.state is ChildState.LOADING)
            loading.cancel()
            async with made.lease() as lease:
                assert lease.generation == 1
                waiting = asyncio.create_task(refusal(made))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})
            async with made.lease():
                assert made.in_flight == 1

    run(scene())


def test_a_crash_loop_opens_the_breaker(tiny: Path) -> None:
    """After so many deaths a lease is refused at once, with the reason; later one trial is let through."""

    async def scene() -> None:
        options = msgspec.structs.replace(QUICK, crashes=3)
        async with supervisor(tiny, options) as made:
            for _ in range(3):
                async with made.lease() as lease:
                    os.kill(pid_of(made), signal.SIGSEGV)
                    await made.death(lease)
            error = await refusal(made)
            assert isinstance(error, EngineUnavailable)
            assert "is not started again for another" in str(error)
            assert str(error).endswith("after it failed: the engine process was ended by SIGSEGV")
            assert made.state is ChildState.CRASHED
            await asyncio.sleep(QUICK.open_s)
            async with made.lease() as lease:
                assert (await ask(lease))["tokens_predicted"] == 4

    run(scene())


def test_an_idle_child_is_unloaded_and_comes_back(tiny: Path) -> None:
    """Nobody asked for a while: the process is gone, and the next lease starts another."""

    async def scene() -> None:
        options = msgspec.structs.replace(QUICK, idle_s=0.1)
        async with supervisor(tiny, options) as made:
            async with made.lease():
                await asyncio.sleep(0.3)
                assert made.state is ChildState.COLD
                pid = pid_of(made)
            await until(lambda: made.state is ChildState.DOWN)
            assert not running(pid)
            assert made.memory_bytes == 0
            async with made.lease() as lease:
                assert lease.generation == 2

    run(scene())


def test_closing_ends_the_child_and_all_who_wait(tiny: Path) -> None:
    """Open leases get an epitaph, waiting ones an error, and nothing starts again."""

    async def scene() -> None:
        async with supervisor(tiny, slots=1) as made:
            async with made.lease() as lease:
                waiting = asyncio.create_task(refusal(made))
                await asyncio.sleep(0)
                pid = pid_of(made)
                await made.aclose()
                assert not running(pid)
                assert made.epitaph(lease) == (
                    "the engine process was ended because its supervisor was closed"
                )
                assert str(await waiting) == "the model 'tiny.gguf' was closed"
            assert str(await refusal(made)) == "the model 'tiny.gguf' was closed"

    run(scene())


def test_closing_while_loading_ends_the_child(tiny: Path) -> None:
    """The start leaves no process, and who waits for it learns why: nobody cancelled them."""

    async def scene() -> None:
        async with supervisor(tiny) as made:
            loading = [asyncio.create_task(refusal(made)) for _ in range(2)]
            await until(lambda: made.memory_bytes > 0)
            await asyncio.sleep(0.02)
            await made.aclose()
            assert [str(await each) for each in loading] == ["the model 'tiny.gguf' was closed"] * 2
            assert made.state is not ChildState.LOADING
            assert made.pid is None

    run(scene())


def test_restarts_leave_nothing_open(tiny: Path) -> None:
    """After many deaths this process has as many files and threads as after the first."""

    def opened() -> int:
        return len(os.listdir("/proc/self/fd")) + threading.active_count()

    async def scene() -> None:
        options = msgspec.structs.replace(QUICK, crashes=100, backoff_s=0.0)
        async with supervisor(tiny, options) as made:
            first = None
            for _ in range(4):
                async with made.lease() as lease:
                    os.kill(pid_of(made), signal.SIGKILL)
                    await made.death(lease)
                first = first or opened()
                await until(lambda first=first: opened() <= first)

    run(scene())


def test_a_system_without_files_left_is_a_sentence(tiny: Path) -> None:
    """No pipe can be made for the child: the error is the engine's, and the next lease tries again."""

    async def scene() -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with supervisor(tiny) as made:
            taken = {int(number) for number in os.listdir("/proc/self/fd")}
            limit = next(n for n in itertools.count() if len(set(range(n)) - taken) == 4)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
            try:
                error = await refusal(made)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            assert isinstance(error, EngineUnavailable)
            assert str(error) == ("no process for the engine could be started: Too many open files")
            async with made.lease() as lease:
                assert (await ask(lease))["tokens_predicted"] == 4

    run(scene())


def test_a_second_loop_is_told_so(tiny: Path) -> None:
    """A supervisor belongs to the loop that used it first."""
    made = Supervisor(parameters(tiny), Role.SERVER, QUICK)

    async def first() -> None:
        async with made.lease():
            pass
        await made.aclose()

    run(first())
    assert "belongs to another event loop" in str(run(refusal(made)))
