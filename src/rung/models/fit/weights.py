"""What a model's weights take, by the groups that are placed and read apart."""

from __future__ import annotations

import msgspec


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
    """

    total: int
    embedding: int
    output: int
    per_layer: tuple[int, ...]
    experts_per_layer: tuple[int, ...]
    parameters: int
    active_bytes: int
    host_tables: int = 0
