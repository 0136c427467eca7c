"""What archives hold, by their own lists of contents: nothing is unpacked to disk, and little is unpacked at all.

Every archive is blocked. What is said of the contents tells a reader what it was: a PyTorch file and what its pickle
calls, a Keras model, a bomb, something encrypted.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from rung.models.scan import pickles
from rung.models.scan.content import Content
from rung.models.scan.magic import Kind, of_start
from rung.models.scan.report import Finding, shown

_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_ENTRY = struct.Struct("<4s6H3L5H2L")
_ENTRY_MAGIC = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_MAGIC = b"PK\x06\x07"
_WIDE_END = struct.Struct("<4sQ2H2L4Q")
_WIDE_END_MAGIC = b"PK\x06\x06"
_MOST_ENTRIES = 10_000
_MOST_DIRECTORY = 4 * 1024 * 1024
_MOST_COMMENT = 65_535
_MOST_RATIO = 100
_MOST_TOTAL = 64 * 1024 * 1024 * 1024
_MOST_OPENED = 32
_MOST_PICKLE = 1024 * 1024
_FIRST_OPCODES, _OTHER_OPCODES = 40_000, 1_000
_STORED, _DEFLATED = 0, 8
_BLOCK = 512


class Member(msgspec.Struct, frozen=True):
    """One entry of a zip archive's list of contents.

    Attributes:
        name: as the list has it.
        encrypted: whether its flags say so.
        method: of compression.
        packed, size: bytes, compressed and not.
        at: where its own header lies in the file.
    """

    name: str
    encrypted: bool
    method: int
    packed: int
    size: int
    at: int


class Listing(msgspec.Struct, frozen=True):
    """The list of contents at the end of a zip archive.

    Attributes:
        at: where it starts in the file.
        count: entries, as the archive says.
        members: the first of them.
        whole: whether the list could be read to its end.
    """

    at: int
    count: int
    members: tuple[Member, ...]
    whole: bool


def zip_listing(content: Content) -> Listing | None:
    """The zip archive that a file ends in, whatever it begins with; None when it ends in none."""
    start = max(0, content.size - _END.size - _MOST_COMMENT)
    tail = content.at(start, content.size - start)
    at = tail.rfind(_END_MAGIC)
    while at >= 0:
        if len(tail) - at >= _END.size and (found := _listing(content, start + at, tail, at)):
            return found
        at = tail.rfind(_END_MAGIC, 0, at)
    return None


def _listing(content: Content, end: int, tail: bytes, at: int) -> Listing | None:
    _, _, _, _, count, length, offset, comment = _END.unpack_from(tail, at)
    if found := _directory(content, (end - length, offset), length, offset, count):
        return found
    if count == 0 and length == 0:
        return Listing(end, 0, (), whole=True)
    if found := _wide_listing(content, end):
        return found
    whole = end + _END.size + comment == content.size
    return Listing(end, count, (), whole=False) if whole else None


def _directory(
    content: Content, starts: Sequence[int], length: int, offset: int, count: int
) -> Listing | None:
    """The list of contents at one of some places: what stands before an archive moves all its offsets."""
    for start in starts:
        directory = content.at(start, min(length, _MOST_DIRECTORY)) if start >= 0 else b""
        if directory.startswith(_ENTRY_MAGIC):
            members = tuple(_members(directory, start - offset))
            return Listing(start, count, members, len(members) == count)
    return None


def _wide_listing(content: Content, end: int) -> Listing | None:
    """The list of a 64-bit archive, whose own record some place before its end names."""
    locator = content.at(max(0, end - _LOCATOR.size), _LOCATOR.size)
    if len(locator) < _LOCATOR.size or not locator.startswith(_LOCATOR_MAGIC):
        return None
    named = _LOCATOR.unpack(locator)[2]
    for place in (named, end - _LOCATOR.size - _WIDE_END.size):
        record = content.at(place, _WIDE_END.size) if 0 <= place < content.size else b""
        if len(record) == _WIDE_END.size and record.startswith(_WIDE_END_MAGIC):
            count, length, offset = _WIDE_END.unpack(record)[7:]
            found = _directory(content, (offset, place - length), length, offset, count)
            if found is not None:
                return found
    return Listing(end, 0, (), whole=False)


def _members(directory: bytes, moved: int) -> Iterator[Member]:
    at = 0
    for _ in range(_MOST_ENTRIES):
        if len(directory) - at < _ENTRY.size or directory[at : at + 4] != _ENTRY_MAGIC:
            return
        fields = _ENTRY.unpack_from(directory, at)
        flags, method, packed, size = fields[3], fields[4], fields[8], fields[9]
        name, extra, comment = fields[10:13]
        at += _ENTRY.size
        yield Member(
            name=directory[at : at + name].decode(errors="replace"),
            encrypted=bool(flags & 1),
            method=method,
            packed=packed,
            size=size,
            at=fields[16] + moved,
        )
        at += name + extra + comment


def zip_format(listing: Listing | None) -> str:
    """What is kept in zip archives with such contents."""
    names = {member.name for member in listing.members} if listing else set()
    if any("/code/" in name for name in names) and any("constants.pkl" in name for name in names):
        return "TorchScript archive (zip)"
    if any(name.endswith("data.pkl") for name in names):
        return "PyTorch archive (zip)"
    if {"config.json", "metadata.json"} <= names:
        return "Keras archive (zip)"
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy archive (zip)"
    return "zip archive"


def zip_findings(content: Content, listing: Listing | None) -> tuple[Finding, ...]:
    """What is to be said of a zip archive, its list of contents first."""
    if listing is None:
        return (
            Finding("archive-broken", "a zip archive without a list of contents", "end of file"),
        )
    place = f"byte {listing.at:,}"
    names = ", ".join(shown(member.name, 60) for member in listing.members[:3])
    more = " …" if listing.count > 3 else ""
    what = f"a zip archive of {listing.count:,} files" + (f": {names}{more}" if names else "")
    found = [Finding("archive", what, place)]
    if not listing.whole:
        found.append(Finding("archive-broken", "its list of contents cannot be read whole", place))
    total = sum(member.size for member in listing.members)
    packed = sum(member.packed for member in listing.members)
    if total > _MOST_TOTAL or total > _MOST_RATIO * max(packed, 1024):
        text = f"it unpacks {packed:,} bytes to {total:,}"
        found.append(Finding("archive-bomb", text, place))
    for member in listing.members:
        found += _member_findings(member)
    for number, member in enumerate(_worth_opening(listing.members)):
        found += _inside(content, member, _FIRST_OPCODES if number == 0 else _OTHER_OPCODES)
    return tuple(found)


def _member_findings(member: Member) -> Iterator[Finding]:
    name = shown(member.name, 120)
    parts = member.name.replace("\\", "/").split("/")
    if ".." in parts or member.name.startswith(("/", "\\")) or ":" in parts[0]:
        yield Finding("archive-path", "a name that leads out of the folder it is unpacked to", name)
    if member.encrypted:
        yield Finding("archive-encrypted", "an encrypted file, which nobody can look into", name)


def _worth_opening(members: Sequence[Member]) -> Sequence[Member]:
    """Pickles by name first, because an archive can hold more than is looked into."""
    return sorted(members, key=lambda member: not member.name.endswith((".pkl", ".npy")))[:_MOST_OPENED]  # fmt: skip


def _inside(content: Content, member: Member, opcodes: int) -> Iterator[Finding]:
    """What a member's own bytes tell; of a pickle in it, as many opcodes are read as given."""
    name = shown(member.name, 120)
    local = content.at(member.at, _LOCAL.size)
    if len(local) < _LOCAL.size or not local.startswith(_LOCAL_MAGIC):
        yield Finding("archive-broken", "the list of contents names a place with no file", name)
        return
    fields = _LOCAL.unpack(local)
    named = content.at(member.at + _LOCAL.size, fields[9])
    if named.decode(errors="replace") != member.name:
        text = f"a file that calls itself {shown(named.decode(errors='replace'), 80)!r}"
        yield Finding("archive-mismatch", text, name)
    if bool(fields[2] & 1) != member.encrypted:
        yield Finding("archive-mismatch", "a file that is encrypted in one place only", name)
    if member.encrypted:
        return
    data = _unpacked(content, member, member.at + _LOCAL.size + fields[9] + fields[10])
    kind = of_start(data)
    if kind is not None:
        yield Finding(_nested_rule(kind), f"a {kind.format} inside it", name)
    walk = pickles.walk(pickles.of_bytes(data), most=opcodes) if data else None
    if walk and (walk.certain or data[:1] == b"\x80" or walk.problem is None):
        yield from pickles.findings((walk,), name)


