"""What `rung.lock` holds, as frozen values. Reading and writing the file is `file`'s."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Collection
from typing import Annotated

import msgspec

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""64 hexadecimal digits, lower case."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Verified(enum.StrEnum):
    """Where a digest comes from: it matched the publisher's, or it was computed here and trusted on first use."""

    PUBLISHER = "publisher"
    COMPUTED = "computed"


class LockedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a model.

    Attributes:
        role: `weights`, `projector`, `adapter`, `template`, … as `sources.resolved.Role` has them.
        path: relative to the folder of `rung.lock`, below it, with forward slashes.
        size: bytes.
        sha256: of the whole file.
        verified: where the digest comes from.
    """

    role: str
    path: str
    size: Count
    sha256: Sha256
    verified: Verified


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SHA-256 of the parts of a model's header, so that a change can be named.

    Attributes:
        tensor_table: name, shape, type and place of every tensor.
        tokenizer: vocabulary and everything else under `tokenizer.`, chat templates left out.
        template: text of the chat templates, None where there is none.
        parameters: all other metadata.
        layout: order of the metadata, with what the others leave out, and where the weights start; None where it was
            not noted.
    """

    tensor_table: Sha256
    tokenizer: Sha256
    template: Sha256 | None
    parameters: Sha256
    layout: Sha256 | None = None


class FitRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What memory the model was expected to take where it was pinned.

    Attributes:
        context: tokens over all slots.
        slots: requests at once.
        kv_type: of keys and values.
        predicted: bytes.
        measured: bytes of a real start, None where there was none.
        machine: name of the machine.
        rules: name of the engine rule set.
    """

    context: Count
    slots: Count
    kv_type: str
    predicted: Count
    measured: Count | None = None
    machine: str
    rules: str


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A publisher's signature that was found good.

    Attributes:
        bundle: SHA-256 of the signature file.
        signer: `key sha256:…` for a public key, else the identity that the certificate names.
        issuer: who vouched for that identity, None for a key.
        checked: when, RFC 3339.
    """

    bundle: Sha256
    signer: str
    issuer: str | None = None
    checked: str


class Artefact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pinned model.

    Attributes:
        name: short and unique within the lock.
        source: the reference it was asked for by, canonical.
        revision: what that stood for: a commit, `sha256:` and a manifest's digest, a strong etag, or empty for a file.
        files: weights first, shards in order.
        identity: of the header's parts.
        sample: SHA-256 of some slices of the weights, by which a change of the header alone is told from one of
            the weights; None where it was not taken.
        architecture: `general.architecture`.
        file_type: such as `Q4_K_M`.
        parameters: weights in all.
        bits_per_weight: of the tensors' data.
        context_length: tokens the model was trained for, None where the file does not say.
        licence: SPDX id or the publisher's name for it.
        base_models: what it was made from, as the publisher says.
        engine: build that it was pinned for.
        fit: what memory was expected.
        template: text of the chat templates, kept for the diff when they change.
        signature: of the publisher, where one was checked.
        retrieved: when, RFC 3339.
        rung: version that pinned it.
    """

    name: str
    source: str
    revision: str
    files: Annotated[tuple[LockedFile, ...], msgspec.Meta(min_length=1)]
    identity: Identity
    sample: Sha256 | None = None
    architecture: str
    file_type: str
    parameters: Count
    bits_per_weight: Annotated[float, msgspec.Meta(ge=0)]
    context_length: Count | None = None
    licence: str | None = None
    base_models: tuple[str, ...] = ()
    engine: str
    fit: FitRecord | None = None
    template: str | None = None
    signature: Signature | None = None
    retrieved: str
    rung: str

    @property
    def weights(self) -> tuple[LockedFile, ...]:
        """The files that are the model itself, shards in order."""
        return tuple(file for file in self.files if file.role == "weights")


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `rung.lock`.

    Attributes:
        format: of the file.
        artefacts: by name.
    """

    format: int = 1
    artefacts: tuple[Artefact, ...] = ()

    def find(self, wanted: str) -> Artefact | None:
        """The artefact with this name, canonical reference, or path of a file."""
        for artefact in self.artefacts:
            paths = [file.path for file in artefact.files]
            if wanted in (artefact.name, artefact.source, *paths):
                return artefact
        return None

    def holder(self, path: str) -> tuple[Artefact, LockedFile] | None:
        """The artefact and the file that is pinned under a path relative to the lock."""
        for artefact in self.artefacts:
            for file in artefact.files:
                if file.path == path:
                    return artefact, file
        return None

    def put(self, artefact: Artefact) -> Lock:
        """This lock with an artefact in the place of what had its source or its first file; sorted by name.

        Where the files are what they were, what is known of them besides is kept, and all of the old record where
        nothing else changed either: to pin a model again is no change.
        """
        first = artefact.files[0].path
        old = [each for each in self.artefacts if each.source == artefact.source]
        old += [each for each in self.artefacts if each.files[0].path == first and each not in old]
        others = tuple(each for each in self.artefacts if each not in old)
        taken = {each.name for each in others}
        if artefact.name in taken:
            artefact = msgspec.structs.replace(artefact, name=_free_name(first, taken))
        if old:
            artefact = _again(artefact, old[0])
        kept = sorted([*others, artefact], key=lambda each: each.name)
        return msgspec.structs.replace(self, artefacts=tuple(kept))


def _again(artefact: Artefact, old: Artefact) -> Artefact:
    """A model that is pinned already, pinned again."""
    if [file.sha256 for file in artefact.files] != [file.sha256 for file in old.files]:
        return artefact
    again = msgspec.structs.replace(
        artefact,
        name=old.name,
        # A copy on this machine does not state what its publisher does.
        licence=artefact.licence or (old.licence if old.source == artefact.source else None),
        fit=artefact.fit or old.fit,
        signature=artefact.signature or old.signature,
    )
    same = msgspec.structs.replace(again, retrieved=old.retrieved, rung=old.rung) == old
    return old if same else again


def _free_name(path: str, taken: Collection[str]) -> str:
    """A name for the model whose first file has this path, of which there is one; its stem is another model's."""
    whole = path.rpartition(".")[0] or path
    numbered = (f"{path} {number}" for number in itertools.count(2))
    return next(name for name in itertools.chain((whole, path), numbered) if name not in taken)
