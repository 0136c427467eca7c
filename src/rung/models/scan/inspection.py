"""What the content of one open file is, and whether that may be loaded: the list of what is accepted, all else blocked.

The file's name is not known here, so that the same bytes get the same verdict under every name.
"""

from __future__ import annotations

import re

import msgspec

from rung.models.scan import archives, magic, pickles
from rung.models.scan.content import Content
from rung.models.scan.foreign import foreign
from rung.models.scan.plain import look_at_text
from rung.models.scan.report import Finding, Seen, Tell, shown
from rung.models.scan.sentencepiece import is_sentencepiece
from rung.models.scan.weights import like_safetensors, look_at_gguf, look_at_safetensors

_GGUF = b"GGUF"
_SEARCHED = 4 * 1024 * 1024
_SECOND = 32 * 1024  # longest pickle that gets a second opinion
_NUMPY_HEADER = 1024
_NOT_CERTAIN = (None, magic.ONNX, magic.SAVED_MODEL)  # so short a start that a pickle may have it
_KERAS_CODE = re.compile(rb'"class_name":\s*"(?:Lambda|TorchModuleWrapper)"')
_EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])([\x20-\x7e]{1,127})")
"""An entry of a tensor's `external_data` in ONNX: the key `location` and the name of a file."""


def look_at(content: Content, tell: Tell) -> Seen:
    """Decide what a file is.

    Args:
        content: the file.
        tell: is given what was found so far before a step that may end the process.
    """
    if content.size == 0:
        return Seen("empty", (Finding("empty", "the file holds nothing", "byte 0"),))
    if content.head.startswith(_GGUF[: content.size]):
        return look_at_gguf(content, tell)
    if like_safetensors(content):
        return look_at_safetensors(content, tell)
    kind = magic.recognised(content)
    if kind in _NOT_CERTAIN and (walks := pickles.begun(content.at)):
        return _pickle(content, walks, tell)
    if kind is None and (seen := _accepted(content, tell)):
        return seen
    return _blocked(content, kind or magic.UNKNOWN, tell)


def _accepted(content: Content, tell: Tell) -> Seen | None:
    """A text or a vocabulary, and what else it is; None when it is neither."""
    hidden = foreign(content)
    if hidden:
        tell(Seen("unknown", hidden))
    seen = look_at_text(content, tell)
    if seen is None and is_sentencepiece(content):
        seen = Seen("SentencePiece vocabulary")
    if seen is None or not hidden:
        return seen
    return msgspec.structs.replace(seen, findings=(*hidden, *seen.findings))


def _blocked(content: Content, kind: magic.Kind, tell: Tell) -> Seen:
    """What is to be said of a file that is not accepted; more than that it is not, where its kind allows it."""
    walks = pickles.pickles_in(content)
    if walks and walks[0].start == 0 and kind in (magic.UNKNOWN, *_NOT_CERTAIN):
        return _pickle(content, walks, tell)
    listing = archives.zip_listing(content)
    if kind is magic.ZIP:
        return Seen(archives.zip_format(listing), archives.zip_findings(content, listing))
    if kind is magic.TAR:
        return Seen(kind.format, archives.tar_findings(content))
    found = [Finding(kind.rule, _described(content, kind), "byte 0"), *_details(content, kind)]
    if listing:
        found += archives.zip_findings(content, listing)
    if walks:
        found += pickles.findings(walks)
    return Seen(kind.format, tuple(found))


def _described(content: Content, kind: magic.Kind) -> str:
    if kind is not magic.UNKNOWN:
        return f"{kind.format}, which {kind.why}"
    if not content.head.strip(b"\0"):
        return "a file that begins with zeros, which is none of the formats that are accepted"
    begin = shown(repr(content.head[:8])[2:-1], 60)
    return f"a file that {kind.why}; it begins with {begin}"


def _pickle(content: Content, walks: tuple[pickles.Walk, ...], tell: Tell) -> Seen:
    name = "PyTorch file (old form)" if walks[0].torch else f"pickle (protocol {walks[0].protocol})"
    found = pickles.findings(walks)
    if content.size > _SECOND:
        return Seen(name, found)
    tell(Seen(name, found))
    opinion = pickles.second_opinion(content.at(0, _SECOND))
    return Seen(name, found, (opinion,) if opinion else ())


def _details(content: Content, kind: magic.Kind) -> list[Finding]:
    """What is known to be dangerous in some kinds."""
    data = content.at(0, _SEARCHED)
    if kind is magic.HDF5 and (match := _KERAS_CODE.search(data)):
        return [Finding("keras-code", "a Keras layer made of code", f"byte {match.start():,}")]
    if kind is magic.NUMPY and b"'|O'" in data[:_NUMPY_HEADER]:
        start = data.find(b"\n") + 1
        walk = pickles.walk(content.at, start)
        found = Finding("numpy-objects", "an array of pickled objects", f"byte {start:,}")
        return [found, *pickles.findings((walk,))]
    if kind is magic.ONNX:
        names = dict.fromkeys(
            match[2][: match[1][0]].decode() for match in _EXTERNAL.finditer(data)
        )
        return [
            Finding("onnx-external-data", f"weights in another file: {shown(name, 120)}", "external_data")
            for name in list(names)[:20]
        ]  # fmt: skip
    return []