def _nested_rule(kind: Kind) -> str:
    return "archive-nested" if kind.rule == "archive" else kind.rule


def _unpacked(content: Content, member: Member, at: int) -> bytes:
    """The first bytes of a member, at most `_MOST_PICKLE`; none where they cannot be had."""
    packed = content.at(at, min(member.packed, _MOST_PICKLE))
    if member.method == _STORED:
        return packed
    if member.method != _DEFLATED:
        return b""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _MOST_PICKLE)
    except zlib.error:
        return b""


def tar_findings(content: Content) -> tuple[Finding, ...]:
    """What is to be said of a tar archive: its first names, and links and paths that lead out of it."""
    names: list[str] = []
    found: list[Finding] = []
    at = 0
    while len(names) < _MOST_OPENED and (header := content.at(at, _BLOCK)).strip(b"\0"):
        name = header[:100].rstrip(b"\0").decode(errors="replace")
        target = header[157:257].rstrip(b"\0").decode(errors="replace")
        names.append(shown(name, 60))
        for text in (name, target):
            if text.startswith("/") or ".." in text.split("/"):
                what = f"a name that leads out of the folder it is unpacked to: {shown(text, 80)!r}"
                found.append(Finding("archive-path", what, f"byte {at:,}"))
        try:
            length = int(header[124:136].strip(b"\0 ") or b"0", 8)
        except ValueError:
            found.append(Finding("archive-broken", "a file of unreadable length", f"byte {at:,}"))
            break
        found += _tar_member(content.at(at + _BLOCK, 4096), names[-1])
        at += _BLOCK + -(-length // _BLOCK) * _BLOCK
    what = f"a tar archive: {', '.join(names[:3])}{' …' if names[3:] else ''}"
    return (Finding("archive", what, "byte 0"), *found)


def _tar_member(head: bytes, name: str) -> Iterator[Finding]:
    if (kind := of_start(head)) is not None:
        yield Finding(_nested_rule(kind), f"a {kind.format} inside it", name)
    if (each := pickles.walk(pickles.of_bytes(head))).certain:
        yield from pickles.findings((each,), name)
