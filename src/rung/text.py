"""One normalisation of text, shared by every place that asks whether two texts are the same."""

from __future__ import annotations

import hashlib
import unicodedata


def normalize(text: str) -> str:
    """NFKC, case folded, white space collapsed: two texts that read alike become equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digest(text: str) -> int:
    """First 8 bytes of the SHA-256 of the normalised text, as a little-endian unsigned integer.

    Lone surrogates, which JSON can carry, count as the bytes they would be.
    """
    encoded = normalize(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(encoded).digest()[:8], "little")
