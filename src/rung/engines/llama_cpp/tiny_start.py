"""Measures what a process of the embedded engine takes beside a model, by asking the smallest one there is.

A process takes several MiB more once it has answered, so it is asked for an answer before it is looked at.
"""

from __future__ import annotations

from rung.engines.llama_cpp.build import engine_build
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.fleet import Fleet
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.protocol import GenerateRequest
from rung.models.fit.measured import Measurements
from rung.starter import model_path
from rung.task import Message

_CONTEXT = 512
_LONG = GenerateRequest(messages=(Message("user", "word " * 300),), max_tokens=8, logprobs=True)


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
        fleet = Fleet(measurements=measurements)
        engine = LlamaCppEngine(fleet, parameters)
        try:
            await engine.generate(_LONG)
        finally:
            await engine.aclose()
            await fleet.aclose()
    return measurements.process_reserve(build)
