"""Several models in one memory budget: the one used longest ago leaves, one that is in use never does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from supervised import QUICK, ask, limits_of, parameters, pid_of, refusal, run, running, until

from gguf_models import tiny_model
from rung.engines.llama_cpp.fleet import Fleet
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.supervisor import ChildState, Supervisor
from rung.errors import EngineOverloaded, EngineUnavailable
from rung.models.hardware.memory import Memory

MIB = 1024 * 1024
TWO = 130 * MIB
"""Room for two of the tiny models, which are estimated at 90 MiB each, and not for three."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models."""
    folder = tmp_path_factory.mktemp("fleet")
    return [tiny_model(folder / f"{name}.gguf", seed=ord(name)) for name in "abc"]


@asynccontextmanager
async def fleet(**settings: object) -> AsyncIterator[Fleet]:
    """A fleet that is closed at the end."""
    made = Fleet(**{"options": QUICK, **settings})  # type: ignore[arg-type]  # the fields' own types
    try:
        yield made
    finally:
        await made.aclose()


def members(made: Fleet, models: list[Path]) -> list[Supervisor]:
    """The supervisor of each."""
    return [made.supervisor(parameters(path), Role.SERVER) for path in models]


async def use(*supervisors: Supervisor) -> None:
    """One answer from each, in turn."""
    for supervisor in supervisors:
        async with supervisor.lease() as lease:
            assert (await ask(lease))["tokens_predicted"] == 4


def states(supervisors: list[Supervisor]) -> list[str]:
    """How each is."""
    return [supervisor.state.value for supervisor in supervisors]


def test_equal_models_share_a_child(models: list[Path]) -> None:
    """One supervisor for each combination of parameters and role."""
    made = Fleet()
    one = made.supervisor(parameters(models[0]), Role.SERVER)
    assert made.supervisor(parameters(models[0]), Role.SERVER) is one
    assert made.supervisor(parameters(models[0]), Role.SCORER) is not one
    assert made.supervisor(parameters(models[0], slots=3), Role.SERVER) is not one


def test_the_model_used_longest_ago_makes_room(models: list[Path]) -> None:
    """With room for two of three models, the third costs the one that was used before the other."""

    async def scene() -> None:
        async with fleet(budget_bytes=TWO) as made:
            a, b, c = supervisors = members(made, models)
            await use(a, b, a, c)
            assert states(supervisors) == ["warm", "down", "warm"]
            assert made.loaded_bytes <= TWO
            await use(b)
            assert states(supervisors) == ["down", "warm", "warm"]

    run(scene())


def test_a_model_in_use_is_never_unloaded(models: list[Path]) -> None:
    """Used longest ago or not: while it is leased another one has to leave, or the newcomer to wait."""

    async def scene() -> None:
        async with fleet(budget_bytes=TWO) as made:
            a, b, c = supervisors = members(made, models)
            async with a.lease() as lease:
                await use(b, c)
                assert states(supervisors) == ["cold", "down", "warm"]
                async with c.lease():
                    error = await refusal(b)
                    assert isinstance(error, EngineOverloaded)
                    assert str(error).startswith("the model 'b.gguf' needs about")
                    waiting = asyncio.create_task(use(b))
                    await until(lambda: b.state is ChildState.LOADING)
                await waiting
                assert states(supervisors) == ["cold", "warm", "down"]
                assert a.epitaph(lease) is None

    run(scene())


def test_the_budget_limits_a_childs_memory(models: list[Path]) -> None:
    """A model that needs more than its estimate fails before it takes what the budget does not have."""

    async def limit(budget: int | None) -> int:
        async with fleet(budget_bytes=budget) as made:
            model = made.supervisor(parameters(models[0]), Role.SERVER)
            await use(model)
            return int(limits_of(pid_of(model))["Max address space"][0])

    async def scene() -> list[int]:
        return await asyncio.gather(limit(None), limit(64 * MIB))

    free, held = run(scene())
    assert free - held > 4 * MIB


