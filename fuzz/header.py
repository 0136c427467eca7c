"""A coverage-guided fuzzer for the readers of model headers; `make fuzz` installs what it needs and runs it.

    python fuzz/header.py gguf CORPUS -max_total_time=60

The first argument names the reader (`gguf` or `safetensors`), the second a folder that keeps what was found to reach
new code, seeded with files that are right and files that are malformed; the rest are libFuzzer's own. Anything but a
header that lies within its file, or a `ModelError`, ends the run and leaves the file that did it.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

with atheris.instrument_imports(include=["rung"]):
    from malformed.contradictory_cases import CONTRADICTORY, SENSIBLE
    from malformed.gguf_cases import GGUF, WHOLE
    from malformed.safetensors_cases import SAFETENSORS
    from malformed.safetensors_cases import WHOLE as WHOLE_SAFETENSORS
    from rung.errors import ModelError
    from rung.models.header import header_from
    from rung.models.safetensors import read_safetensors
    from rung.models.sanity import oddities

LARGEST_SEED = 4096
"""Bytes; the fuzzer makes longer ones itself when they reach anything."""


def gguf(content: bytes) -> None:
    """Read a GGUF header; every tensor lies in the file behind the one before."""
    try:
        header = header_from("fuzzed", len(content), io.BytesIO(content).read)
    except ModelError:
        return
    end = 0
    for tensor in header.tensors:
        if tensor.start < end or tensor.size <= 0:
            raise AssertionError(f"{tensor} starts before {end}")
        end = tensor.start + tensor.size
    if end > len(content):
        raise AssertionError(f"tensors end at {end} in {len(content)} bytes")
    oddities(header)


def safetensors(content: bytes) -> None:
    """Read a safetensors header; the tensors fill the file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            header = read_safetensors(Path(file.name))
        except ModelError:
            return
    data = 8 + int.from_bytes(content[:8], "little")
    if data + sum(tensor.size for tensor in header.tensors) != len(content):
        raise AssertionError(f"tensors do not fill {len(content)} bytes")


READERS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "gguf": (
        gguf,
        [WHOLE, SENSIBLE, *(case.content for case in [*GGUF.values(), *CONTRADICTORY.values()])],
    ),
    "safetensors": (
        safetensors,
        [WHOLE_SAFETENSORS, *(case.content for case in SAFETENSORS.values())],
    ),
}


def main() -> None:
    """Write the seeds and fuzz."""
    program, reader, corpus, *others = sys.argv
    check, seeds = READERS[reader]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        if len(seed) <= LARGEST_SEED:
            (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup([program, str(folder), *others], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
