"""Event streams cut at every byte, and what they may hold besides data."""

from __future__ import annotations

import pytest

from rung.engines.openai.sse import MAX_EVENT_BYTES, EventStream
from rung.errors import EngineProtocolError

STREAM = ": hello\r\nevent: x\r\ndata: Grüße\r\ndata:世界\r\n\r\n\r\nid: 7\rdata: 🎈\r\rretry: 5\n\ndata: end"
EVENTS = ["Grüße\n世界".encode(), "🎈".encode(), b"end"]


def read(*pieces: bytes) -> list[bytes]:
    """All events of a stream that arrives in `pieces`."""
    stream = EventStream()
    return [event for piece in pieces for event in stream.feed(piece)] + stream.close()


def test_comments_other_fields_and_all_line_ends_are_understood() -> None:
    """Data lines are joined; an event the server left open counts too."""
    assert read(STREAM.encode()) == EVENTS


def test_a_cut_at_any_byte_changes_nothing() -> None:
    """Neither inside CRLF nor inside a character."""
    data = STREAM.encode()
    for at in range(len(data)):
        assert read(data[:at], data[at:]) == EVENTS
    assert read(*(data[at : at + 1] for at in range(len(data)))) == EVENTS


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 65536, b"data: " + b"x" * 65536 + b"\n"])
def test_an_event_has_a_longest_length(piece: bytes) -> None:
    """One endless line and endless lines of one event both end in an error."""
    stream = EventStream()
    with pytest.raises(EngineProtocolError, match="4 MiB"):
        for _ in range(MAX_EVENT_BYTES // 65536 + 2):
            stream.feed(piece)
