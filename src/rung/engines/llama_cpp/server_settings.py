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


def start(instructions: Instructions) -> xllamacpp.Server:
    """Load the model and open the socket.

    Raises:
        RuntimeError: the engine refused; it wrote the reason to standard error.
    """
    settings = _settings(instructions.parameters)
    settings.hostnames = [instructions.socket]  # its name has to end in .sock
    settings.api_keys = [instructions.key]
    try:
        return xllamacpp.Server(settings)
    except RuntimeError:
        _flush_log()
        raise


def _flush_log() -> None:
    """Let the engine's logging thread write the reason of a failure before the process ends."""
    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    with contextlib.suppress(AttributeError):  # another build: the reason may be lost, nothing else
        log, pause = library._Z15common_log_mainv, library._Z16common_log_pauseP10common_log
        log.restype = ctypes.c_void_p
        pause.argtypes = [ctypes.c_void_p]
        pause(log())


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
    settings.verbosity = _WARNINGS


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
