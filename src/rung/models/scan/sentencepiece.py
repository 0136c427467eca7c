"""SentencePiece vocabularies (`tokenizer.model`), read strictly: pieces of text with a score and a type, and settings.

The layout is that of protocol buffers (https://protobuf.dev/programming-guides/encoding) and of the message
`ModelProto` of sentencepiece_model.proto. Nothing in such a file can name code or another file that is loaded.
"""

from __future__ import annotations

from rung.models.scan.content import Content

MOST_BYTES = 16 * 1024 * 1024
_PIECE = 0x0A  # field 1, with a length
_SETTINGS = (
    0x12,
    0x1A,
    0x22,
    0x2A,
)  # of the trainer, the normaliser, the self-test, the denormaliser
_TEXT, _SCORE, _TYPE = 0x0A, 0x15, 0x18
_MOST_PIECE = 4096


class _Broken(Exception):
    """The bytes are no such file."""


def is_sentencepiece(content: Content) -> bool:
    """Whether the whole file is a SentencePiece vocabulary of at least one piece."""
    if content.head[:1] != bytes([_PIECE]) or content.size > MOST_BYTES:
        return False
    data = content.at(0, content.size)
    try:
        return _pieces(data) > 0
    except (_Broken, IndexError, UnicodeDecodeError):
        return False


def _pieces(data: bytes) -> int:
    at, count, end = 0, 0, len(data)
    while at < end:
        tag = data[at]
        length, at = _number(data, at + 1)
        if at + length > end:
            raise _Broken
        if tag == _PIECE and length <= _MOST_PIECE:
            _check_piece(data, at, at + length)
            count += 1
        elif tag not in _SETTINGS:
            raise _Broken
        at += length
    return count


def _check_piece(data: bytes, at: int, end: int) -> None:
    """One piece: its text, then its score and its type where it has them."""
    if data[at] != _TEXT:
        raise _Broken
    length, at = _number(data, at + 1)
    if at + length > end:
        raise _Broken
    data[at : at + length].decode()
    at += length
    if at < end and data[at] == _SCORE:
        at += 5
    if at < end and data[at] == _TYPE:
        _, at = _number(data, at + 1)
    if at != end:
        raise _Broken


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most 35 bits, seven to a byte, and where it ends."""
    value = shift = 0
    while shift < 35:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Broken
