"""The few calls of llama.cpp's C API that scoring needs, through the symbols the engine's library exports.

The only module with C structs. They belong to one exact version (`availability`); beyond that, the defaults the
library itself writes into them must be those of the layout stated here, field by field. Runs in the scoring child
only. What a call means for labels is `scorer`'s business.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from ctypes import c_bool, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_void_p
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from rung.config import FlashAttention, KvType
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.scoring.availability import (
    LIBRARY,
    ScorerUnavailable,
    check_version,
)
from rung.errors import ModelError

Tokens = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]

_KV_TYPES = {KvType.F16: 1, KvType.Q4_0: 2, KvType.Q8_0: 8}
_FLASH = {FlashAttention.AUTO: -1, FlashAttention.OFF: 0, FlashAttention.ON: 1}
_ABORTED = 2
_INFORMATION = 2
_LOUD = {3: b"W", 4: b"E"}  # 5 continues a line, of progress dots
_BUFFER = b" buffer size = "


class ModelParams(ctypes.Structure):
    """`llama_model_params`."""

    _fields_: ClassVar = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    ]


class ContextParams(ctypes.Structure):
    """`llama_context_params`."""

    _fields_: ClassVar = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


_MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1}
_MODEL_DEFAULTS |= {"use_extra_bufts": True}
_CONTEXT_DEFAULTS = {"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1}
_CONTEXT_DEFAULTS |= {"n_outputs_max_per_seq": 1, "n_threads": 4, "n_threads_batch": 4}
_CONTEXT_DEFAULTS |= {"rope_scaling_type": -1, "pooling_type": -1, "attention_type": -1}
_CONTEXT_DEFAULTS |= {"flash_attn_type": -1, "yarn_ext_factor": -1, "yarn_attn_factor": -1}
_CONTEXT_DEFAULTS |= {"yarn_beta_fast": -1, "yarn_beta_slow": -1, "defrag_thold": -1}
_CONTEXT_DEFAULTS |= {"type_k": 1, "type_v": 1, "offload_kqv": True, "no_perf": True}
_CONTEXT_DEFAULTS |= {"op_offload": True, "swa_full": True}
"""What the library writes that is not zero or null."""


class _Batch(ctypes.Structure):
    _fields_: ClassVar = [
        ("n_tokens", c_int32),
        ("token", c_void_p),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", c_void_p),
    ]


_Abort = ctypes.CFUNCTYPE(c_bool, c_void_p)
_Log = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_Log, c_void_p]),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_model_has_encoder": (c_bool, [c_void_p]),
    "llama_model_has_decoder": (c_bool, [c_void_p]),
    "llama_model_is_recurrent": (c_bool, [c_void_p]),
    "llama_model_is_hybrid": (c_bool, [c_void_p]),
    "llama_model_is_diffusion": (c_bool, [c_void_p]),
    "llama_model_chat_template": (c_char_p, [c_void_p, c_char_p]),
    "llama_model_meta_count": (c_int32, [c_void_p]),
    "llama_model_meta_key_by_index": (c_int32, [c_void_p, c_int32, c_char_p, c_size_t]),
    "llama_model_meta_val_str_by_index": (c_int32, [c_void_p, c_int32, c_char_p, c_size_t]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_tokenize": (
        c_int32,
        [c_void_p, c_char_p, c_int32, c_void_p, c_int32, c_bool, c_bool],
    ),
    "llama_adapter_lora_init": (c_void_p, [c_void_p, c_char_p]),
    "llama_set_adapters_lora": (c_int32, [c_void_p, c_void_p, c_size_t, c_void_p]),
    "llama_set_abort_callback": (None, [c_void_p, _Abort, c_void_p]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_memory_seq_rm": (c_bool, [c_void_p, c_int32, c_int32, c_int32]),
    "llama_memory_seq_cp": (None, [c_void_p, c_int32, c_int32, c_int32, c_int32]),
    "llama_decode": (c_int32, [c_void_p, _Batch]),
    "llama_get_logits_ith": (ctypes.POINTER(c_float), [c_void_p, c_int32]),
}


class Interrupted(Exception):
    """An evaluation was given up because nobody waits for it."""


class EvaluationFailed(Exception):
    """The library could not evaluate a batch; its memory has been cleared."""


class Vocabulary(msgspec.Struct, frozen=True):
    """What of a model's vocabulary a caller needs.

    Attributes:
        size: tokens.
        ends: end-of-generation tokens, ascending.
        bos: the token texts begin with, -1 for none.
        add_bos: whether prompts should begin with it.
    """

    size: int
    ends: tuple[int, ...]
    bos: int
    add_bos: bool


class Run(msgspec.Struct, frozen=True):
    """Consecutive tokens of one sequence in an evaluation.

    Attributes:
        sequence: which.
        start: position of the first token.
        tokens: what is added.
        answer: whether the next-token logits after the last one are wanted.
    """

    sequence: int
    start: int
    tokens: Sequence[int]
    answer: bool = True


def open_library() -> Any:  # a ctypes library: its functions are known by name only
    """The engine's library with the signatures this module states.

    Raises:
        ScorerUnavailable: another version, a missing symbol, or structs that are laid out otherwise.
    """
    check_version(importlib.metadata.version(LIBRARY))
    import xllamacpp.xllamacpp as extension  # noqa: PLC0415 - 100 MB that only the child needs

    library = ctypes.CDLL(extension.__file__)
    try:
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise ScorerUnavailable(f"the engine's library does not export {name}") from error
    check_layout(library.llama_model_default_params(), _MODEL_DEFAULTS)
    check_layout(library.llama_context_default_params(), _CONTEXT_DEFAULTS)
    return library


def check_layout(params: ctypes.Structure, defaults: dict[str, Any]) -> None:
    """Compare what the library wrote into a struct with the defaults its layout is known by.

    Raises:
        ScorerUnavailable: a field holds another value, so that fields are not where they are thought to be.
    """
    for field in type(params)._fields_:
        name, value = field[0], getattr(params, field[0])
        if (value or 0) != defaults.get(name, 0):
            raise ScorerUnavailable(
                f"the engine's library has {value!r} where {type(params).__name__}.{name} is "
                f"expected to be {defaults.get(name, 0)!r}: its structs are laid out otherwise"
            )


class Model:
    """A loaded model with one context whose sequences share their key-value cells.

    Args:
        parameters: the model and how it is loaded.
        sequences: how many sequences there may be at once.

    Attributes:
        vocabulary: its tokens.
        context_train: tokens of context it was trained for.
        adapters: handles of the loaded LoRA adapters by name.
        cells: tokens that all sequences together can hold; a shared prefix counts once.

    Raises:
        ScorerUnavailable: the library, or this kind of model, cannot be used this way.
        ModelError: the file or an adapter cannot be loaded; the reason is on stderr.
    """

    def __init__(self, parameters: ModelParameters, sequences: int) -> None:
        self._lib = open_library()
        self._log = _Log(_print_loud)
        self._lib.llama_log_set(self._log, None)
        self._lib.llama_backend_init()
        self._model = self._load(parameters)
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.vocabulary = self._read_vocabulary()
        self.context_train = int(self._lib.llama_model_n_ctx_train(self._model))
        self._context = self._open_context(parameters, sequences)
        self._memory = self._lib.llama_get_memory(self._context)
        self.cells = int(self._lib.llama_n_ctx(self._context))
        self.adapters = {one.name: self._load_adapter(one.path) for one in parameters.adapters}
        self._room = _Room(self.cells)
        self._stopped: Callable[[], bool] = _never
        self._abort = _Abort(lambda _: self._stopped())
        self._lib.llama_set_abort_callback(self._context, self._abort, None)

    @property
    def template(self) -> str | None:
        """The chat template, None for none."""
        raw = self._lib.llama_model_chat_template(self._model, None)
        return raw.decode("utf-8", "replace") if raw else None

    @property
    def metadata(self) -> dict[str, str]:
        """Scalar `general.` and `rung.` entries of the file."""
        found = {}
        key, value = ctypes.create_string_buffer(256), ctypes.create_string_buffer(4096)
        for index in range(self._lib.llama_model_meta_count(self._model)):
            self._lib.llama_model_meta_key_by_index(self._model, index, key, len(key))
            name = key.value.decode("utf-8", "replace")
            if name.startswith(("general.", "rung.")):
                self._lib.llama_model_meta_val_str_by_index(self._model, index, value, len(value))
                found[name] = value.value.decode("utf-8", "replace")
        return found

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """The tokens of a text, without any that mark its beginning or end.

        Args:
            text: any text.
            parse_special: whether text that spells a control token becomes one.
        """
        raw = text.encode()
        tokens = np.empty(len(raw) + 8, dtype=np.int32)
        count = self._lib.llama_tokenize(
            self._vocab, raw, len(raw), tokens.ctypes.data, len(tokens), False, parse_special
        )
        if count < 0:  # more tokens than bytes
            tokens = np.empty(-count, dtype=np.int32)
            count = self._lib.llama_tokenize(
                self._vocab, raw, len(raw), tokens.ctypes.data, len(tokens), False, parse_special
            )
        if count < 0:
            raise EvaluationFailed("the engine could not tokenise a text")
        return tokens[:count].tolist()  # type: ignore[no-any-return]  # numpy types it Any

    def evaluate(self, runs: Sequence[Run], stopped: Callable[[], bool]) -> Logits:
        """Append tokens to sequences, all in one evaluation.

        Args:
            runs: what is added; together at most `cells` tokens.
            stopped: asked now and then; True gives the evaluation up.

        Returns:
            (answers, vocabulary) float32 logits of the runs that want one, in their order.

        Raises:
            Interrupted: `stopped` said so; nothing of the memory is left.
            EvaluationFailed: the library refused; nothing of the memory is left.
        """
        batch, wanted = self._room.fill(runs)
        self._stopped = stopped
        status = self._lib.llama_decode(self._context, batch)
        self._stopped = _never
        if status != 0:
            self.clear()
            if status == _ABORTED:
                raise Interrupted
            raise EvaluationFailed(f"the engine could not evaluate a batch (status {status})")
        size = self.vocabulary.size
        logits = np.empty((len(wanted), size), dtype=np.float32)
        for row, index in enumerate(wanted):
            answer = self._lib.llama_get_logits_ith(self._context, index)
            logits[row] = np.ctypeslib.as_array(answer, (size,))
        return logits

    def share(self, sequence: int, other: int) -> None:
        """Let `other`, which is empty, hold all that `sequence` holds; nothing is copied."""
        self._lib.llama_memory_seq_cp(self._memory, sequence, other, -1, -1)

    def cut(self, sequence: int, position: int) -> bool:
        """Forget a sequence from a position on; whether this memory can do that."""
        return bool(self._lib.llama_memory_seq_rm(self._memory, sequence, position, -1))

    def clear(self) -> None:
        """Forget every sequence."""
        self._lib.llama_memory_clear(self._memory, False)

    def apply(self, adapter: str | None) -> None:
        """Evaluate with this adapter from now on; what was evaluated before must be cleared by the caller."""
        handles = (c_void_p * 1)(self.adapters[adapter] if adapter is not None else None)
        scales = (c_float * 1)(1.0)
        count = 0 if adapter is None else 1
        if self._lib.llama_set_adapters_lora(self._context, handles, count, scales) != 0:
            raise EvaluationFailed(f"the engine could not apply the adapter {adapter!r}")

    def _load(self, parameters: ModelParameters) -> int:
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = parameters.gpu_layers
        params.check_tensors = True
        model = self._lib.llama_model_load_from_file(os.fsencode(parameters.path), params)
        if not model:
            raise ModelError(f"the engine cannot load {parameters.path}")
        lib = self._lib
        if (
            lib.llama_model_has_encoder(model)
            or not lib.llama_model_has_decoder(model)
            or lib.llama_model_is_recurrent(model)
            or lib.llama_model_is_hybrid(model)
            or lib.llama_model_is_diffusion(model)
        ):
            raise ScorerUnavailable("models of this architecture cannot share a prefix by token")
        return int(model)

    def _load_adapter(self, path: str) -> int:
        adapter = self._lib.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not adapter:
            raise ModelError(f"the engine cannot load the adapter {path}")
        return int(adapter)

    def _open_context(self, parameters: ModelParameters, sequences: int) -> int:
        params = self._lib.llama_context_default_params()
        params.n_ctx = params.n_batch = parameters.context
        params.n_ubatch = parameters.batch_tokens
        params.n_seq_max = params.n_outputs_max = sequences
        params.n_threads = params.n_threads_batch = parameters.threads
        params.flash_attn_type = _FLASH[parameters.flash_attention]
        params.type_k = params.type_v = _KV_TYPES[parameters.kv_type]
        params.kv_unified = True
        context = self._lib.llama_init_from_model(self._model, params)
        if not context:
            raise ModelError(f"the engine cannot open a context for {parameters.path}")
        return int(context)

    def _read_vocabulary(self) -> Vocabulary:
        size = int(self._lib.llama_vocab_n_tokens(self._vocab))
        ends = [token for token in range(size) if self._lib.llama_vocab_is_eog(self._vocab, token)]
        bos = int(self._lib.llama_vocab_bos(self._vocab))
        add_bos = bool(self._lib.llama_vocab_get_add_bos(self._vocab))
        return Vocabulary(size, tuple(ends), bos, add_bos)


class _Room:
    """The arrays of a batch, made once.

    Args:
        capacity: most tokens.
    """

    def __init__(self, capacity: int) -> None:
        self._token = np.zeros(capacity, dtype=np.int32)
        self._position = np.zeros(capacity, dtype=np.int32)
        self._sequence = np.zeros(capacity, dtype=np.int32)
        self._ones = np.ones(capacity, dtype=np.int32)
        self._wanted = np.zeros(capacity, dtype=np.int8)
        step = self._sequence.itemsize
        self._pointers = self._sequence.ctypes.data + step * np.arange(capacity, dtype=np.uintp)

    def fill(self, runs: Sequence[Run]) -> tuple[_Batch, list[int]]:
        """The batch of these runs, and the index of the last token of each that wants an answer."""
        at, wanted = 0, []
        for run in runs:
            end = at + len(run.tokens)
            self._token[at:end] = run.tokens
            self._position[at:end] = np.arange(run.start, run.start + len(run.tokens))
            self._sequence[at:end] = run.sequence
            self._wanted[at:end] = 0
            if run.answer:
                self._wanted[end - 1] = 1
                wanted.append(end - 1)
            at = end
        fields = (self._token, None, self._position, self._ones, self._pointers, self._wanted)
        return _Batch(
            at, *(field if field is None else field.ctypes.data for field in fields)
        ), wanted


def _never() -> bool:
    return False


def _print_loud(level: int, text: bytes, _: int | None) -> None:
    """Warnings and errors to stderr, where the supervisor reads the reason of a failure; and what was allocated."""
    if level in _LOUD or (level == _INFORMATION and _BUFFER in text):
        os.write(2, b"0 %s %s" % (_LOUD.get(level, b"I"), text))
