"""A file beside a model that belongs to it: the projector that reads pictures, of the same repository."""

from __future__ import annotations

from typing import Protocol

import msgspec

from rung.errors import InputError, ModelError
from rung.models.lock.record import Artefact
from rung.models.lock.sidefiles import name_at_source
from rung.models.reference import Origin, Reference, parse_reference
from rung.models.sources.resolved import Resolved, Role


class Resolves(Protocol):
    """What finds out which files a reference names; `Sources` is the real one."""

    async def resolve(self, reference: Reference) -> Resolved:
        """What a reference names, pinned."""


async def with_projector(resolved: Resolved, name: str, sources: Resolves) -> Resolved:
    """What a reference names, and a projector of its repository at the same revision.

    Args:
        resolved: what it names.
        name: of the projector's file.
        sources: where models come from.

    Raises:
        InputError: this source has no repository of files, or it is no name of one.
        ModelError: there is no such file, or it is no projector.
        SourceError: the source cannot be reached.
    """
    asked = resolved.reference
    if asked.origin is not Origin.HF:
        raise InputError(
            f"{asked} has no projector of its own to choose",
            hint="leave out --with; what belongs to a model of Ollama's registry comes with it",
        )
    if not name.endswith(".gguf"):
        raise InputError(
            f"{name!r} is not the name of a projector's file",
            hint="name it as the repository has it, such as mmproj-F16.gguf",
        )
    there = [each.name for each in resolved.beside if each.role is Role.PROJECTOR]
    if "mmproj" in name and name not in there:
        raise ModelError(
            f"{asked} has no projector {name!r} beside it",
            hint=f"there are {', '.join(there)}" if there else "its repository has none",
        )
    found = await sources.resolve(parse_reference(f"hf:{asked.repo}@{resolved.revision}:{name}"))
    file = found.files[0]
    if file.role is not Role.PROJECTOR:
        raise ModelError(
            f"{name!r} of {asked.repo!r} is no projector: its name does not say mmproj",
            hint=f"fetch it as a model of its own: rung pull hf:{asked.repo}:{name}",
        )
    return msgspec.structs.replace(resolved, files=(*resolved.files, file))


def projector_of(artefact: Artefact | None) -> str | None:
    """The name of the projector that was pinned with a model of Hugging Face; it stays part of it."""
    if artefact is None or not artefact.source.startswith("hf:"):
        return None
    files = [file for file in artefact.files if file.role == Role.PROJECTOR]
    return name_at_source(artefact, files[0]) if files else None
