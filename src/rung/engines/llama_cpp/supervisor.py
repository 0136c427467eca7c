"""Starts one model's child when it is needed, hands out its slots in order, and restarts it when it dies.

What is asked of the child over its socket is `client`'s and `scoring`'s; how several models share the memory is
`fleet`'s. A lease is a slot: while it is open the child is neither unloaded nor handed to more callers than it has
slots for. One event loop uses a supervisor at a time.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rung.engines.llama_cpp import watchdog
from rung.engines.llama_cpp.admission import Admission, Anywhere
from rung.engines.llama_cpp.answer import Timings
from rung.engines.llama_cpp.breaker import Breaker
from rung.engines.llama_cpp.folder import SocketFolder
from rung.engines.llama_cpp.handshake import Ready
from rung.engines.llama_cpp.lease import ChildState, Lease
from rung.engines.llama_cpp.observation import Observation
from rung.engines.llama_cpp.options import SupervisorOptions
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.preflight import Loadable, look_at, prints
from rung.engines.llama_cpp.process import ChildProcess
from rung.engines.llama_cpp.role import Role
from rung.errors import (
    EngineError,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    ModelError,
)
from rung.models.fit.measured import Measurements
from rung.models.hardware.memory import MemoryReading, read_memory

__all__ = ["ChildState", "Lease", "Supervisor"]

_EPITAPHS = 64


class _Running:
    """A child that is ready, and its leases."""

    def __init__(
        self,
        child: ChildProcess,
        generation: int,
        loaded: Loadable,
        ready: Ready,
        observation: Observation,
    ) -> None:
        self.child = child
        self.generation = generation
        self.loaded = loaded
        self.ready = ready
        self.observation = observation
        self.leases = 0
        self.warm = False
        self.unloaded = False
        self.suspected = False
        self.watch: asyncio.Task[None] | None = None


class Supervisor:
    """One model's child process.

    Args:
        parameters: the model.
        role: what the child does with it; a SCORER has one slot.
        options: patience.
        admission: who decides what is in memory together; None for nobody.
        memory: reads the machine's memory.
        measurements: what models took here before, and where what this one takes is kept; None for neither.

    Attributes:
        parameters: as given.
        role: as given.
        last_used: `time.monotonic()` of the last lease's end.
    """

    def __init__(
        self,
        parameters: ModelParameters,
        role: Role,
        options: SupervisorOptions = SupervisorOptions(),  # noqa: B008  # frozen
        *,
        admission: Admission | None = None,
        memory: MemoryReading = read_memory,
        measurements: Measurements | None = None,
    ) -> None:
        self.parameters = parameters
        self.role = role
        self.last_used = time.monotonic()
        self._options = options
        self._admission = admission or Anywhere()
        self._memory = memory
        self._measurements = measurements
        self._breaker = Breaker(options)
        self._running: _Running | None = None
        self._starting: asyncio.Task[_Running] | None = None
        self._needed = 0
        self._generation = 0
        self._crashed = False
        self._closed = False
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._epitaphs: collections.OrderedDict[int, str] = collections.OrderedDict()
        self._folder = SocketFolder()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed_prints: object = None
        self._failures = 0
        self._failure: EngineError | None = None

    @property
    def slots(self) -> int:
        """Leases that can be open at once."""
        return self.parameters.slots if self.role is Role.SERVER else 1

    @property
    def state(self) -> ChildState:
        """How the child is now."""
        running = self._alive()
        if running is not None:
            if running.leases >= self.slots:
                return ChildState.SATURATED
            return ChildState.WARM if running.warm else ChildState.COLD
        if self._starting is not None:
            return ChildState.LOADING
        return ChildState.CRASHED if self._crashed else ChildState.DOWN

    @property
    def in_flight(self) -> int:
        """Open leases of the running child."""
        return self._running.leases if self._running is not None else 0

    @property
    def in_use(self) -> bool:
        """Whether somebody holds a lease, waits for one, or the child is being started."""
        return bool(self.in_flight or self._waiting or self._starting is not None)

    @property
    def memory_bytes(self) -> int:
        """Estimated memory of the child, 0 where there is none."""
        return self._needed

    @property
    def ready(self) -> Ready | None:
        """What the running child said of itself."""
        return self._running.ready if self._running is not None else None

    @property
    def observation(self) -> Observation | None:
        """What the running child was seen to take."""
        return self._running.observation if self._running is not None else None

    @property
    def pid(self) -> int | None:
        """Process number of the running child."""
        return self._running.child.pid if self._running is not None else None

    @property
    def reason(self) -> str:
        """Why the last child died or failed to start; empty when none did."""
        return self._breaker.reason

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """A slot of the child, which is started when there is none; slots are given in the order of asking.

        A context that ends without an exception counts as an answer: the child works. A SCORER whose caller gave up
        is not lent again before it has shown that it still turns; one that does not is ended.

        Raises:
            EngineUnavailable: the model cannot be loaded, or its child died too often lately; with the reason.
            EngineOverloaded: too many wait already, or other models in use leave no memory.
        """
        running = await self._acquire()
        try:
            yield Lease(running.child.socket, running.child.key, running.generation)
            running.warm = True
            self._breaker.answered()
        except (EngineTimeout, TimeoutError, asyncio.CancelledError):
            if self.role is Role.SCORER:
                self._suspect(running)
            raise
        finally:
            self._release(running)

    def epitaph(self, lease: Lease) -> str | None:
        """One sentence why the child of a lease is gone, None while it lives."""
        running = self._running
        if running is not None and running.generation == lease.generation:
            return running.child.epitaph()
        return self._epitaphs.get(lease.generation, "the engine process is gone")

    async def death(self, lease: Lease, *, within_s: float = 1.0) -> str | None:
        """Like `epitaph`, but waits a moment: a broken connection is often seen before the end of its process."""
        running = self._running
        if running is not None and running.generation == lease.generation:
            await running.child.gone(within_s=within_s)
        return self.epitaph(lease)

    async def kill(self, lease: Lease, reason: str) -> None:
        """End the child of a lease, because its caller found it stuck; the next lease starts a new one.

        Args:
            lease: one of the child's; one of an earlier child is passed over.
            reason: completes "the engine process was ended because …".
        """
        running = self._running
        if running is not None and running.generation == lease.generation:
            running.child.kill(reason)
            await running.child.gone()
            self._note_exit(running)

    def answered_in(self, lease: Lease, timings: Timings) -> None:
        """Learn how fast the child of a lease answered, where nobody else made it slower meanwhile."""
        running = self._running
        if running is not None and running.generation == lease.generation and running.leases == 1:
            running.observation.answered(timings)

    async def unload(self, because: str) -> bool:
        """End the child to free its memory, unless it is in use.

        Returns:
            Whether there is no child now.
        """
        running = self._alive()
        if self.in_use:
            return False
        if running is not None:
            await self._end(running, because)
        return True

    async def aclose(self) -> None:
        """End the child and remove its folder; open leases get the epitaph. Safe to call twice."""
        self._closed = True
        self._stop_idling()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._running is not None:
            await self._end(self._running, "its supervisor was closed")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._freed.set()
        self._folder.remove()

    async def _acquire(self) -> _Running:
        """Wait for a turn, a child and a slot."""
        self._bind()
        if self._waiting >= self._options.queue:
            raise EngineOverloaded(
                f"{self._waiting} requests wait for the {self.slots} slots of {self._name}",
                hint="send fewer at once, or give the model more slots",
            )
        self._waiting += 1
        self._stop_idling()
        seen = self._failures
        try:
            async with self._turn:
                while True:
                    running = await self._current(seen)
                    if running.leases < self.slots:
                        self._lend(running)
                        return running
                    await self._wait_for_change()
        finally:
            self._waiting -= 1
            self._idle_from_now()
            self._admission.changed()

    def _bind(self) -> None:
        """Hold on to the loop that is used first: locks and tasks belong to it."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise EngineUnavailable(
                f"the engine process of {self._name} belongs to another event loop",
                hint="use one loop, and await aclose() before it ends",
            )

    async def _current(self, seen: int) -> _Running:
        """The child as it should be: alive, and of the file that is there now.

        Args:
            seen: failed starts when the caller began to wait; one that failed since then was also for them.
        """
        while (running := self._alive()) is not None:
            if running.child.ended_because is not None:
                await running.child.gone()
                self._note_exit(running)
            elif (outdated := self._outdated(running)) is None:
                return running
            elif running.leases:
                await self._wait_for_change()
            else:
                await self._end(running, outdated)
        if self._closed:
            raise EngineUnavailable(f"{self._name} was closed")
        if self._failure is not None and self._failures > seen:
            raise type(self._failure)(self._failure.message, hint=self._failure.hint)
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        starting = self._starting
        await asyncio.wait({starting})  # a caller who leaves does not end it
        if starting.cancelled():
            raise EngineUnavailable(f"{self._name} was closed")
        return starting.result()

    def _outdated(self, running: _Running) -> str | None:
        """Why a living child is not to be used any more; a removed file matters only when it is to be loaded again."""
        now = prints(self.parameters)
        if now is not None and now != running.loaded.prints:
            return "its model file was replaced"
        return None if Path(running.child.socket).exists() else "its socket was removed"

    async def _start(self) -> _Running:
        """Start a child and wait until it is ready.

        Raises:
            EngineUnavailable: it cannot be loaded, or not now.
            EngineOverloaded: there is no room.
        """
        if self._failed_prints is not None and self._failed_prints != prints(self.parameters):
            self._breaker, self._failed_prints = Breaker(self._options), None
        self._check_breaker()
        try:
            loadable = await asyncio.to_thread(
                look_at, self.parameters, self._memory, self.role, self._measurements
            )
        except ModelError as error:
            self._breaker.reason = error.message
            raise EngineUnavailable(error.message, hint=error.hint) from error
        await self._admission.admit(self._name, loadable.footprint.needed)
        self._needed = loadable.footprint.needed
        try:
            await asyncio.sleep(self._breaker.pause(time.monotonic()))
            return await self._launch(loadable)
        except BaseException:
            self._needed = 0
            self._admission.changed()
            raise

    async def _launch(self, loadable: Loadable) -> _Running:
        """Start the process; it is ended when it is not ready in time or this is cancelled."""
        self._generation += 1
        child = ChildProcess(
            self.parameters,
            self.role,
            folder=self._folder.path(),
            generation=self._generation,
            address_space=self._address_space(loadable),
        )
        try:
            if await child.loaded(within_s=self.parameters.start_s):
                return self._adopt(child, loadable)
            child.kill(f"it was not ready after {self.parameters.start_s:g} s")
        except asyncio.CancelledError:
            child.kill("its supervisor was closed")
            raise
        finally:
            if self._running is None:
                await child.gone()
        why = child.epitaph() or ""
        self._failed_prints = loadable.prints
        self._breaker.failed_to_start(time.monotonic(), why)
        raise EngineUnavailable(
            f"{self._name} could not be loaded: {why}",
            hint="check that the file is whole and made for this engine",
        )

    def _address_space(self, loadable: Loadable) -> int | None:
        """Bytes of address space for the child; any for a GPU's driver, which maps far more than it uses."""
        if self.parameters.gpu_layers:
            return None
        footprint = loadable.footprint
        if self.parameters.memory_mib is not None:
            return footprint.files + self.parameters.memory_mib * 1024 * 1024
        most = min(footprint.limit, self._admission.most(), self._memory().total)
        return most + footprint.reserved

    def _adopt(self, child: ChildProcess, loadable: Loadable) -> _Running:
        """The child is ready: from here on its end is a crash."""
        ready = child.ready.result()
        observation = Observation(
            child, ready.build, loadable.footprint, self.role, self._measurements
        )
        running = _Running(child, self._generation, loadable, ready, observation)
        self._running = running
        self._crashed = False
        loop = asyncio.get_running_loop()

        def exited(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(self._note_exit, running)

        child.exited.add_done_callback(exited)
        return running

    def _started(self, task: asyncio.Task[_Running]) -> None:
        """The start came to its end, good or bad."""
        self._starting = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, EngineError):
            self._failures += 1
            self._failure = error
        if error is not None and not isinstance(error, EngineOverloaded):
            self._crashed = True  # without room nothing was tried
        self._idle_from_now()

    def _check_breaker(self) -> None:
        wait = self._breaker.refused_for(time.monotonic())
        if wait > 0:
            raise EngineUnavailable(
                f"{self._name} is not started again for another {wait:.0f} s after it failed: "
                f"{self._breaker.reason}",
                hint="mend the reason; it is tried again by itself after that time",
            )

    def _lend(self, running: _Running) -> None:
        running.leases += 1
        if running.watch is None:
            running.watch = asyncio.create_task(
                watchdog.watch(running.child, self.role, self._options)
            )
            self._keep(running.watch)

    def _suspect(self, running: _Running) -> None:
        """Find out whether a child whose caller gave up is slow or stuck; its slot is not lent meanwhile."""
        if self._running is running and not running.suspected:
            running.suspected = True
            running.leases += 1
            self._keep(asyncio.create_task(self._end_if_stuck(running)))

    async def _end_if_stuck(self, running: _Running) -> None:
        try:
            if not await watchdog.turns(running.child, self._options.unresponsive_s):
                running.child.kill(f"it did not answer for {self._options.unresponsive_s:g} s")
                await running.child.gone()
                self._note_exit(running)
        finally:
            running.suspected = False
            self._release(running)

    def _release(self, running: _Running) -> None:
        running.leases -= 1
        self.last_used = time.monotonic()
        if running.observation.look():
            self._keep(asyncio.create_task(asyncio.to_thread(running.observation.keep)))
        if running.leases == 0 and running.watch is not None:
            running.watch.cancel()
            running.watch = None
            self._idle_from_now()
        self._freed.set()
        self._admission.changed()

    async def _wait_for_change(self) -> None:
        """Wait until a lease ends or the child does."""
        self._freed.clear()
        await self._freed.wait()

    def _alive(self) -> _Running | None:
        """The running child; one that died since the last look is noted."""
        if self._running is not None and not self._running.child.alive:
            self._note_exit(self._running)
        return self._running

    def _note_exit(self, running: _Running) -> None:
        """A child that had been ready is gone; noted once, however it is noticed."""
        if self._running is not running:
            return
        self._running = None
        self._needed = 0
        self._epitaphs[running.generation] = why = running.child.epitaph() or "it is gone"
        while len(self._epitaphs) > _EPITAPHS:
            self._epitaphs.popitem(last=False)
        if not running.unloaded:
            self._crashed = True
            self._breaker.crashed(time.monotonic(), why)
        self._freed.set()
        self._admission.changed()

    async def _end(self, running: _Running, because: str) -> None:
        """End a child on purpose and wait until its memory is free."""
        running.unloaded = True
        worth_keeping = running.observation.look(now=True)
        running.child.kill(because)
        await running.child.gone()
        self._note_exit(running)
        if worth_keeping:
            await asyncio.to_thread(running.observation.keep)

    def _idle_from_now(self) -> None:
        """Unload after a while, unless somebody asks before."""
        self._stop_idling()
        if self._running is None or self._closed or self.in_use:
            return
        if self._options.idle_s is not None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._options.idle_s, self._unload_idle)

    def _unload_idle(self) -> None:
        self._keep(asyncio.create_task(self._unload_quietly()))

    async def _unload_quietly(self) -> None:
        await self.unload("it was idle")

    def _stop_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task for its life."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def _name(self) -> str:
        return f"the model {Path(self.parameters.path).name!r}"
