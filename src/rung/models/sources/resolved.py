"""What a reference turned out to name: files with their sizes and digests, at a revision that cannot move.

Finding it out is `opening`'s.
"""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

from rung.models.reference import Reference


class Role(enum.StrEnum):
    """What a file is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    ADAPTER = "adapter"
    TEMPLATE = "template"
    LICENCE = "licence"
    PARAMETERS = "parameters"
    SYSTEM = "system"
    TOKENIZER = "tokenizer"
    CONFIG = "config"
    OTHER = "other"


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file at its source.

    Attributes:
        name: within its repository, safe as a relative path; made up where the source has no names.
        role: what it is for.
        size: bytes, as the source says; None where it does not.
        sha256: the publisher's digest of the whole file, hex; None where there is none, or nobody asked for it.
        url: where it can be fetched.
        path: where it lies on this machine already, in another program's store or as a file of the user's.
    """

    name: str
    role: Role
    size: int | None = None
    sha256: str | None = None
    url: str | None = None
    path: Path | None = None


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference names, pinned.

    Attributes:
        reference: as it was asked for.
        revision: what cannot move: a commit, `sha256:` and the digest of a manifest, the strong entity tag of an
            address (empty when it has none), empty for files of this machine.
        files: what the reference names: weights, parts in order, then side files.
        others: other weight files of the same repository.
        beside: files of the same repository that go with its models and were not named, such as projectors.
        licence: as the source spells it.
        base_models: what the model was made from, as the source says.
        gated: whether the publisher asks for consent before a download.
        store: the program in whose store all weights lie on this machine, None when they do not.
        notes: what a user should know of how this was found, such as another host that serves the bytes.
    """

    reference: Reference
    revision: str
    files: tuple[RemoteFile, ...]
    others: tuple[RemoteFile, ...] = ()
    beside: tuple[RemoteFile, ...] = ()
    licence: str | None = None
    base_models: tuple[str, ...] = ()
    gated: bool = False
    store: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> tuple[RemoteFile, ...]:
        """The files with weights, parts in order."""
        return tuple(file for file in self.files if file.role is Role.WEIGHTS)
