"""Models of the Ollama registry: a manifest of layers, read the same from the registry and from Ollama's own store.

The digest of the manifest's bytes is what a tag pointed to.
"""

from __future__ import annotations

import hashlib

import msgspec

from rung.errors import ModelError, SourceError
from rung.models.addresses import service
from rung.models.names import DIGEST, is_plain_path
from rung.models.reference import Reference
from rung.models.sources.resolved import RemoteFile, Resolved, Role
from rung.models.sources.web import Web, refusal

REGISTRY = "https://registry.ollama.ai"
VARIABLE = "RUNG_OLLAMA_REGISTRY"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

_KIND = "application/vnd.ollama.image."
_ROLES = {
    "model": (Role.WEIGHTS, ".gguf"),
    "projector": (Role.PROJECTOR, "-mmproj.gguf"),
    "adapter": (Role.ADAPTER, "-adapter.gguf"),
    "template": (Role.TEMPLATE, ".template"),
    "license": (Role.LICENCE, ".license"),
    "params": (Role.PARAMETERS, ".params.json"),
    "system": (Role.SYSTEM, ".system"),
}
"""What a layer's media type ends in, what it is for, and what the file is called behind the model's name and tag."""


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    layers: tuple[_Layer, ...]


async def resolve_ollama(web: Web, reference: Reference) -> Resolved:
    """Look a model up in the registry.

    Raises:
        ModelError: there is no such model or tag, or it holds no weights in GGUF format.
        SourceError: the registry cannot be reached or answers wrongly.
    """
    base = service(VARIABLE, REGISTRY)
    address = f"{base}/v2/{reference.repo}/manifests/{reference.revision}"
    response, body = await web.document(address, accept=MANIFEST)
    if response.status in {401, 403, 404}:
        raise ModelError(
            f"Ollama's registry has no {str(reference)!r}",
            hint="check the name and the tag at https://ollama.com/library",
        )
    if response.status != 200:
        raise refusal(response, str(reference))
    return resolved_manifest(reference, body, f"{base}/v2/{reference.repo}/blobs")


def resolved_manifest(reference: Reference, manifest: bytes, blobs: str) -> Resolved:
    """Read a manifest.

    Args:
        reference: what it was asked for by; a digest has to be the manifest's.
        manifest: its bytes.
        blobs: address below which its layers lie.

    Raises:
        ModelError: it holds no weights in GGUF format.
        SourceError: it is not such a manifest, or another one than was asked for.
    """
    digest = manifest_digest(manifest)
    if DIGEST.fullmatch(reference.revision or "") and digest != reference.revision:
        raise SourceError(
            f"the manifest of {str(reference)!r} has the digest {digest}", hint="do not use it"
        )
    try:
        read = msgspec.json.decode(manifest, type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _no_manifest(reference, str(error)) from error
    files = _files(reference, read, blobs)
    if not any(file.role is Role.WEIGHTS for file in files):
        raise ModelError(
            f"{str(reference)!r} holds no weights in GGUF format",
            hint="some of Ollama's models run only in its own service; take one from Hugging Face",
        )
    return Resolved(reference=reference, revision=digest, files=files)


def manifest_digest(manifest: bytes) -> str:
    """What a manifest is known by."""
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _files(reference: Reference, manifest: _Manifest, blobs: str) -> tuple[RemoteFile, ...]:
    """The layers that matter, weights first, each with a name of its own."""
    found: list[RemoteFile] = []
    for layer in manifest.layers:
        if not DIGEST.fullmatch(layer.digest) or layer.size < 0:
            raise _no_manifest(reference, f"a layer has the digest {layer.digest[:80]!r}")
        kind = layer.media_type.removeprefix(_KIND)
        if not layer.media_type.startswith(_KIND) or kind not in _ROLES:
            continue  # such as the messages of a recorded conversation
        role, suffix = _ROLES[kind]
        found.append(
            RemoteFile(
                name=_name(reference, suffix, sum(file.role is role for file in found)),
                role=role,
                size=layer.size,
                sha256=layer.digest.removeprefix("sha256:"),
                url=f"{blobs}/{layer.digest}",
            )
        )
    return tuple(sorted(found, key=lambda file: file.role is not Role.WEIGHTS))


def _name(reference: Reference, suffix: str, number: int) -> str:
    """Such as `qwen3-4b.gguf`: layers have no names of their own."""
    model = reference.repo.rpartition("/")[2]
    tag = (reference.revision or "").removeprefix("sha256:")[:40]
    name = f"{model}-{tag}{f'-{number + 1}' if number else ''}{suffix}"
    return name if is_plain_path(name) else f"{model}{suffix}"


def _no_manifest(reference: Reference, why: str) -> SourceError:
    return SourceError(
        f"the manifest of {str(reference)!r} cannot be read: {why}",
        hint="check RUNG_OLLAMA_REGISTRY, and whether the network wants you to sign in",
    )
