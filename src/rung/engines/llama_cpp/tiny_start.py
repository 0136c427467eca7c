"""Measures what a process of the embedded engine takes beside a model, by starting it with the smallest there is."""

from __future__ import annotations

from rung.engines.llama_cpp.build import engine_build
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.models.fit.measured import Measurements
from rung.starter import model_path

_CONTEXT = 512


async def process_reserve(measurements: Measurements) -> int | None:
    """Bytes that a process takes beside its model, measured now unless it was measured before.

    Args:
        measurements: where it is looked for and kept.

    Returns:
        None where it cannot be measured: the engine is not installed, or the system does not tell.

    Raises:
        EngineError: the engine does not start here.
    """
    build = engine_build()
    if build is None:
        return None
    if measurements.process_reserve(build) is None:
        parameters = ModelParameters(path=str(model_path()), context=_CONTEXT, slots=1)
        supervisor = Supervisor(parameters, Role.SERVER, measurements=measurements)
        try:
            async with supervisor.lease():
                pass
        finally:
            await supervisor.aclose()
    return measurements.process_reserve(build)
