"""A model in several files, read as one: the header of each part, checked against the others.

The parts are those that llama.cpp's splitter writes: `NAME-00001-of-00003.gguf`, with the number of the part, of parts
and of tensors in the metadata. What a part says of itself is `header`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rung.errors import ModelError
from rung.models.bounded import facts_of
from rung.models.header import Header, read_header

MAX_PARTS = 1000
_PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})", re.DOTALL)
_HINT = "fetch the whole model again"


def part_names(name: str) -> tuple[str, ...]:
    """The names of all parts of a model, in order.

    Args:
        name: of any of its parts, or of a model in one file, which is its only part.

    Raises:
        ModelError: the name is of a part that cannot be, such as the fourth of three.
    """
    match = _PART.fullmatch(name.removesuffix(".gguf")) if name.endswith(".gguf") else None
    if match is None:
        return (name,)
    number, count = int(match["number"]), int(match["count"])
    if not 1 <= number <= count <= MAX_PARTS:
        raise ModelError(
            f"the model file {name!r} is named as part {number} of {count}, which cannot be",
            hint=f"parts are numbered from 1, and there are at most {MAX_PARTS}",
        )
    return tuple(f"{match['stem']}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1))


def unsplit(stem: str) -> tuple[str, int]:
    """The name of a model without which of its parts a file is, and how many parts it says there are.

    Args:
        stem: name of a file, without its ending.
    """
    match = _PART.fullmatch(stem)
    return (stem, 1) if match is None else (match["stem"], int(match["count"]))


def read_model(path: Path) -> tuple[Header, ...]:
    """Read the header of each part of a model, in order.

    Args:
        path: the model's file, or any of its parts; the others lie beside it.

    Raises:
        ModelError: a part is missing, damaged, or does not belong to the others.
    """
    paths = [path.with_name(name) for name in part_names(path.name)]
    for part in paths:
        _check_there(part, len(paths))
    headers = tuple(read_header(part) for part in paths)
    check_parts(headers)
    return headers


def _check_there(part: Path, count: int) -> None:
    try:
        facts_of(part)
    except ModelError as error:
        if count == 1:
            raise
        raise ModelError(
            f"a model in {count} parts is not whole: {error.message}",
            hint="fetch every part into the same folder",
        ) from error


def check_parts(headers: Sequence[Header]) -> None:
    """Check that headers are those of all parts of one model, in order.

    Raises:
        ModelError: they are not.
    """
    first = headers[0]
    for number, header in enumerate(headers):
        _check_numbers(header, number, len(headers))
        if header.architecture not in ("", first.architecture):
            raise _odd(
                header,
                f"is of the architecture {header.architecture!r}, its first part of {first.architecture!r}",
            )
    _check_tensors(headers)


def _check_numbers(header: Header, number: int, count: int) -> None:
    """Compare `split.no` and `split.count`, both absent from a model in one file, with where the part stands."""
    said = header.number("split.count")
    if said is None and count > 1:
        raise _odd(header, f"is named as one of {count} parts and says nothing of it in its header")
    if said not in (None, 0, count):
        raise _odd(header, f"says that it is one of {said} parts, not of {count}")
    if count > 1 and header.number("split.no") != number:
        raise _odd(
            header, f"says that split.no is {header.number('split.no')}, it stands as {number}"
        )


def _check_tensors(headers: Sequence[Header]) -> None:
    """Compare the tensors of all parts with each other and with how many each says there are."""
    count = sum(len(header.tensors) for header in headers)
    seen: set[str] = set()
    for header in headers:
        said = header.number("split.tensors.count")
        if said is not None and said != count:
            raise _odd(header, f"says that all parts hold {said:,} tensors, they hold {count:,}")
        for tensor in header.tensors:
            if tensor.name in seen:
                raise _odd(header, f"holds the tensor {tensor.name!r}, which another part holds")
            seen.add(tensor.name)


def _odd(header: Header, what: str) -> ModelError:
    return ModelError(f"the model file {header.name!r} {what}", hint=_HINT)
