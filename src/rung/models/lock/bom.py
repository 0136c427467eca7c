"""A lock as a bill of materials: CycloneDX 1.6, the machine-learning kind.

The same lock gives the same bytes. Format: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from rung.models.lock import cyclonedx as cdx
from rung.models.lock.file import encoded
from rung.models.lock.record import Artefact, Lock
from rung.models.reference import Origin, Reference, parse_reference
from rung.version import __version__

_KIND = "machine-learning-model"
_SPDX = {
    spdx.lower(): spdx
    for spdx in (
        "AGPL-3.0-only",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC-BY-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0",
        "CC-BY-SA-4.0",
        "CC0-1.0",
        "GPL-3.0-only",
        "ISC",
        "LGPL-3.0-only",
        "MIT",
        "MPL-2.0",
        "Unlicense",
    )
} | {"agpl-3.0": "AGPL-3.0-only", "gpl-3.0": "GPL-3.0-only", "lgpl-3.0": "LGPL-3.0-only"}
"""SPDX ids by how publishers write them; other licences of models, such as Gemma's, have none."""
_FAMILIES = {
    "state space": ("mamba",),
    "recurrent": ("rwkv", "arwkv"),
    "hybrid": ("jamba", "falcon-h1", "granitehybrid", "lfm2", "nemotron_h", "qwen35", "qwen3next"),
    "transformer": (
        "llama", "qwen", "gemma", "phi", "mistral", "deepseek", "gpt", "granite", "glm", "chatglm", "command-r",
        "cohere", "starcoder", "olmo", "smollm", "exaone", "internlm", "minicpm", "stablelm", "falcon", "bloom",
        "bert", "nomic-bert", "t5", "deci", "bitnet", "mpt", "orion", "baichuan", "dbrx", "hunyuan", "ernie",
    ),
}  # fmt: skip
"""Beginnings of `general.architecture`, looked for in this order."""


def bill_of_materials(lock: Lock, *, at: datetime.datetime | None = None) -> bytes:
    """A lock as a CycloneDX 1.6 document.

    Args:
        lock: what is pinned.
        at: the document's time; None for that of the model that was pinned last.
    """
    if at is None:
        moments = (datetime.datetime.fromisoformat(each.retrieved) for each in lock.artefacts)
        at = max(moments, default=None)
    digest = hashlib.sha256(encoded(lock)).hexdigest()
    bom = cdx.Bom(
        serial_number=f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'rung.lock sha256:{digest}')}",
        metadata=cdx.Metadata(
            timestamp=_timestamp(at) if at is not None else msgspec.UNSET,
            tools=cdx.Tools(
                components=(cdx.Component(type="application", name="rung", version=__version__),)
            ),
        ),
        components=tuple(_component(artefact) for artefact in lock.artefacts),
    )
    return msgspec.json.format(msgspec.json.encode(bom), indent=2) + b"\n"


def spdx_id(licence: str) -> str | None:
    """The SPDX id of a licence as publishers write it, None where it has none that is known here."""
    return _SPDX.get(licence.lower())


def _component(artefact: Artefact) -> cdx.Component:
    reference = parse_reference(artefact.source)
    single = len(artefact.files) == 1
    ancestors = tuple(cdx.Component(type=_KIND, name=name) for name in artefact.base_models)
    return cdx.Component(
        type=_KIND,
        bom_ref=artefact.name,
        name=artefact.name,
        version=artefact.revision or artefact.files[0].sha256,
        hashes=(cdx.Hash(content=artefact.files[0].sha256),) if single else msgspec.UNSET,
        licenses=(_licence(artefact.licence),) if artefact.licence else msgspec.UNSET,
        purl=_purl(artefact, reference) or msgspec.UNSET,
        pedigree=cdx.Pedigree(ancestors=ancestors) if ancestors else msgspec.UNSET,
        external_references=tuple(_addresses(artefact, reference)) or msgspec.UNSET,
        components=msgspec.UNSET if single else tuple(_files(artefact)),
        properties=tuple(_properties(artefact)),
        model_card=cdx.ModelCard(
            model_parameters=cdx.ModelParameters(
                architecture_family=_family(artefact.architecture) or msgspec.UNSET,
                model_architecture=artefact.architecture or msgspec.UNSET,
            )
        ),
    )


