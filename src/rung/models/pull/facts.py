"""What was really fetched, where names promise something else: quantisation, template, licence."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rung.models.lock.record import Artefact
from rung.models.reference import Origin, Reference
from rung.models.sources.resolved import Resolved, Role

_PERMISSIVE = {
    "apache-2.0",
    "apache license 2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "unlicense",
    "cc0-1.0",
    "zlib",
    "bsl-1.0",
}
"""Licences that allow any use, by their SPDX ids in lower case."""

_THINKING = ("enable_thinking", "reasoning_content", "<think>", "thinking")
_BITS = re.compile(
    r"(?:^|[-_.:])(?:UD-)?(?:I?Q|TQ|MXFP|NVFP|BF|F)([1-9][0-9]?)(?=$|[-_.])", re.IGNORECASE
)
_BELOW, _ABOVE = 1.0, 2.0
"""Bits a weight that a mix may be off the number in its name: TQ1_0 has 1.7, Q2_K up to 3.4, Q4_K_M up to 5.1."""


def abilities(template: str | None) -> tuple[str, ...]:
    """What a chat template provides for, by the names it uses: `tools`, `thinking`."""
    if template is None:
        return ()
    found = []
    if re.search(r"\btools\b", template):
        found.append("tools")
    if any(name in template for name in _THINKING):
        found.append("thinking")
    return tuple(found)


def is_permissive(licence: str | None) -> bool:
    """Whether a licence is one of the well-known ones that allow any use."""
    return licence is not None and licence.strip().lower() in _PERMISSIVE


def asked_bits(reference: Reference) -> int | None:
    """The bits that a reference promises: 4 of `Q4_K_M`; None where it says nothing of them."""
    named = reference.quant or reference.file
    if reference.origin is Origin.OLLAMA:
        named = reference.revision
    elif reference.origin in (Origin.URL, Origin.FILE):
        named = reference.repo.rpartition("/")[2]
    found = _BITS.findall((named or "").removesuffix(".gguf"))
    return int(found[-1]) if found else None


def surprises(resolved: Resolved, artefact: Artefact) -> Iterator[str]:
    """What a user may not expect of what was fetched, a clause each."""
    bits = asked_bits(resolved.reference)
    if bits is not None and not -_BELOW <= artefact.bits_per_weight - bits <= _ABOVE:
        yield (
            f"{resolved.reference} names {bits} bits, the file is {artefact.file_type} "
            f"with {artefact.bits_per_weight:.2f} bits a weight"
        )
    texts = [file.path for file in artefact.files if file.role == Role.LICENCE]
    if texts:
        yield f"its licence is a text that came with it: read {' and '.join(texts)}"
    elif artefact.licence is None:
        yield "its source states no licence"
    elif not is_permissive(artefact.licence):
        yield f"the licence {artefact.licence!r} is not one of those that allow any use: read it"
    if any(file.role is Role.TEMPLATE for file in resolved.files):
        yield (
            "the registry has a chat template of its own, beside this file's; Rung uses the file's"
            if artefact.template is not None
            else "the chat template is the registry's; the file has none, and Rung uses the file's only"
        )
    yield from resolved.notes
