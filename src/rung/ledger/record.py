"""What a record of the chain is: its kinds, its bytes, and the hash that ties it to the one before.

Pure functions from values to values; `writer` stores what they make and `verify` makes it again.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from rung.receipt import Receipt

BLOCK_RECEIPTS = 1000
"""Most receipts in one block record."""

GENESIS = bytes(32)
"""The hash that stands before a chain's first record."""

_FRAME = b"rung ledger 1"
_COMPRESSION = (
    1  # a tenth of the size for a hundredth of the time an answer takes; higher levels gain little
)


class Kind(enum.StrEnum):
    """What a record holds.

    `open`: first of a chain, names the heads of other chains. `receipt`: one receipt. `block`: many, compressed.
    `egress`: a text is about to leave the device. `seal`: last of a chain that was closed in order.
    """

    OPEN = "open"
    RECEIPT = "receipt"
    BLOCK = "block"
    EGRESS = "egress"
    SEAL = "seal"


class ReceiptEntry(msgspec.Struct, frozen=True, gc=False):
    """A receipt to be recorded."""

    receipt: Receipt


class Egress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A text is about to leave this device; recorded before it does.

    Attributes:
        id: sortable unique id of this decision.
        created: UTC, ISO 8601.
        receipt: id of the receipt the attempt will belong to.
        task, rung: what runs, and on which rung.
        where: where the rung runs: `site`, `region` or `anywhere`.
        host: the address it is sent to.
        label: privacy label of the text; `rule` names the policy rule that allowed it.
        input_digest: keyed digest of the text.
    """

    id: str
    created: str
    receipt: str
    task: str
    rung: str
    where: str
    host: str
    label: str
    rule: str
    input_digest: str


Entry = ReceiptEntry | Egress


class Head(msgspec.Struct, frozen=True, order=True):
    """One record of one chain by its hash (hexadecimal)."""

    chain: str
    seq: int
    hash: str


class Opening(msgspec.Struct, frozen=True):
    """Body of an `open` record: the heads of other chains that no record had named yet."""

    rung: str
    links: tuple[Head, ...]
    format: int = 1


class Sealing(msgspec.Struct, frozen=True):
    """Body of a `seal` record: how many records came before it."""

    records: int
    format: int = 1


class Draft(msgspec.Struct, frozen=True):
    """A record that has no place in a chain yet.

    Attributes:
        kind: what it holds.
        body: the bytes that are stored and hashed.
        receipts: the receipts inside, for the totals.
        first_id, last_id: least and greatest receipt id inside, None for records about no receipt.
    """

    kind: Kind
    body: bytes
    receipts: tuple[Receipt, ...] = ()
    first_id: str | None = None
    last_id: str | None = None


Content = tuple[Receipt, ...] | Egress | Opening | Sealing

_receipt_decoder = msgspec.json.Decoder(Receipt)
_block_decoder = msgspec.json.Decoder(tuple[Receipt, ...])
_egress_decoder = msgspec.json.Decoder(Egress)
_opening_decoder = msgspec.json.Decoder(Opening)
_sealing_decoder = msgspec.json.Decoder(Sealing)


def draft(entries: Sequence[Entry]) -> list[Draft]:
    """Entries as records, in their order: neighbouring receipts share a block."""
    drafts: list[Draft] = []
    for is_receipt, members in itertools.groupby(entries, lambda e: isinstance(e, ReceiptEntry)):
        if is_receipt:
            receipts = [entry.receipt for entry in members if isinstance(entry, ReceiptEntry)]
            drafts.extend(_draft_receipts(part) for part in _parts(receipts))
        else:
            drafts.extend(_draft_egress(entry) for entry in members if isinstance(entry, Egress))
    return drafts


def draft_opening(opening: Opening) -> Draft:
    """The first record of a chain."""
    return Draft(Kind.OPEN, msgspec.json.encode(opening))


def draft_seal(records: int) -> Draft:
    """The last record of a chain."""
    return Draft(Kind.SEAL, msgspec.json.encode(Sealing(records)))


def read_body(kind: str, body: bytes) -> Content:
    """What a stored body holds.

    Raises:
        ValueError: the kind is unknown, or the body is not of that kind.
    """
    try:
        match kind:
            case Kind.RECEIPT:
                return (_receipt_decoder.decode(body),)
            case Kind.BLOCK:
                return _block_decoder.decode(zlib.decompress(body))
            case Kind.EGRESS:
                return _egress_decoder.decode(body)
            case Kind.OPEN:
                return _opening_decoder.decode(body)
            case Kind.SEAL:
                return _sealing_decoder.decode(body)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"its body is not that of a record of kind {kind!r}: {error}") from error
    raise ValueError(f"its kind {kind!r} is unknown")


def id_range(content: Content) -> tuple[str | None, str | None]:
    """Least and greatest receipt id that the content is about."""
    if isinstance(content, Egress):
        return content.receipt, content.receipt
    if isinstance(content, tuple) and content:
        ids = [receipt.id for receipt in content]
        return min(ids), max(ids)
    return None, None


def record_hash(
    chain_id: str, seq: int, kind: str, created: str, prev_hash: bytes, body: bytes
) -> bytes:
    """SHA-256 over the fields, each after its length as 8 bytes big-endian, so that none can run into the next."""
    digest = hashlib.sha256(_FRAME)
    for field in (
        chain_id.encode("utf-8", "surrogateescape"),
        str(seq).encode(),
        kind.encode("utf-8", "surrogateescape"),
        created.encode("utf-8", "surrogateescape"),
        prev_hash,
        body,
    ):
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()


def _parts(receipts: Sequence[Receipt]) -> Iterator[tuple[Receipt, ...]]:
    for first in range(0, len(receipts), BLOCK_RECEIPTS):
        yield tuple(receipts[first : first + BLOCK_RECEIPTS])


def _draft_receipts(receipts: tuple[Receipt, ...]) -> Draft:
    first, last = id_range(receipts)
    if len(receipts) == 1:
        return Draft(Kind.RECEIPT, msgspec.json.encode(receipts[0]), receipts, first, last)
    body = zlib.compress(msgspec.json.encode(receipts), _COMPRESSION)
    return Draft(Kind.BLOCK, body, receipts, first, last)


def _draft_egress(egress: Egress) -> Draft:
    return Draft(Kind.EGRESS, msgspec.json.encode(egress), (), egress.receipt, egress.receipt)