def test_a_model_larger_than_the_budget_is_refused_at_once(models: list[Path]) -> None:
    """Nothing is unloaded for one that would not fit anyway."""

    async def scene() -> None:
        async with fleet(budget_bytes=80 * MIB) as made:
            small = made.supervisor(parameters(models[0]), Role.SERVER)
            large = made.supervisor(parameters(models[1], context=2048, slots=32), Role.SERVER)
            await use(small)
            error = await refusal(large)
            assert isinstance(error, EngineUnavailable)
            assert "of memory, the budget is 80 MiB" in str(error)
            assert small.state is ChildState.WARM

    run(scene())


def test_all_who_wait_for_room_get_one_outcome(models: list[Path]) -> None:
    """The waits do not add up, and a model without room is down, not crashed."""

    async def scene() -> None:
        async with fleet(budget_bytes=80 * MIB) as made:
            a, b, _ = members(made, models)
            async with a.lease():
                async with asyncio.timeout(6 * QUICK.room_s):
                    errors = await asyncio.gather(*(refusal(b) for _ in range(12)))
                assert {type(error) for error in errors} == {EngineOverloaded}
                assert b.state is ChildState.DOWN
            await use(b)

    run(scene())


def test_without_a_budget_models_share_the_machine(models: list[Path]) -> None:
    """Pages of a loaded file count as available memory, but they are taken."""
    reading = Memory(total=194 * MIB, available=8 << 30)

    async def scene() -> None:
        async with fleet(memory=lambda: reading) as made:
            a, b, c = supervisors = members(made, models)
            await use(a, b, c)
            assert states(supervisors) == ["down", "warm", "warm"]
            async with b.lease(), c.lease():
                assert isinstance(await refusal(a), EngineOverloaded)

    run(scene())


def test_idle_models_leave_when_the_machine_is_short_of_memory(models: list[Path]) -> None:
    """Those in use stay; the others go, one after the other, until there is enough."""
    reading = Memory(total=8 << 30, available=8 << 30)

    async def scene() -> None:
        nonlocal reading
        async with fleet(memory=lambda: reading, look_s=0.05) as made:
            a, b, c = supervisors = members(made, models)
            await use(a, b, c)
            async with b.lease():
                reading = Memory(total=8 << 30, available=10 << 20)
                await until(lambda: states(supervisors)[::2] == ["down", "down"])
                assert b.in_flight == 1
                assert isinstance(await refusal(a), EngineOverloaded)

    run(scene())


def test_idle_models_are_unloaded(models: list[Path]) -> None:
    """After the fleet's idle time there is no process left."""

    async def scene() -> None:
        async with fleet(idle_s=0.1) as made:
            a, b, _ = supervisors = members(made, models)
            await use(a)
            pid = pid_of(a)
            await use(b)
            await until(lambda: states(supervisors) == ["down"] * 3)
            assert not running(pid)
            assert made.loaded_bytes == 0

    run(scene())


def test_two_models_that_start_together_keep_the_budget(models: list[Path]) -> None:
    """Room that is promised to a model that is still loading is not given away again."""

    async def scene() -> None:
        options = msgspec.structs.replace(QUICK, room_s=10.0)
        async with fleet(budget_bytes=80 * MIB, options=options) as made:
            a, b, c = members(made, models)
            await asyncio.gather(use(a), use(b), use(c))
            assert 0 < made.loaded_bytes <= 80 * MIB

    run(scene())


def test_closing_ends_all_children(models: list[Path]) -> None:
    """No process is left, and closing again is no error."""

    async def scene() -> None:
        made = Fleet(options=QUICK)
        a, b, _ = members(made, models)
        await use(a, b)
        pids = [pid_of(a), pid_of(b)]
        await made.aclose()
        await made.aclose()
        assert not any(running(pid) for pid in pids)
        assert "was closed" in str(await refusal(a))

    run(scene())
