"""The part of CycloneDX 1.6 that a bill of models needs, as values. What goes into them is `bom`'s.

Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class Hash(msgspec.Struct, frozen=True, kw_only=True):
    """A digest, lower-case hexadecimal."""

    alg: str = "SHA-256"
    content: str


class Licence(msgspec.Struct, frozen=True, kw_only=True):
    """A licence by its SPDX id or by a name."""

    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class LicenceChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What a component is licensed under."""

    license: Licence


class ExternalReference(msgspec.Struct, frozen=True, kw_only=True):
    """An address and what lies there."""

    type: str
    url: str


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """What the format has no field for."""

    name: str
    value: str


class Pedigree(msgspec.Struct, frozen=True, kw_only=True):
    """What a component was made from."""

    ancestors: tuple[Component, ...]


class ModelParameters(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a model is built."""

    architecture_family: str | UnsetType = UNSET
    model_architecture: str | UnsetType = UNSET


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a model as a model."""

    model_parameters: ModelParameters


class Component(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "bom_ref": "bom-ref",
        "external_references": "externalReferences",
        "model_card": "modelCard",
    },
):
    """A model, a file of one, or a program."""

    type: str
    bom_ref: str | UnsetType = UNSET
    name: str
    version: str | UnsetType = UNSET
    hashes: tuple[Hash, ...] | UnsetType = UNSET
    licenses: tuple[LicenceChoice, ...] | UnsetType = UNSET
    purl: str | UnsetType = UNSET
    pedigree: Pedigree | UnsetType = UNSET
    external_references: tuple[ExternalReference, ...] | UnsetType = UNSET
    components: tuple[Component, ...] | UnsetType = UNSET
    properties: tuple[Property, ...] | UnsetType = UNSET
    model_card: ModelCard | UnsetType = UNSET


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What wrote the document."""

    components: tuple[Component, ...]


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """When and by what the document was written."""

    timestamp: str | UnsetType = UNSET
    tools: Tools


class Bom(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The document."""

    schema: str = msgspec.field(
        default="http://cyclonedx.org/schema/bom-1.6.schema.json", name="$schema"
    )
    bom_format: str = "CycloneDX"
    spec_version: str = "1.6"
    serial_number: str
    version: int = 1
    metadata: Metadata
    components: tuple[Component, ...]
