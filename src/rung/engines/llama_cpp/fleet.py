"""Several models within one memory budget: who may be loaded, and who has to leave.

The one that was used longest ago leaves first, and never one that is in use. Each model's own child is `supervisor`'s.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from rung.engines.llama_cpp.lease import ChildState
from rung.engines.llama_cpp.options import SupervisorOptions
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.preflight import size_text
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.errors import EngineOverloaded, EngineUnavailable
from rung.models.fit.measured import Measurements
from rung.models.hardware.memory import MemoryReading, read_memory

_MIB = 1024 * 1024
_LOOK_S = 5.0


class Fleet:
    """The models of one process.

    Args:
        budget_bytes: estimated memory that all loaded models may take together; None for what the machine has free.
        idle_s: seconds without a request until a model is unloaded.
        options: patience of the supervisors; its `idle_s` gives way to the one above.
        memory: reads the machine's memory.
        look_s: seconds between two looks at the machine's memory.
        measurements: what models took here before, and where what these take is kept; None for neither.
    """

    def __init__(
        self,
        *,
        budget_bytes: int | None = None,
        idle_s: float = 300.0,
        options: SupervisorOptions = SupervisorOptions(),  # noqa: B008  # frozen
        memory: MemoryReading = read_memory,
        look_s: float = _LOOK_S,
        measurements: Measurements | None = None,
    ) -> None:
        self._budget = budget_bytes
        self._options = msgspec.structs.replace(options, idle_s=idle_s)
        self._memory = memory
        self._look_s = look_s
        self._measurements = measurements
        self._supervisors: dict[tuple[ModelParameters, Role], Supervisor] = {}
        self._gate = asyncio.Lock()
        self._room = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def supervisor(self, parameters: ModelParameters, role: Role) -> Supervisor:
        """The supervisor of a model; equal arguments get the same one."""
        if (found := self._supervisors.get((parameters, role))) is None:
            found = Supervisor(
                parameters,
                role,
                self._options,
                admission=self,
                memory=self._memory,
                measurements=self._measurements,
            )
            self._supervisors[parameters, role] = found
        return found

    @property
    def loaded_bytes(self) -> int:
        """Estimated memory of all models that are loaded or being loaded."""
        return sum(supervisor.memory_bytes for supervisor in self._supervisors.values())

    async def admit(self, model: str, needed: int) -> None:
        """Make room for a model: unload idle ones, wait a while for busy ones.

        Args:
            model: name for messages.
            needed: estimated bytes.

        Raises:
            EngineUnavailable: it is larger than the budget.
            EngineOverloaded: the models in use leave no room, or something else has taken the machine's memory.
        """
        if self._budget is not None and needed > self._budget:
            raise EngineUnavailable(
                f"{model} needs about {size_text(needed)} of memory, the budget is "
                f"{size_text(self._budget)}",
                hint="raise the budget, or choose a smaller model or a shorter context",
            )
        try:
            async with asyncio.timeout(self._options.room_s):
                while not await self._made_room(needed):
                    if sum(s.in_use for s in self._supervisors.values()) < 2:  # the one that asks
                        raise TimeoutError  # nothing of ours will make room
                    await self._room.wait()
        except TimeoutError:
            raise EngineOverloaded(
                f"{model} needs about {size_text(needed)} of memory, and only "
                f"{size_text(max(0, self._free()))} are free beside the models in use",
                hint="try again later, raise the budget, or choose smaller models",
            ) from None
        self._look()

    def most(self) -> int:
        """Bytes that one model may ever take: the budget, or any number."""
        return sys.maxsize if self._budget is None else self._budget

    def changed(self) -> None:
        """A lease ended or a child is gone: those who wait for room look again."""
        self._room.set()

    async def aclose(self) -> None:
        """End all children; safe to call twice."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
            self._looking = None
        await asyncio.gather(*(supervisor.aclose() for supervisor in self._supervisors.values()))

    async def _made_room(self, needed: int) -> bool:
        """Unload idle models until there is room; False when those left are all in use."""
        async with self._gate:
            self._room.clear()
            while self._free() < needed:
                if not await self._unload_one("another model needed its memory"):
                    return False
            return True

    async def _unload_one(self, because: str) -> bool:
        """Unload the idle model that was used longest ago, if there is one."""
        idle = [s for s in self._supervisors.values() if s.memory_bytes and not s.in_use]
        if not idle:
            return False
        await min(idle, key=lambda supervisor: supervisor.last_used).unload(because)
        return True

    def _free(self) -> int:
        """Bytes that another model may take: of the budget, and of the machine above its floor."""
        memory = self._memory()
        # A model that is being loaded has not taken its memory yet.
        coming = sum(
            s.memory_bytes for s in self._supervisors.values() if s.state is ChildState.LOADING
        )
        available = memory.available - coming
        # Weights are mapped files, whose pages count as available: what is loaded is counted as well.
        machine = min(available, memory.total - self.loaded_bytes) - _floor(memory.total)
        return machine if self._budget is None else min(machine, self._budget - self.loaded_bytes)

    def _look(self) -> None:
        """Watch the machine's memory from now on, while any model is loaded."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._relieve())

    async def _relieve(self) -> None:
        """Unload idle models while the machine is short of memory."""
        while True:
            await asyncio.sleep(self._look_s)
            if not self.loaded_bytes:
                return
            memory = self._memory()
            if memory.available < _floor(memory.total):
                await self._unload_one("the machine is short of memory")


def _floor(total: int) -> int:
    """Bytes of the machine's memory that models leave to everything else."""
    return min(max(total // 32, 64 * _MIB), 1024 * _MIB)
