"""What llama.cpp's server is told about a model.

Imports the engine, so only the child does so, once its limits are set. The settings close what the bare server leaves
open: a key, no listening port, no user interface, no cache that grows to gigabytes, no silent change of what was
asked for.
"""

from __future__ import annotations

import contextlib
import ctypes

import xllamacpp

from rung.config import FlashAttention, KvType, Pooling
from rung.engines.llama_cpp.handshake import Instructions
from rung.engines.llama_cpp.parameters import ModelParameters

_WARNINGS = 2  # llama.cpp's verbosity that keeps errors and warnings
_INFORMATION = 4  # and what it allocates, but also what is asked of it
_MAIN, _THRESHOLD = "_Z15common_log_mainv", "_Z30common_log_set_verbosity_tholdi"
_PAUSE, _RESUME = "_Z16common_log_pauseP10common_log", "_Z17common_log_resumeP10common_log"


def start(instructions: Instructions) -> xllamacpp.Server:
    """Load the model and open the socket.

    Raises:
        RuntimeError: the engine refused; it wrote the reason to standard error.
    """
    settings = _settings(instructions.parameters)
    settings.hostnames = [instructions.socket]  # its name has to end in .sock
    settings.api_keys = [instructions.key]
    log = _Log()
    # Requests come only after this function: nobody else has the key, and who has it waits for the child to be ready.
    settings.verbosity = _INFORMATION if log.can_be_hushed else _WARNINGS
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError:
        log.flush()
        raise
    log.flush()
    log.hush()
    return server


class _Log:
    """The engine's log, by symbols that another build may not have: then it stays as it is, and its end may be lost."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)

    @property
    def can_be_hushed(self) -> bool:
        """Whether it can be made to say less later."""
        return all(hasattr(self._library, name) for name in (_MAIN, _PAUSE, _RESUME, _THRESHOLD))

    def flush(self) -> None:
        """Let the logging thread write what it holds."""
        with contextlib.suppress(AttributeError):
            self._of_log(_PAUSE)
            self._of_log(_RESUME)

    def hush(self) -> None:
        """Keep errors and warnings only from now on."""
        if self.can_be_hushed:
            self._library[_THRESHOLD](_WARNINGS)

    def _of_log(self, name: str) -> None:
        main, function = self._library[_MAIN], self._library[name]
        main.restype = ctypes.c_void_p
        function.argtypes = [ctypes.c_void_p]
        function(main())


def build() -> str:
    """The engine's version, for identities."""
    return f"xllamacpp {xllamacpp.__version__}"


def _settings(parameters: ModelParameters) -> xllamacpp.CommonParams:
    """The engine's settings for a model."""
    settings = xllamacpp.CommonParams()
    settings.model.path = parameters.path
    settings.n_ctx = parameters.context * parameters.slots
    settings.n_parallel = parameters.slots
    settings.n_batch = settings.n_ubatch = parameters.batch_tokens
    settings.cpuparams.n_threads = parameters.threads
    settings.cpuparams_batch.n_threads = parameters.threads
    settings.n_gpu_layers = parameters.gpu_layers
    settings.cache_type_k = settings.cache_type_v = _kv_type(parameters.kv_type)
    settings.flash_attn_type = _flash_attention(parameters.flash_attention)
    settings.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(adapter.path, 0.0) for adapter in parameters.adapters
    ]
    if parameters.pooling is not None:
        settings.embedding = True
        settings.pooling_type = _pooling(parameters.pooling)
    _close_what_is_open(settings)
    return settings


def _close_what_is_open(settings: xllamacpp.CommonParams) -> None:
    """Settings that are the same for every model, each different from the engine's own default or relied upon."""
    settings.fit_params = False  # would shrink the context to fit memory without a word
    settings.ctx_shift = False  # would drop the start of a long prompt
    settings.cache_ram_mib = 0  # of 8192; the slots keep their own prefix, which is what is shared
    settings.cache_idle_slots = False  # needs the cache above
    settings.n_ctx_checkpoints = 4  # of 32 copies of a sliding window's state per slot
    settings.check_tensors = True  # refuses weights that are not numbers
    settings.warmup = True
    settings.ui = False
    settings.offline = True
    settings.endpoint_slots = True
    settings.endpoint_metrics = False
    settings.endpoint_props = False
    settings.cors_origins = ""
    settings.cors_origins_explicit = True


def _kv_type(kind: KvType) -> xllamacpp.ggml_type:
    types = xllamacpp.ggml_type
    return {
        KvType.F16: types.GGML_TYPE_F16,
        KvType.Q8_0: types.GGML_TYPE_Q8_0,
        KvType.Q4_0: types.GGML_TYPE_Q4_0,
    }[kind]


def _flash_attention(setting: FlashAttention) -> xllamacpp.llama_flash_attn_type:
    types = xllamacpp.llama_flash_attn_type
    return {
        FlashAttention.AUTO: types.LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttention.ON: types.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttention.OFF: types.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }[setting]


def _pooling(pooling: Pooling) -> xllamacpp.llama_pooling_type:
    types = xllamacpp.llama_pooling_type
    return {
        Pooling.MEAN: types.LLAMA_POOLING_TYPE_MEAN,
        Pooling.LAST: types.LLAMA_POOLING_TYPE_LAST,
        Pooling.CLS: types.LLAMA_POOLING_TYPE_CLS,
    }[pooling]
