"""Server-sent events out of bytes that arrive cut anywhere: inside a line end, inside a character.

Follows the WHATWG event-stream grammar as far as chat streams use it: `data` lines are joined,
comments and other fields are skipped, CR, LF and CRLF all end a line.
"""

from __future__ import annotations

from rung.errors import EngineProtocolError

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Longest event accepted; a real one is a few kilobytes even with twenty alternatives a token."""


class EventStream:
    """Collects the `data` of events from bytes fed in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that `piece` completes.

        Raises:
            EngineProtocolError: an event is longer than `MAX_EVENT_BYTES`.
        """
        if self._after_cr and piece[:1] == b"\n":
            piece = piece[1:]
            self._after_cr = False
        if not piece:
            return []
        self._after_cr = piece.endswith(b"\r")
        # A lone CR also ends a line, so all three endings become LF; a CRLF cut in two is handled
        # above.
        piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._buffer += piece
        if b"\n" not in piece:
            self._check(len(self._buffer))
            return []
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        events = [event for line in lines if (event := self._line(line)) is not None]
        self._check(len(rest))
        return events

    def close(self) -> list[bytes]:
        """The event left open when the server ended the stream without a last blank line."""
        events = [event for event in (self._line(bytes(self._buffer)), self._line(b"")) if event]
        self._buffer.clear()
        return events

    def _line(self, line: bytes) -> bytes | None:
        """Take one line; the event it ends, if it ends one."""
        if not line:
            event = b"\n".join(self._data) if self._data else None
            self._data.clear()
            self._size = 0
            return event
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
            self._check(0)
        return None

    def _check(self, pending: int) -> None:
        if self._size + pending > MAX_EVENT_BYTES:
            raise EngineProtocolError(
                f"the server sent an event of more than {MAX_EVENT_BYTES // 1024 // 1024} MiB",
                hint="check that base_url is a chat completions server",
                charged=True,
            )
