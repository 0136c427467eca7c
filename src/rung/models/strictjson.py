"""JSON of a file that nobody trusts: no key twice, whole numbers only, and never more objects than were agreed to.

Whether the object says what it should is left to the caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

LARGEST = (1 << 63) - 1

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]


class Malformed(ValueError):
    """What is wrong with an untrusted file, as the end of a sentence that begins with the file's name."""


def parse_object(raw: bytes, most: int) -> Mapping[str, Json]:
    """Parse an object of strings, whole numbers from 0 to 2^63 - 1, true, false, null, arrays and objects.

    Args:
        raw: the object from its opening brace on; only spaces may follow it.
        most: commas, braces and brackets accepted, which bound the memory that it takes.

    Raises:
        Malformed: it is something else.
    """
    if not raw.startswith(b"{"):
        raise Malformed("has a header that does not start with a brace")
    if sum(map(raw.count, (b",", b"{", b"["))) > most:
        raise Malformed(f"has a header of more than {most:,} values")
    try:
        text = raw.decode().rstrip(" ")  # safetensors fills a header up with spaces
        if not text.endswith("}"):
            raise Malformed("has something behind the object in its header")
        parsed: Mapping[str, Json] = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_refused,
            parse_constant=_refused,
        )
    except UnicodeDecodeError:
        raise Malformed("has a header that is not UTF-8") from None
    except RecursionError:
        raise Malformed("has a header nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"has a header that is not JSON: {error}") from None
    return parsed


def shortened(text: str) -> str:
    """A text of the file in quotes, short enough for a message."""
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _object(pairs: list[tuple[str, Json]]) -> Mapping[str, Json]:
    made: dict[str, Json] = {}
    for key, value in pairs:
        if key in made:
            raise Malformed(f"has the key {shortened(key)} twice in its header")
        made[key] = value
    return made


def _whole(digits: str) -> int:
    if digits.startswith("-"):
        raise Malformed(f"has the negative number {shortened(digits)} in its header")
    # The length is asked first: reading a million digits takes minutes.
    if len(digits) > len(str(LARGEST)) or int(digits) > LARGEST:
        raise Malformed(f"has a number beyond 63 bits in its header: {shortened(digits)}")
    return int(digits)


def _refused(text: str) -> float:
    raise Malformed(f"has {shortened(text)} in its header, which is no whole number")
