"""What other programs keep on this machine, as one list, and by digest for what the network named."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rung.errors import InputError
from rung.models.reference import Origin, parse_reference
from rung.models.sources import hub_cache, lmstudio, ollama_store
from rung.models.sources.found import Found
from rung.models.sources.resolved import RemoteFile, Resolved, Role


def local_models() -> tuple[Found, ...]:
    """Every model file in the stores of Hugging Face's library, Ollama and LM Studio that a reference can name."""
    found = (*hub_cache.found(), *ollama_store.found(), *lmstudio.found())
    return tuple(model for model in found if _is_reference(model.reference))


def with_local_files(resolved: Resolved) -> Resolved:
    """The same, with the place of each file that a store here holds under the digest and size its publisher states."""
    files: list[RemoteFile] = []
    stores: list[str | None] = []
    for file in resolved.files:
        store, path = _place(resolved, file)
        files.append(msgspec.structs.replace(file, path=path))
        if file.role is Role.WEIGHTS:
            stores.append(store)
    names = dict.fromkeys(store for store in stores if store is not None)
    whole = bool(stores) and None not in stores
    return msgspec.structs.replace(
        resolved, files=tuple(files), store=" and ".join(names) if whole else None
    )


def _place(resolved: Resolved, file: RemoteFile) -> tuple[str | None, Path | None]:
    if file.sha256 is None:
        return None, None
    if resolved.reference.origin is Origin.HF:
        path = hub_cache.blob(resolved.reference.repo, file.sha256, file.size)
        if path is not None:
            return hub_cache.STORE, path
    path = ollama_store.blob(file.sha256, file.size)
    return (ollama_store.STORE, path) if path is not None else (None, None)


def _is_reference(text: str) -> bool:
    try:
        parse_reference(text)
    except InputError:
        return False  # a name that only its own program would accept
    return True
