"""Which tensor of a model gets which type, for each file type: the rules of llama.cpp's quantiser for dense models.

Matrices differ in how much they lose: values (`attn_v`), the second half of the feed-forward part (`ffn_down`), above
all in the first and last layers, and the output get more bits than the rest. The rules are those of llama.cpp b11549
without an importance matrix. What they do not cover is refused: mixtures of experts and Falcon have rules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from rung.errors import ModelError
from rung.models.filetypes import FileType
from rung.models.header import Header, Tensor
from rung.models.tensortypes import TensorType

ARCHITECTURES = (
    "arcee",
    "command-r",
    "exaone",
    "exaone4",
    "gemma",
    "gemma2",
    "gemma3",
    "glm4",
    "granite",
    "internlm2",
    "llama",
    "mistral3",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "seed_oss",
    "smollm3",
    "stablelm",
)
"""Dense decoders whose tensors the rules know."""

MATRICES = re.compile(
    r"token_embd|output|cls\.output"
    r"|blk\.\d+\.(attn_q|attn_k|attn_v|attn_qkv|attn_output|ffn_up|ffn_gate|ffn_down)"
)
"""Names of the matrices, without `.weight`, that the rules know."""

SOURCES = (TensorType.F32, TensorType.F16, TensorType.BF16)
"""What may be quantised: rounding what was rounded before loses twice."""

LAYERS_OF_70B = {"llama": 80, "qwen2": 80}
"""Layers at which an architecture counts as a 70B model, whose eight heads share one small value matrix."""

FALLBACKS = {
    TensorType.Q3_K: TensorType.Q4_0,
    TensorType.Q4_K: TensorType.Q5_0,
    TensorType.Q5_K: TensorType.Q5_1,
    TensorType.Q6_K: TensorType.Q8_0,
}
"""The type with blocks of 32 that stands in where rows are no multiple of 256."""

Rule = Callable[[int, int], TensorType | None]
"""From the place of a matrix among those of its kind, and how many there are, to its type; None for the usual one."""


class Target(msgspec.Struct, frozen=True):
    """A tensor and the type it gets.

    Attributes:
        tensor: as it is in the source.
        type: what it becomes; the same where it is copied.
        wanted: what the mix asked for, where the rows do not divide into its blocks; None otherwise.
    """

    tensor: Tensor
    type: TensorType
    wanted: TensorType | None = None

    @property
    def size(self) -> int:
        """Bytes of its data in the copy."""
        return self.tensor.rows * self.type.row_bytes(self.tensor.columns)


def plan(header: Header, kind: FileType) -> tuple[Target, ...]:
    """Choose a type for every tensor.

    Args:
        header: of the source.
        kind: the file type to make.

    Returns:
        The tensors in the order of the copy: those of no layer first, then layer by layer, each by name.

    Raises:
        ModelError: the rules do not cover this model, it is quantised already, or it has no matrices.
    """
    _check_model(header)
    ordered = sorted(header.tensors, key=lambda tensor: (_layer(tensor.name), tensor.name))
    for tensor in ordered:
        _check_tensor(header, tensor)
    if not any(map(_is_matrix, ordered)):
        raise ModelError(
            f"{str(header.path)!r} has {len(ordered):,} tensors and no matrix among them: there is nothing to round",
            hint="name a file with a model's weights, not one with its vocabulary alone",
        )
    tied = all(tensor.name != "output.weight" for tensor in ordered)
    mixer = _Mixer(header, kind, ordered, tied=tied)
    return tuple(mixer.target(tensor) for tensor in ordered)


class _Mixer:
    """Counts the matrices of a kind as they come by, because a rule looks at their place."""

    def __init__(
        self, header: Header, kind: FileType, tensors: list[Tensor], *, tied: bool
    ) -> None:
        self._usual, self._rules = MIXES[kind]
        self._tied = tied
        self._seen: dict[str, int] = {}
        self._counts = {
            "attn_v": sum(_role(tensor.name) == "attn_v" for tensor in tensors),
            "ffn_down": header.number(f"{header.architecture}.block_count") or 0,
        }
        self._large = _is_70b(header)

    def target(self, tensor: Tensor) -> Target:
        """The type of one tensor; to be asked in order."""
        if not _is_matrix(tensor):
            return Target(tensor, tensor.type)
        wanted = self._wanted(tensor)
        fitting = _fitting(tensor.columns, wanted)
        return Target(tensor, fitting, None if fitting is wanted else wanted)

    def _wanted(self, tensor: Tensor) -> TensorType:
        role = _role(tensor.name)
        if role == "output" or (self._tied and role == "token_embd"):
            return self._output(tensor.columns)
        rule = self._rules.get(role)
        place = self._seen.get(role, 0)
        self._seen[role] = place + 1
        chosen = rule(place, self._counts.get(role, 0)) if rule is not None else None
        if role == "attn_v" and self._large:
            chosen = _more_for_70b(chosen or self._usual)
        return chosen or self._usual

    def _output(self, columns: int) -> TensorType:
        if self._usual is TensorType.Q8_0 or columns % self._usual.block:
            return TensorType.Q8_0
        return TensorType.Q6_K


def _check_model(header: Header) -> None:
    """Refuse a model that the rules do not cover."""
    name = str(header.path)
    architecture = header.architecture
    if header.text("general.type") not in (None, "model"):
        raise ModelError(
            f"{name!r} holds no model but {header.text('general.type')!r}",
            hint="name the model's own file",
        )
    if (header.number("split.count") or 1) > 1:
        raise ModelError(
            f"{name!r} is one of {header.number('split.count')} parts of a model",
            hint="join the parts into one file first",
        )
    experts = header.number(f"{architecture}.expert_count") or 0
    if architecture not in ARCHITECTURES or experts:
        what = f"{architecture!r} with {experts} experts" if experts else f"{architecture!r}"
        raise ModelError(
            f"{name!r} has the architecture {what}, which the rules do not cover",
            hint=f"dense models can be quantised: {', '.join(ARCHITECTURES)}",
        )


def _check_tensor(header: Header, tensor: Tensor) -> None:
    """Refuse a tensor that the rules do not know, or that is quantised already."""
    name = str(header.path)
    if not _is_matrix(tensor):
        return
    if tensor.type not in SOURCES:
        raise ModelError(
            f"{name!r} is quantised already: tensor {tensor.name!r} has the type {tensor.type.name}",
            hint="start from the model's F32, F16 or BF16 file",
        )
    if len(tensor.shape) > 2 or not MATRICES.fullmatch(tensor.name.removesuffix(".weight")):
        raise ModelError(
            f"{name!r} has the tensor {tensor.name!r}, which the rules for dense models do not cover",
            hint="models of experts, vision towers and hybrids are not quantised",
        )


def _is_matrix(tensor: Tensor) -> bool:
    """Whether a tensor is quantised at all: norms, biases and factors stay as they are."""
    wide = sum(length > 1 for length in tensor.shape[1:]) > 0
    return wide and tensor.name.endswith("weight") and "_norm.weight" not in tensor.name


def _role(name: str) -> str:
    """What a matrix does, by the last part of its name; queries, keys and values in one count as values."""
    role = name.removesuffix(".weight").rpartition(".")[2] if name != "cls.output.weight" else ""
    return "attn_v" if role == "attn_qkv" else role


def _layer(name: str) -> int:
    """The layer that a tensor belongs to, -1 for none."""
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _fitting(columns: int, wanted: TensorType) -> TensorType:
    """The wanted type, or the nearest whose blocks divide a row of `columns` elements."""
    if columns % wanted.block == 0:
        return wanted
    smaller = FALLBACKS.get(wanted, wanted)
    return smaller if columns % smaller.block == 0 else TensorType.F16


def _is_70b(header: Header) -> bool:
    architecture = header.architecture
    layers = header.number(f"{architecture}.block_count")
    if layers is None or LAYERS_OF_70B.get(architecture) != layers:
        return False
    heads = header.number(f"{architecture}.attention.head_count")
    shared = header.number(f"{architecture}.attention.head_count_kv")
    return architecture != "llama" or (shared is not None and shared != heads)


def _more_for_70b(chosen: TensorType) -> TensorType:
    return TensorType.Q5_K if chosen in (TensorType.Q3_K, TensorType.Q4_K) else chosen


def use_more_bits(place: int, count: int) -> bool:
    """Whether a layer is in the first or last eighth, or every third between them."""
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def _always(kind: TensorType) -> Rule:
    return lambda place, count: kind


def _where_it_matters(place: int, count: int) -> TensorType | None:
    return TensorType.Q6_K if use_more_bits(place, count) else None


def _first(share: int, kind: TensorType, then: TensorType | None = None) -> Rule:
    """`kind` in the first one of `share` parts of the layers, `then` behind."""
    return lambda place, count: kind if place < count // share else then


def _first_few(number: int, kind: TensorType, then: TensorType | None = None) -> Rule:
    """`kind` in the first `number` layers, `then` behind."""
    return lambda place, count: kind if place < number else then


_MEDIUM: Mapping[str, Rule] = {"attn_v": _where_it_matters, "ffn_down": _where_it_matters}

MIXES: Mapping[FileType, tuple[TensorType, Mapping[str, Rule]]] = {
    FileType.Q8_0: (TensorType.Q8_0, {}),
    FileType.Q6_K: (TensorType.Q6_K, {}),
    FileType.Q5_K_M: (TensorType.Q5_K, _MEDIUM),
    FileType.Q5_K_S: (TensorType.Q5_K, {}),
    FileType.Q4_K_M: (TensorType.Q4_K, _MEDIUM),
    FileType.Q4_K_S: (
        TensorType.Q4_K,
        {"attn_v": _first_few(4, TensorType.Q5_K), "ffn_down": _first(8, TensorType.Q5_K)},
    ),
    FileType.Q3_K_L: (
        TensorType.Q3_K,
        dict.fromkeys(("attn_v", "attn_output", "ffn_down"), _always(TensorType.Q5_K)),
    ),
    FileType.Q3_K_M: (
        TensorType.Q3_K,
        {
            "attn_v": _first_few(2, TensorType.Q5_K, TensorType.Q4_K),
            "attn_output": _always(TensorType.Q4_K),
            "ffn_down": _first(16, TensorType.Q5_K, TensorType.Q4_K),
        },
    ),
    FileType.Q3_K_S: (TensorType.Q3_K, {}),
}
"""For each file type the usual tensor type, and the rules of those matrices that may get another."""