def _files(artefact: Artefact) -> Iterator[cdx.Component]:
    for file in artefact.files:
        yield cdx.Component(
            type="file",
            bom_ref=f"{artefact.name}/{file.path}",
            name=file.path,
            hashes=(cdx.Hash(content=file.sha256),),
            properties=(cdx.Property(name="rung:role", value=file.role),),
        )


def _licence(licence: str) -> cdx.LicenceChoice:
    known = spdx_id(licence)
    return cdx.LicenceChoice(
        license=cdx.Licence(id=known) if known is not None else cdx.Licence(name=licence)
    )


def _purl(artefact: Artefact, reference: Reference) -> str | None:
    """The package's address: https://github.com/package-url/purl-spec, types huggingface, oci and generic."""
    if reference.origin is Origin.HF and artefact.revision:
        return f"pkg:huggingface/{quote(reference.repo)}@{quote(artefact.revision.lower())}"
    if reference.origin is Origin.OLLAMA and artefact.revision:
        name = reference.repo.rpartition("/")[2].lower()
        registry = quote(f"registry.ollama.ai/{reference.repo}", safe="")
        return (
            f"pkg:oci/{quote(name)}@{quote(artefact.revision, safe='')}?repository_url={registry}"
        )
    if reference.origin is Origin.URL:
        sha256 = artefact.files[0].sha256
        address = quote(reference.repo, safe="")
        name = quote(artefact.name, safe="")
        return f"pkg:generic/{name}?checksum=sha256:{sha256}&download_url={address}"
    return None


def _addresses(artefact: Artefact, reference: Reference) -> Iterator[cdx.ExternalReference]:
    if reference.origin is Origin.HF:
        page = f"https://huggingface.co/{reference.repo}"
        yield cdx.ExternalReference(type="distribution", url=f"{page}/tree/{artefact.revision}")
        yield cdx.ExternalReference(type="model-card", url=page)
    elif reference.origin is Origin.OLLAMA:
        manifests = f"https://registry.ollama.ai/v2/{reference.repo}/manifests"
        yield cdx.ExternalReference(type="distribution", url=f"{manifests}/{artefact.revision}")
        yield cdx.ExternalReference(type="model-card", url=f"https://ollama.com/{reference.repo}")
    elif reference.origin is Origin.URL:
        yield cdx.ExternalReference(type="distribution", url=reference.repo)


def _properties(artefact: Artefact) -> Iterator[cdx.Property]:
    facts = {
        "rung:source": artefact.source,
        "rung:quantisation": artefact.file_type,
        "rung:bitsPerWeight": f"{artefact.bits_per_weight:.4f}",
        "rung:parameters": str(artefact.parameters),
        "rung:contextLength": artefact.context_length and str(artefact.context_length),
        "rung:engine": artefact.engine,
        "rung:retrieved": artefact.retrieved,
        "rung:digestsFrom": ", ".join(sorted({file.verified.value for file in artefact.files})),
        "rung:tensorTable": f"sha256:{artefact.identity.tensor_table}",
        "rung:tokenizer": f"sha256:{artefact.identity.tokenizer}",
        "rung:chatTemplate": artefact.identity.template and f"sha256:{artefact.identity.template}",
        "rung:signer": artefact.signature and artefact.signature.signer,
    }
    for name, value in facts.items():
        if value:
            yield cdx.Property(name=name, value=value)


def _family(architecture: str) -> str | None:
    for family, beginnings in _FAMILIES.items():
        if architecture.startswith(beginnings):
            return family
    return None


def _timestamp(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
