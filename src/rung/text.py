"""Texts compared and shown: one normalisation for all who ask whether two are the same, and what a terminal may get."""

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


def plain(text: str, most: int = 300) -> str:
    """A text of somebody else in one line, with a `?` for what a terminal could act on or nobody would see.

    Args:
        text: anything, lone surrogates included.
        most: characters; what is longer is cut.
    """
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in cut)
