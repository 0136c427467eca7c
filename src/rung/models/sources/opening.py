"""Looking models up, reading their headers and fetching their bytes, wherever they are.

`Sources` is the only place in `models` that opens sockets. What it gives is pinned, measured and not yet checked:
digests are compared by `models.pull`, contents judged by `models.scan`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Self

import msgspec

from rung.errors import ModelError, SourceError, first_of
from rung.models.addresses import origin_of, without_query
from rung.models.header import Header, header_from, read_header
from rung.models.names import DIGEST
from rung.models.reference import Origin, Reference
from rung.models.shards import check_parts
from rung.models.sources import hub, hub_cache, ollama, ollama_store
from rung.models.sources.header_cache import HeaderCache
from rung.models.sources.lmstudio import resolve_lmstudio
from rung.models.sources.local import with_local_files
from rung.models.sources.plain import resolve_address, resolve_file
from rung.models.sources.ranges import RangeReader
from rung.models.sources.resolved import RemoteFile, Resolved
from rung.models.sources.stream import Stream, answered_stream, local_stream
from rung.models.sources.web import STALL_S, Web, refusal

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Sources", "Stream"]

AT_ONCE = 4
"""Headers of parts that are read at the same time."""

_ONLINE = "run it once without HF_HUB_OFFLINE"


class Sources:
    """Where models come from; an async context manager that holds one HTTP session.

    Addresses are taken from the environment when they are needed: `HF_ENDPOINT`, `RUNG_OLLAMA_REGISTRY`, the proxies
    of `HTTPS_PROXY` and `NO_PROXY`, which these downloads honour, and the places of other programs' stores. The token
    of Hugging Face is its library's (`HF_TOKEN`, `hf auth login`) and is sent to nobody but Hugging Face or, where
    `HF_ENDPOINT` names one, the server that stands for it.

    Args:
        stores: whether files in other programs' stores on this machine are used.
        offline: whether the network is left alone; the variable `HF_HUB_OFFLINE` says the same.
        stall_s: seconds without a byte, or with hardly any, after which an answer counts as broken off.
    """

    def __init__(
        self, *, stores: bool = True, offline: bool = False, stall_s: float = STALL_S
    ) -> None:
        said = os.environ.get("HF_HUB_OFFLINE", "").upper()
        self._stores = stores
        self._offline = offline or said in {"1", "ON", "YES", "TRUE"}
        self._web = Web(stall_s=stall_s)
        self._headers = HeaderCache()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._web.__aexit__()

    async def resolve(self, reference: Reference) -> Resolved:
        """Find out which files a reference names, at a revision that cannot move.

        The source says what the revision is and which digests its files have; a store serves those that it holds under
        the same digest. A manifest of Ollama that was named by its digest, and is here, needs no network. Offline, the
        cache of Hugging Face gives only a file that is named exactly, and no digest.

        Raises:
            InputError: the environment names an address that is none.
            ModelError: there is no such model, or more than one is what was asked for.
            SourceError: the source cannot be reached or answers wrongly.
        """
        if reference.origin is Origin.FILE:
            return await asyncio.to_thread(resolve_file, reference)
        if reference.origin is Origin.LMSTUDIO:
            return await asyncio.to_thread(resolve_lmstudio, reference)
        if self._stores and (self._offline or _is_digest(reference)):
            stored = await asyncio.to_thread(_from_store, reference)
            if stored is not None:
                return stored
        self._check_named(reference)
        self._check_online(reference)
        resolved = await self._from_network(reference)
        return await asyncio.to_thread(with_local_files, resolved) if self._stores else resolved

    async def headers(self, resolved: Resolved) -> tuple[Header, ...]:
        """The GGUF header of each part of the weights, in order.

        What is not on this machine is read over HTTP ranges, as far as the header reaches, and kept.

        Raises:
            ModelError: a part is no GGUF file, or is damaged, or may not be read.
            SourceError: the source cannot be reached or answers wrongly.
        """
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(file: RemoteFile) -> Header:
            async with limit:
                return await self._header(resolved, file)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(file)) for file in resolved.weights]
        except BaseExceptionGroup as errors:
            raise first_of(errors) from errors
        headers = tuple(task.result() for task in tasks)
        if not headers:
            raise ModelError(
                f"{str(resolved.reference)!r} names no weights", hint="name a file with weights"
            )
        check_parts(headers)
        return headers

    @asynccontextmanager
    async def stream(
        self,
        file: RemoteFile,
        *,
        start: int = 0,
        length: int | None = None,
        etag: str | None = None,
    ) -> AsyncIterator[Stream]:
        """The bytes of a file.

        Args:
            file: one of a `Resolved`; where it lies on this machine, it is read from there.
            start: the first byte wanted.
            length: bytes wanted, None for all that follow; a server that gives no parts of files, and this machine,
                give more.
            etag: continue only if the file still has this entity tag; else it starts anew.

        Raises:
            ModelError: the file may not be read, or is gone.
            SourceError: the source cannot be reached, answers wrongly, breaks off or stalls.
        """
        if file.path is not None:
            stream = local_stream(file.path, start)
            async with aclosing(stream.chunks):
                yield stream
            return
        last = "" if length is None else start + length - 1
        headers = {"Range": f"bytes={start}-{last}"} if start or length is not None else {}
        if start and etag is not None:
            headers["If-Range"] = etag
        async with self._asked(file, headers) as response:
            yield answered_stream(
                response,
                start=start,
                length=length,
                size=file.size,
                name=file.name,
                stall_s=self._web.stall_s,
            )

    async def _header(self, resolved: Resolved, file: RemoteFile) -> Header:
        if file.path is not None:
            return await asyncio.to_thread(read_header, file.path)
        identity = _identity(resolved, file)
        kept = await asyncio.to_thread(self._headers.find, identity) if identity else None
        if kept is not None and file.size in {None, kept[0]}:
            return await asyncio.to_thread(header_from, file.name, kept[0], BytesIO(kept[1]).read)
        reader = RangeReader(file, lambda headers: self._asked(file, headers), self._web.stall_s)
        header = await reader.header()
        if identity:
            end = min((tensor.start for tensor in header.tensors), default=len(reader.held))
            await asyncio.to_thread(
                self._headers.keep, identity, header.size, bytes(reader.held[:end])
            )
        return header

    async def _from_network(self, reference: Reference) -> Resolved:
        if reference.origin is Origin.HF:
            return await hub.resolve_hub(self._web, reference)
        if reference.origin is Origin.OLLAMA:
            return await ollama.resolve_ollama(self._web, reference)
        return await resolve_address(self._web, reference)

    @asynccontextmanager
    async def _asked(
        self, file: RemoteFile, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request for a file, answered with its bytes."""
        if file.url is None:
            raise SourceError(f"{file.name!r} has no address", hint="resolve the reference again")
        self._check_online(without_query(file.url))
        repo = hub.repository_of(file.url)
        token = await hub.token() if repo is not None else None
        async with self._web.get(file.url, headers=headers, token=token) as response:
            if response.status in {200, 206}:
                yield response
            elif repo is not None:
                raise hub.hub_refusal(response, repo, has_token=token is not None)
            else:
                raise refusal(response, repr(file.name))

    def _check_named(self, reference: Reference) -> None:
        """Refuse to guess which file of a repository is meant from those that happen to be here."""
        if self._offline and reference.origin is Origin.HF and reference.file is None:
            exactly = msgspec.structs.replace(reference, quant=None, file="model.gguf")
            raise SourceError(
                f"which file {str(reference)!r} names only the hub knows, and the network is to be left alone",
                hint=f"name the file, as in {exactly}, or {_ONLINE}",
            )

    def _check_online(self, what: object) -> None:
        if self._offline:
            raise SourceError(
                f"{str(what)!r} is not on this machine, and the network is to be left alone",
                hint=_ONLINE,
            )


def _is_digest(reference: Reference) -> bool:
    """Whether whoever has what a reference names can show that it is that."""
    revision = reference.revision or ""
    return reference.origin is Origin.OLLAMA and DIGEST.fullmatch(revision) is not None


def _from_store(reference: Reference) -> Resolved | None:
    if reference.origin is Origin.HF:
        return hub_cache.resolve_cached(reference)
    return ollama_store.resolve_stored(reference) if reference.origin is Origin.OLLAMA else None


def _identity(resolved: Resolved, file: RemoteFile) -> str | None:
    """What stands for the very bytes of a file, None when nothing does.

    The digest is what a source claims and nobody has checked yet, so it counts for this repository there alone.
    """
    if file.url is None:
        return None
    if file.sha256 is not None:
        scheme, host, port = origin_of(file.url)
        asked = resolved.reference
        return f"{scheme}://{host}:{port or ''}#{asked.origin}:{asked.repo}#sha256:{file.sha256}"
    return f"{without_query(file.url)}#{resolved.revision}" if resolved.revision else None
