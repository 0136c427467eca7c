"""Models and machines to estimate with, made from their numbers alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from rung.models.fit.model import Model
from rung.models.fit.shape import Layer, Shape
from rung.models.fit.weights import Weights
from rung.models.hardware.machine import Device, DeviceKind, Machine

MIB = 1024 * 1024
GIB = 1024 * MIB


def a_model(
    *,
    layers: int = 32,
    layer_mib: int = 128,
    embedding_mib: int = 256,
    experts_mib: int = 0,
    tied: bool = False,
    known: bool = True,
    window: int = 0,
    trained: int = 32_768,
    file_type: str = "F16",
    name: str = "model",
) -> Model:
    """A model with 8 heads of keys and values of 128 elements: 4 KiB a token and layer in f16.

    Args:
        layers: blocks.
        layer_mib: weights of each, experts included.
        embedding_mib: the table of tokens; the output has as much, unless `tied`.
        experts_mib: of a layer's weights, those of 8 experts of which 2 are used.
        tied: whether the table is the output, too.
        known: whether the architecture is.
        window: tokens that all layers but each sixth look back on; 0 for none.
        trained: context it was trained for.
        file_type: its label.
        name: its name.
    """
    windows = [0 if not window or number % 6 == 5 else window for number in range(layers)]
    shape = Shape(
        architecture="llama" if known else "novel",
        known=known,
        layers=tuple(Layer(kv_heads=8, width_k=1024, width_v=1024, window=w) for w in windows),
        embedding=4096,
        heads=32,
        vocabulary=32_000,
        feed_forward=14_336,
        context_length=trained,
        experts=8 if experts_mib else 0,
        experts_used=2 if experts_mib else 0,
        tied=tied,
    )
    output = 0 if tied else embedding_mib
    total = layers * layer_mib + embedding_mib + output
    read = layers * (layer_mib - experts_mib * 3 // 4) + embedding_mib
    return Model(
        name=name,
        shape=shape,
        weights=Weights(
            total=total * MIB,
            embedding=embedding_mib * MIB,
            output=output * MIB,
            per_layer=(layer_mib * MIB,) * layers,
            experts_per_layer=(experts_mib * MIB,) * layers,
            parameters=total * MIB // 2,
            active_bytes=read * MIB,
        ),
        file_type=file_type,
        exact=True,
    )


def with_heads_of(width: int) -> Model:
    """The same model with 8 heads of so many elements."""
    model = a_model()
    layer = Layer(kv_heads=8, width_k=8 * width, width_v=8 * width, window=0)
    shape = msgspec.structs.replace(model.shape, layers=(layer,) * len(model.shape.layers))
    return msgspec.structs.replace(model, shape=shape)


def host(available: int, *, bandwidth: float | None = 100e9) -> Device:
    """A processor's memory with so many bytes free."""
    return Device(
        name="CPU",
        kind=DeviceKind.HOST,
        backend="cpu",
        total=available,
        available=available,
        bandwidth=bandwidth,
    )


def card(available: int, *, name: str = "Card") -> Device:
    """A graphics card."""
    return Device(
        name=name,
        kind=DeviceKind.GPU,
        backend="cuda",
        total=available,
        available=available,
        bandwidth=1000e9,
    )


def unified(available: int) -> Device:
    """A memory that both processors share."""
    return Device(
        name="Both",
        kind=DeviceKind.UNIFIED,
        backend="metal",
        total=available,
        available=available,
        bandwidth=200e9,
    )


def machine(*devices: Device) -> Machine:
    """A machine of these devices."""
    return Machine(name="a machine", devices=devices, detected=False)


def sparse_model(
    path: Path,
    *,
    layers: int = 36,
    embedding: int = 2560,
    feed_forward: int = 9728,
    heads: int = 32,
    kv_heads: int = 8,
    head: int = 128,
    vocabulary: int = 151_936,
    trained: int = 40_960,
    architecture: str = "qwen3",
    file_type: int = 15,
    name: str = "Qwen3-4B",
) -> Path:
    """A GGUF file with the header and the length of a real model (Qwen3-4B in Q4_K), its weights a hole in the file.

    Args:
        path: of the file, which takes no room on most disks.
        layers, embedding, feed_forward, heads, kv_heads, head, vocabulary, trained: as in its metadata.
        architecture: likewise.
        file_type: number of its mix of types.
        name: likewise.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_block_count(layers)
    writer.add_context_length(trained)
    writer.add_embedding_length(embedding)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_token_list([f"t{number}" for number in range(vocabulary)])
    shapes = {
        "attn_q": (heads * head, embedding),
        "attn_k": (kv_heads * head, embedding),
        "attn_v": (kv_heads * head, embedding),
        "attn_output": (embedding, heads * head),
        "ffn_gate": (feed_forward, embedding),
        "ffn_up": (feed_forward, embedding),
        "ffn_down": (embedding, feed_forward),
    }
    tensors = {"token_embd.weight": (vocabulary, embedding)}
    for layer in range(layers):
        tensors |= {f"blk.{layer}.{tensor}.weight": shape for tensor, shape in shapes.items()}
    size = 0
    for tensor, shape in tensors.items():
        nbytes = shape[0] * shape[1] // 256 * 144
        kind = GGMLQuantizationType.Q4_K
        writer.add_tensor_info(tensor, shape, np.dtype(np.float16), nbytes, raw_dtype=kind)
        size += -(-nbytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("ab") as file:
        end = -(-file.tell() // 32) * 32
        file.truncate(end + size)
    return path
