"""How much memory a loaded model will take, before it is loaded: `models.fit`'s estimate for the embedded engine.

From it follows what the child is never to exceed, which has to be generous: a limit that is met ends a child that
works.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path

from rung.config import FlashAttention
from rung.engines.llama_cpp.build import engine_build
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.errors import InputError, ModelError
from rung.models.fingerprint import fingerprint
from rung.models.fit.demand import PROCESS
from rung.models.fit.estimate import estimate
from rung.models.fit.measured import SCORER, SERVER, Measurements, model_key
from rung.models.fit.model import model_of
from rung.models.fit.run import Run
from rung.models.hardware.machine import Device, DeviceKind, Machine
from rung.models.header import Header

_RESERVED_BYTES = 1024 * 1024 * 1024
"""Address space of a child with a small model: libraries, allocator, interpreter; 370 to 780 MiB measured."""

_STACK_BYTES = 8 * 1024 * 1024
_TENSORS_PER_LAYER = 16  # each is checked by a thread of its own while it is loaded
_SEQUENCES = 65  # of a SCORER; `scoring.scorer` needs numpy, which is not loaded for this
_ROLES = {Role.SERVER: SERVER, Role.SCORER: SCORER}


def run_of(parameters: ModelParameters, role: Role) -> Run:
    """The parameters as `models.fit` has them."""
    scores = role is Role.SCORER
    slots = _SEQUENCES if scores else parameters.slots
    return Run(
        context=parameters.context * (1 if scores else slots),
        slots=slots,
        unified=scores,
        type_k=parameters.kv_type.value,
        type_v=parameters.kv_type.value,
        flash_attention=parameters.flash_attention is not FlashAttention.OFF,
        ubatch=parameters.batch_tokens,
        batch=parameters.context if scores else parameters.batch_tokens,
        gpu_layers=parameters.gpu_layers,
        swa_full=scores,
    )


class Footprint:
    """What one model will take.

    Args:
        headers: of every part of the model, in order.
        parameters: how it is loaded.
        role: by which program.
        measurements: what was measured here before takes the place of rules; None for rules alone.

    Raises:
        ModelError: a number that memory depends on is missing or impossible, or the engine would keep no such heads in
            a cache of that type.

    Attributes:
        key: what the model's measurements are kept under.
        run: the parameters as `models.fit` has them.
        files: bytes of all files that are loaded.
        needed: bytes of memory, all on the host: weights, key-value cache, working memory, the process.
    """

    def __init__(
        self,
        headers: Sequence[Header],
        parameters: ModelParameters,
        role: Role = Role.SERVER,
        measurements: Measurements | None = None,
    ) -> None:
        self._parameters = parameters
        self._model = model_of(headers, Path(parameters.path).name)
        self.key = model_key(*headers)
        self.run = run_of(parameters, role)
        adapters = sum(fingerprint(Path(one.path)).size for one in parameters.adapters)
        self.files = sum(header.size for header in headers) + adapters
        try:
            self.needed = self._estimated(role, measurements) + adapters
        except InputError as error:
            raise ModelError(
                f"the model {self._model.name!r} cannot run so: {error.message}", hint=error.hint
            ) from None

    @property
    def tokenizer(self) -> int:
        """Bytes of the process that are due to the model: its tokenizer's tables grow with the vocabulary."""
        return estimate(self._model, self.run, _HOST, reserve=0).part(PROCESS)

    @property
    def limit(self) -> int:
        """Bytes of memory that the model is never to exceed: the estimate with a margin.

        The margin holds what other models or builds were seen to need: the logits of a whole batch, and the whole
        attention matrix of a model without flash attention.
        """
        shape, run = self._model.shape, self.run
        floats = shape.vocabulary + run.context * shape.heads
        return self.needed * 5 // 4 + 4 * run.ubatch * floats

    @property
    def reserved(self) -> int:
        """Bytes of address space beyond that: the mapped files, and stacks of threads, which are hardly used."""
        threads = (os.cpu_count() or 1) + 2 * self._parameters.threads + self._parameters.slots
        threads += _TENSORS_PER_LAYER * len(self._model.shape.layers)
        stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
        stack = _STACK_BYTES if stack == resource.RLIM_INFINITY else max(stack, _STACK_BYTES)
        return self.files + _RESERVED_BYTES + threads * stack

    def _estimated(self, role: Role, measurements: Measurements | None) -> int:
        measured = process = None
        build = engine_build()
        if measurements is not None and build is not None:
            measured = measurements.find(self.key, self.run, build, role=role_name(role))
            process = measurements.process_reserve(build)
        return estimate(self._model, self.run, _HOST, measured=measured, reserve=process).needed


_HOST = Machine(
    name="this machine",
    devices=(Device(name="RAM", kind=DeviceKind.HOST, backend="cpu", total=0, available=0),),
    detected=False,
)
"""Everything is counted on the host, also what a card might hold; how much there is decides `preflight`."""


def role_name(role: Role) -> str:
    """A role as measurements name it."""
    return _ROLES[role]
