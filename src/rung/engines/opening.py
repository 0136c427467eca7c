"""From a rung's settings to the engine that runs it. Each engine is imported only when a rung names it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rung.config import STARTER, EngineName, RungSettings, Settings
from rung.engines.pins import Pins
from rung.engines.protocol import Engine
from rung.errors import ConfigError, ModelError
from rung.models.metadata import read_metadata

if TYPE_CHECKING:
    from rung.engines.llama_cpp.fleet import Fleet


class Engines:
    """Opens the engines of a project and owns what they share: the processes that embedded models run in.

    Args:
        settings: of the project.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[tuple[str, str], Engine] = {}
        self._shared_fleet: Fleet | None = None
        self._pins = Pins(settings.root)

    def get(self, rung: RungSettings, task: str) -> Engine:
        """The engine of `rung` for `task`, the same each time; nothing is connected or loaded before its first call.

        Raises:
            ConfigError: the rung's settings do not say enough, or the project's lock is damaged.
            ModelError: its model is a reference that is not pinned.
        """
        # a rung whose model depends on the task has one engine per task
        key = rung.name, task if "{task}" in rung.model else ""
        if key not in self._open:
            self._open[key] = self._opened(rung, task)
        return self._open[key]

    async def aclose(self) -> None:
        """Close every engine, then end the processes that embedded models ran in; one's failure stops no other's."""
        async with contextlib.AsyncExitStack() as stack:
            if self._shared_fleet is not None:
                stack.push_async_callback(self._shared_fleet.aclose)
                self._shared_fleet = None
            while self._open:
                _, engine = self._open.popitem()
                stack.push_async_callback(engine.aclose)

    def _opened(self, rung: RungSettings, task: str) -> Engine:
        openers: dict[EngineName, Callable[[RungSettings, str], Engine]] = {
            EngineName.STUDENT: self._student,
            EngineName.LLAMA_CPP: self._llama_cpp,
            EngineName.OPENAI: self._openai,
            EngineName.REPLAY: self._replay,
        }
        return openers[rung.engine](rung, task)

    def _student(self, rung: RungSettings, task: str) -> Engine:
        from rung.engines.student.engine import StudentEngine  # noqa: PLC0415

        return StudentEngine(self._settings.path(rung.model.format(task=task)))

    def _llama_cpp(self, rung: RungSettings, task: str) -> Engine:
        from rung.engines.llama_cpp.digests import files_of  # noqa: PLC0415
        from rung.engines.llama_cpp.engine import LlamaCppEngine  # noqa: PLC0415 - aiohttp
        from rung.engines.llama_cpp.parameters import parameters_of  # noqa: PLC0415
        from rung.starter import NAME, model_path, training_digests  # noqa: PLC0415

        path = model_path() if rung.model == STARTER else self._pins.path(rung)
        known = (
            _model_name(path) == NAME
        )  # a quantised copy keeps the name, and knows the same rows by heart
        parameters = parameters_of(path, rung.load, root=self._settings.root)
        return LlamaCppEngine(
            self._fleet(),
            parameters,
            prompt=rung.prompt,
            adapter=rung.adapter,
            temperature=rung.temperature,
            seed=rung.seed,
            timeouts=rung.timeouts,
            limits=rung.limits,
            training_digests=training_digests if known else None,
            pins=self._pins.files(files_of(parameters)),
        )

    def _openai(self, rung: RungSettings, task: str) -> Engine:
        from rung.engines.openai.engine import OpenAIEngine  # noqa: PLC0415 - aiohttp takes 100 ms

        return OpenAIEngine(rung)

    def _replay(self, rung: RungSettings, task: str) -> Engine:
        from rung.engines.replay import ReplayEngine  # noqa: PLC0415

        if rung.recording is None or rung.replays is None:
            raise ConfigError(f"rungs.{rung.name}: a replay rung needs 'recording' and 'replays'")
        inner = self._opened(self._settings.rungs[rung.replays], task)
        return ReplayEngine(inner, self._settings.path(rung.recording), rung.mode)

    def _fleet(self) -> Fleet:
        if self._shared_fleet is None:
            from rung.engines.llama_cpp.fleet import Fleet  # noqa: PLC0415 - psutil
            from rung.models.fit.measured import Measurements  # noqa: PLC0415 - only with a fleet

            embedded = self._settings.embedded
            budget = embedded.memory_mib * 2**20 if embedded.memory_mib is not None else None
            self._shared_fleet = Fleet(
                budget_bytes=budget, idle_s=embedded.idle_s, measurements=Measurements()
            )
        return self._shared_fleet


def _model_name(path: Path) -> str | None:
    """What a GGUF file calls its model; None where it says nothing or cannot be read, which loading will tell."""
    try:
        entry = read_metadata(path).get("general.name")
    except ModelError:
        return None
    return entry.value if entry is not None and isinstance(entry.value, str) else None
