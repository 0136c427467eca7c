"""What a model's weights take, by the groups that are placed and read apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from rung.models.fit.keys import Keys
from rung.models.fit.layers import layer_count
from rung.models.header import Header, Tensor

_EMBEDDING = "token_embd.weight"
_EXPERTS = "_exps."
_BLOCK = re.compile(r"blk\.(\d{1,6})\.")


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a model's tensors, each rounded up to the file's alignment.

    Attributes:
        total: of all of them.
        embedding: of the table of tokens, which stays in the host's memory.
        output: of the matrix that makes logits and its norm; only the norm where it shares the table of tokens.
        per_layer: of each block, experts included.
        experts_per_layer: of the experts of each block, 0 for none.
        parameters: elements of all tensors.
        active_bytes: that decoding one token reads.
        host_tables: of tables besides the embedding that are looked up in the host's memory, such as per-layer
            embeddings.
        matrices_by_type: of the matrices that are multiplied with, by the name of their type; the table of tokens is
            one of them where it is the output as well.
    """

    total: int
    embedding: int
    output: int
    per_layer: tuple[int, ...]
    experts_per_layer: tuple[int, ...]
    parameters: int
    active_bytes: int
    host_tables: int = 0
    matrices_by_type: Mapping[str, int] = {}


def weights_of(headers: Sequence[Header]) -> Weights:
    """Add up the tensors of a model, or of all its parts.

    Raises:
        ModelError: the header does not say how many blocks there are, or how many experts.
    """
    every = [(tensor, _aligned(tensor.size, one)) for one in headers for tensor in one.tensors]
    layers = layer_count(Keys(headers[0]))
    per_layer, experts = [0] * layers, [0] * layers
    groups: Counter[str] = Counter()
    for tensor, size in every:
        number = _layer(tensor.name)
        if number is None:
            groups[_group(tensor.name)] += size
        elif number < layers:
            per_layer[number] += size
            experts[number] += size if _EXPERTS in tensor.name else 0
    tied = all(tensor.name != "output.weight" for tensor, _ in every)
    total = sum(size for _, size in every)
    return Weights(
        total=total,
        embedding=groups["embedding"],
        output=groups["output"],
        per_layer=tuple(per_layer),
        experts_per_layer=tuple(experts),
        parameters=sum(tensor.elements for tensor, _ in every),
        active_bytes=_active(headers[0], total, groups, sum(experts), tied),
        host_tables=groups["table"],
        matrices_by_type=_by_type((tensor for tensor, _ in every), tied),
    )


def _active(header: Header, total: int, groups: Counter[str], experts: int, tied: bool) -> int:
    """Bytes that one decoded token reads: no table that is only looked up, and the experts that it uses."""
    keys = Keys(header)
    looked_up = groups["table"] + (0 if tied else groups["embedding"])
    count = keys.count("expert_count", 0)
    used = min(keys.count("expert_used_count", 0), count)
    unused = experts * (count - used) // count if count else 0
    return total - looked_up - unused


def _by_type(tensors: Iterable[Tensor], tied: bool) -> dict[str, int]:
    """Bytes of the matrices that are multiplied with, by type."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        table = _group(tensor.name) in ("embedding", "table") and not (
            tied and tensor.name == _EMBEDDING
        )
        if tensor.rows > 1 and not table:
            sizes[tensor.type.name] += tensor.size
    return dict(sizes)


def _group(name: str) -> str:
    """Which group a tensor outside the blocks belongs to."""
    if name == _EMBEDDING:
        return "embedding"
    if name.startswith("per_layer_token_embd."):
        return "table"
    return "output" if name.startswith("output") else "other"


def _layer(name: str) -> int | None:
    found = _BLOCK.match(name)
    return int(found[1]) if found else None


def _aligned(size: int, header: Header) -> int:
    return -(-size // header.alignment) * header.alignment
