"""The SERVER child: llama.cpp's own server, on a Unix socket, for one model.

Started by `supervisor` as a program; nothing imports it. What it is told is `server_settings`'.
"""

from __future__ import annotations

import signal

from rung.engines.llama_cpp import child_frame
from rung.engines.llama_cpp.handshake import Instructions, Ready

_SERVERS: list[object] = []
"""Holds the server for the life of the process: its end would be the socket's."""


def load(instructions: Instructions) -> Ready:
    """Load the model and open the socket.

    Raises:
        RuntimeError: the engine refused; it wrote the reason to standard error.
    """
    from rung.engines.llama_cpp import server_settings  # noqa: PLC0415  # after the limits are set

    _SERVERS.append(server_settings.start(instructions))
    return Ready(build=server_settings.build())


def serve() -> None:
    """Sleep while the server's own threads work."""
    while True:
        signal.pause()


if __name__ == "__main__":
    child_frame.run(load, serve)
