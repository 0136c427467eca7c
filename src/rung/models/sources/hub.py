"""Repositories of Hugging Face: which commit, which files, their sizes and SHA-256 digests.

One request tells all of it. It is asked here and not through `huggingface_hub`, whose client takes half a second to
import; the token and the folder of its cache are that library's.
"""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rung.errors import ModelError, RungError, SourceError
from rung.models.addresses import HUB, host_of, service
from rung.models.names import COMMIT, SHA256, is_plain_path
from rung.models.reference import Origin, Reference
from rung.models.sources.choice import choose, role_of
from rung.models.sources.resolved import RemoteFile, Resolved, Role
from rung.models.sources.web import Web, refusal
from rung.text import plain

if TYPE_CHECKING:
    import aiohttp

_MAIN = "main"
_TOKEN_HINT = "with `hf auth login` or the variable HF_TOKEN, Rung reads as you"  # noqa: S105
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")


class _Lfs(msgspec.Struct, frozen=True):
    sha256: str
    size: int


class _Sibling(msgspec.Struct, frozen=True):
    rfilename: str
    size: int | None = None
    lfs: _Lfs | None = None


class _Card(msgspec.Struct, frozen=True):
    """The front of a model card, which its author wrote by hand: any type may stand anywhere."""

    license: object = None
    license_name: object = None
    base_model: object = None


class _Info(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    sha: str
    siblings: tuple[_Sibling, ...]
    gated: bool | str = False
    card_data: _Card | None = None
    tags: tuple[str, ...] = ()


def endpoint() -> str:
    """Where Hugging Face or its mirror answers: the variable `HF_ENDPOINT`, else the public one.

    Raises:
        InputError: the variable does not hold an address that a token could be sent to.
    """
    return service("HF_ENDPOINT", HUB)


async def token() -> str | None:
    """The user's token for Hugging Face, None without one."""
    return await asyncio.to_thread(_token)


async def resolve_hub(web: Web, reference: Reference) -> Resolved:
    """Look a repository up.

    Raises:
        ModelError: there is no such repository, revision, quantisation or file, or it is not shown to this user.
        SourceError: Hugging Face cannot be reached or answers wrongly.
    """
    revision = urllib.parse.quote(reference.revision or _MAIN, safe="")
    base = endpoint()
    address = f"{base}/api/models/{reference.repo}/revision/{revision}?blobs=true"
    given = await token()
    response, body = await web.document(address, accept="application/json", token=given)
    if response.status != 200:
        raise hub_refusal(response, reference, has_token=given is not None)
    try:
        info = msgspec.json.decode(body, type=_Info)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{host_of(base)!r} does not answer as Hugging Face does: {error}",
            hint="check HF_ENDPOINT, and whether the network wants you to sign in",
        ) from error
    return _resolved(info, reference, base)


def repository_of(address: str) -> Reference | None:
    """The repository that a file's address is of, None when it is not of Hugging Face."""
    base = f"{endpoint()}/"
    names = address.removeprefix(base).split("/")
    if not address.startswith(base) or len(names) < 5 or names[2] != "resolve":
        return None
    return Reference(origin=Origin.HF, repo="/".join(names[:2]), revision=names[3])


def hub_refusal(
    response: aiohttp.ClientResponse, reference: Reference, *, has_token: bool
) -> RungError:
    """What a refusal of Hugging Face means, and what to do about it."""
    code, repo = response.headers.get("X-Error-Code", ""), reference.repo
    if code == "RevisionNotFound":
        return ModelError(
            f"hf:{repo} has no branch, tag or commit {reference.revision or _MAIN!r}",
            hint="leave it out for the newest",
        )
    if code == "EntryNotFound":
        return ModelError(
            f"hf:{repo} does not have the file any more", hint="resolve the reference again"
        )
    if code == "GatedRepo":
        page = f"agree to its terms at {HUB}/{repo}"
        hint = f"{page}; then {_TOKEN_HINT}" if not has_token else f"{page} with this token's user"
        return ModelError(
            f"hf:{repo} is gated: its publisher wants consent before a download", hint=hint
        )
    if response.status in {401, 403, 404}:
        hint = (
            "check the name; your token does not open it"
            if has_token
            else f"check the name; {_TOKEN_HINT}"
        )
        return ModelError(f"hf:{repo} does not exist or is private", hint=hint)
    return refusal(response, f"hf:{repo}")


def _resolved(info: _Info, reference: Reference, base: str) -> Resolved:
    if not COMMIT.fullmatch(info.sha) or (
        COMMIT.fullmatch(reference.revision or "") and info.sha != reference.revision
    ):
        raise SourceError(
            f"{host_of(base)!r} names the commit {info.sha!r} for {str(reference)!r}",
            hint="check HF_ENDPOINT",
        )
    repo = reference.repo
    listing = [
        _file(sibling, f"{base}/{repo}/resolve/{info.sha}")
        for sibling in info.siblings
        if is_plain_path(sibling.rfilename)  # others can be neither named nor kept
    ]
    files, others = choose(reference, listing)
    beside = tuple(file for file in listing if file.role is Role.PROJECTOR and file not in files)
    card = info.card_data or _Card()
    renamed = info.id.lower() != repo.lower()
    return Resolved(
        reference=reference,
        revision=info.sha,
        files=files,
        others=others,
        beside=beside,
        licence=_licence(card, info.tags),
        base_models=_base_models(card, info.tags),
        gated=info.gated is not False,
        notes=(f"the repository is now called {info.id!r}",) if renamed else (),
    )


def _file(sibling: _Sibling, base: str) -> RemoteFile:
    lfs = sibling.lfs
    size = lfs.size if lfs is not None else sibling.size
    digest = lfs.sha256 if lfs is not None else None
    if (size is not None and size < 0) or (digest is not None and not SHA256.fullmatch(digest)):
        raise SourceError(
            f"{host_of(base)!r} lists {sibling.rfilename!r} with an impossible size or digest",
            hint="check HF_ENDPOINT",
        )
    return RemoteFile(
        name=sibling.rfilename,
        role=role_of(sibling.rfilename),
        size=size,
        sha256=digest,
        url=f"{base}/{urllib.parse.quote(sibling.rfilename)}",
    )


def _licence(card: _Card, tags: Sequence[str]) -> str | None:
    """As the card says it; a licence of the author's own by its name."""
    said = card.license_name if card.license == "other" else card.license
    if isinstance(said, list):
        said = " or ".join(str(part) for part in said)
    tagged = [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    said = said if isinstance(said, str) else next(iter(tagged), None)
    return None if said is None else plain(said)


def _base_models(card: _Card, tags: Sequence[str]) -> tuple[str, ...]:
    said = [card.base_model] if isinstance(card.base_model, str) else card.base_model
    if isinstance(said, list):
        return tuple(plain(str(name)) for name in said)
    # `base_model:quantized:owner/repo` says how; `base_model:owner/repo` only what.
    tagged = [tag.split(":")[-1] for tag in tags if tag.startswith("base_model:")]
    return tuple(dict.fromkeys(plain(name) for name in tagged))


def _token() -> str | None:
    from huggingface_hub import constants  # noqa: PLC0415

    named = any(os.environ.get(name) for name in _TOKEN_VARIABLES)
    if not named and not Path(constants.HF_TOKEN_PATH).is_file():
        return None  # known without the fifth of a second that the next import takes
    from huggingface_hub import get_token  # noqa: PLC0415

    return get_token()
