"""Models and machines to estimate with, made from their numbers alone."""

from __future__ import annotations

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
