"""Models at plain addresses and in files of this machine: nothing but a size and, at best, an entity tag to go by."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from rung.errors import ModelError, SourceError
from rung.models.addresses import host_of
from rung.models.bounded import facts_of
from rung.models.reference import Reference
from rung.models.shards import part_names
from rung.models.sources.resolved import RemoteFile, Resolved, Role
from rung.models.sources.stream import check_plain, span_of, strong_etag
from rung.models.sources.web import Web, refusal


async def resolve_address(web: Web, reference: Reference) -> Resolved:
    """Ask for the first byte at an address, to learn what all of it is.

    Raises:
        ModelError: there is nothing, or it takes a query that is not known.
        SourceError: the server cannot be reached, answers wrongly, or does not say how much there is.
    """
    address = reference.repo
    if reference.query == "":
        raise ModelError(
            f"{address!r} was asked for with a query, which is kept nowhere: it cannot be asked again",
            hint=f"give the whole address once more: rung pull '{address}?…'",
        )
    name = urllib.parse.urlsplit(address).path.rpartition("/")[2]
    async with web.get(reference.address, headers={"Range": "bytes=0-0"}) as response:
        if response.status in {404, 410}:
            raise ModelError(f"there is nothing at {address!r}", hint="check the address")
        if response.status not in {200, 206}:
            raise refusal(response, repr(name))
        check_plain(response, name)
        _, size = span_of(response, 0, name)
        host, etag = response.url.host or "", strong_etag(response)
    if size is None:
        raise SourceError(
            f"{host!r} does not say how large {name!r} is", hint="use another source for this model"
        )
    asked = host_of(address)
    moved = f"{asked} hands over to {host}, which serves the bytes"
    return Resolved(
        reference=reference,
        revision=etag or "",
        files=(RemoteFile(name=name, role=Role.WEIGHTS, size=size, url=reference.address),),
        notes=(moved,) if host != asked else (),
    )


def resolve_file(reference: Reference) -> Resolved:
    """Look at a file of this machine, and at the other parts of a model in several.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    path = Path(reference.repo).expanduser().absolute()
    try:
        paths = [path.with_name(name) for name in part_names(path.name)]
        files = tuple(_local(part) for part in paths)
    except ModelError as error:
        if reference.repo.count("/") == 1 and not path.exists():
            raise ModelError(
                error.message, hint=f"for a repository of Hugging Face write hf:{reference.repo}"
            ) from error
        raise
    return Resolved(reference=reference, revision="", files=files)


def _local(path: Path) -> RemoteFile:
    return RemoteFile(name=path.name, role=Role.WEIGHTS, size=facts_of(path).st_size, path=path)
