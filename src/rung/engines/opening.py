"""From a rung's settings to the engine that runs it. Each engine is imported only when a rung names it."""

from __future__ import annotations

from collections.abc import Callable

from rung.config import EngineName, RungSettings, Settings
from rung.engines.protocol import Engine
from rung.errors import ConfigError


def open_engine(settings: Settings, rung: RungSettings, task: str) -> Engine:
    """The engine of `rung` for `task`; nothing is connected or loaded before its first call.

    Raises:
        ConfigError: the rung's settings do not say enough.
    """
    return _OPENERS[rung.engine](settings, rung, task)


def engine_key(rung: RungSettings, task: str) -> tuple[str, str]:
    """Engines with equal keys are one engine: a rung whose model depends on the task has one per task."""
    return rung.name, task if "{task}" in rung.model else ""


def _student(settings: Settings, rung: RungSettings, task: str) -> Engine:
    from rung.engines.student.engine import StudentEngine  # noqa: PLC0415

    return StudentEngine(settings.path(rung.model.format(task=task)))


def _openai(settings: Settings, rung: RungSettings, task: str) -> Engine:
    from rung.engines.openai.engine import OpenAIEngine  # noqa: PLC0415 - aiohttp takes 100 ms

    return OpenAIEngine(rung)


def _replay(settings: Settings, rung: RungSettings, task: str) -> Engine:
    from rung.engines.replay import ReplayEngine  # noqa: PLC0415

    if rung.recording is None or rung.replays is None:
        raise ConfigError(f"rungs.{rung.name}: a replay rung needs 'recording' and 'replays'")
    inner = open_engine(settings, settings.rungs[rung.replays], task)
    return ReplayEngine(inner, settings.path(rung.recording), rung.mode)


_OPENERS: dict[EngineName, Callable[[Settings, RungSettings, str], Engine]] = {
    EngineName.STUDENT: _student,
    EngineName.OPENAI: _openai,
    EngineName.REPLAY: _replay,
}
