"""What supervisor and child say to each other at the start: one JSON line each way.

The instructions go over the child's standard input, because arguments and environment can be read by others on the
machine. What is spoken later, on the socket, is the business of the programs.
"""

from __future__ import annotations

import msgspec

from rung.engines.llama_cpp.parameters import ModelParameters

REASON = "rung: "
"""Starts a line on the child's standard error that says in words why it gives up."""


class Instructions(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do.

    Attributes:
        parameters: the model.
        socket: path of the Unix socket to listen on.
        key: what every request has to show.
        address_space: bytes of address space the child may take; None for any, which a GPU's driver needs.
    """

    parameters: ModelParameters
    socket: str
    key: str
    address_space: int | None


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The child's model is loaded and its socket listens.

    Attributes:
        build: version of the engine's library, for identities.
    """

    build: str
