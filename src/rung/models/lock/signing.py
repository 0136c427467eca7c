"""Publishers' signatures by OpenSSF Model Signing, checked with the optional package `model-signing`.

The package says whether the signature is good; whether it is about a pinned model is decided here, by the digests that
were signed, so that no file is read again and a publisher may have signed more files than were fetched.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rung.errors import GateError, InputError, SourceError
from rung.ids import now
from rung.models.lock.record import Artefact, Signature

if TYPE_CHECKING:
    from model_signing.verifying import Config

LARGEST = 16 * 1024 * 1024
"""Bytes of a signature file."""

_PREDICATES = ("https://model_signing/signature/v1.0",)
_PARTS = {"mediaType", "verificationMaterial", "dsseEnvelope"}
_ENVELOPE = {"payload", "payloadType", "signatures"}


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signature is expected: a key's, or that of an identity that somebody vouched for.

    Attributes:
        public_key: file of an elliptic-curve key, PEM.
        identity: such as an address or a workflow's.
        provider: address of who vouched for it, an OpenID Connect issuer.
    """

    public_key: Path | None = None
    identity: str | None = None
    provider: str | None = None


class _Resource(msgspec.Struct, frozen=True):
    """One signed file."""

    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct, frozen=True):
    """What was signed."""

    resources: list[_Resource]


class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    """An in-toto statement."""

    predicate_type: str
    predicate: _Predicate


def check_signature(artefact: Artefact, bundle: Path, signer: Signer) -> Signature:
    """Check that a signer signed the weights of a pinned model.

    Args:
        artefact: whose files are known to be what is pinned.
        bundle: the signature file.
        signer: whose signature it has to be.

    Raises:
        GateError: the signature is not good, not this signer's, or not about these files.
        InputError: a file cannot be read, or the package is missing.
        SourceError: what an identity is checked with cannot be fetched.
    """
    content = _read(bundle, "signature")
    statement = _signed(content, bundle)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "bundle")  # what is checked is what was read above
        copy.write_bytes(content)
        empty = Path(folder, "empty")
        empty.mkdir()
        _check_good(_config(signer), empty, copy, bundle)
    _check_about(artefact, statement, bundle)
    return Signature(
        bundle=hashlib.sha256(content).hexdigest(),
        signer=_name(signer),
        issuer=signer.provider if signer.public_key is None else None,
        checked=now(),
    )


def _config(signer: Signer) -> Config:
    """The package, told whose signature to expect."""
    try:
        from model_signing import verifying  # noqa: PLC0415 - an extra, and half a second
    except ImportError as error:
        raise InputError(
            f"a signature is checked with the package model-signing, which cannot be loaded: {error}",
            hint="pip install 'rung[signing]'",
        ) from error
    config = verifying.Config()  # type: ignore[no-untyped-call]  # its own
    if signer.public_key is not None:
        _read(signer.public_key, "public key")
        try:
            return config.use_elliptic_key_verifier(public_key=signer.public_key)
        except (ValueError, AttributeError) as error:  # no PEM, another kind of key, another curve
            raise InputError(
                f"{str(signer.public_key)!r} is no public key on the curves P-256, P-384 or P-521",
                hint="name the publisher's public key, as PEM",
            ) from error
    if not signer.identity or not signer.provider:
        raise InputError(
            "a signature is checked against a signer, and none is named",
            hint="give --public-key KEY, or --identity WHO and --identity-provider URL",
        )
    return _reached(
        lambda: config.use_sigstore_verifier(
            identity=signer.identity or "", oidc_issuer=signer.provider or ""
        )
    )


def _reached(prepare: Callable[[], Config]) -> Config:
    """What needs sigstore's list of trusted roots, which is fetched."""
    try:
        return prepare()
    except Exception as error:  # of several packages, none of whose errors is documented
        raise SourceError(
            f"sigstore's trusted roots, which an identity is checked with, cannot be had: {error}",
            hint="check the network, or check against a key: --public-key KEY",
        ) from error


def _check_good(config: Config, empty: Path, copy: Path, bundle: Path) -> None:
    """Check that the signer signed the statement.

    The package compares the statement with a folder as well, and says `Signature mismatch` only once the signature
    was found good; with an empty folder that is the best there is to hear, and nothing is hashed for it. A version
    that says it differently makes a good signature a bad one, never the other way round.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it warns by printing
            config.verify(empty, copy)
    except Exception as error:  # of several packages, none of whose errors is documented
        if isinstance(error, ValueError) and str(error).startswith("Signature mismatch: "):
            return
        reason = str(error) or "it was made with another key, or changed since"
        raise GateError(
            f"the signature {str(bundle)!r} is not good: {reason}",
            hint="check that it is the publisher's, and whose it should be",
        ) from error


def _check_about(artefact: Artefact, statement: _Statement, bundle: Path) -> None:
    """Check that all weights are among what was signed."""
    signed = {each.digest for each in statement.predicate.resources if each.algorithm == "sha256"}
    for file in artefact.weights:
        if file.sha256 not in signed:
            raise GateError(
                f"the signature {str(bundle)!r} is good and not about {file.path!r}: "
                f"sha256 {file.sha256} is not among what was signed",
                hint="fetch the signature of this very model",
            )


def _signed(content: bytes, bundle: Path) -> _Statement:
    """The statement in a signature file, which another reader could understand in no other way."""
    try:
        parts = json.loads(content, object_pairs_hook=_once)
        if set(parts) != _PARTS or set(parts["dsseEnvelope"]) != _ENVELOPE:
            raise ValueError("it is no sigstore bundle")
        payload = base64.b64decode(parts["dsseEnvelope"]["payload"], validate=True)
        json.loads(payload, object_pairs_hook=_once)
        statement = msgspec.json.decode(payload, type=_Statement)
        if statement.predicate_type not in _PREDICATES:
            raise ValueError(f"it states {statement.predicate_type!r}")
    except (ValueError, TypeError, RecursionError, msgspec.DecodeError) as error:
        raise GateError(
            f"{str(bundle)!r} is no signature of a model: {error}",
            hint="name the publisher's model.sig, made by OpenSSF model signing 1.0 or later",
        ) from error
    return statement


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object that has no key twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a key twice")
    return found


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(
            f"the {what} {str(path)!r} cannot be read: {error.strerror or error}",
            hint="check the path",
        ) from error
    if len(content) > LARGEST:
        raise InputError(f"{str(path)!r} has more than {LARGEST:,} bytes and is no {what}")
    return content


def _name(signer: Signer) -> str:
    if signer.public_key is None:
        return signer.identity or ""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - comes with model-signing

    key = serialization.load_pem_public_key(signer.public_key.read_bytes())
    plain = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"key sha256:{hashlib.sha256(plain).hexdigest()}"
