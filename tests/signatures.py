"""Real signatures with keys made on the spot."""

from __future__ import annotations

import importlib
from pathlib import Path


def keys(folder: Path, name: str = "publisher") -> tuple[Path, Path]:
    """A private and a public key on P-256, as PEM files."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def sign(model: Path, private: Path, bundle: Path) -> Path:
    """Sign a file, or all files of a folder."""
    from model_signing import signing

    signing.Config().use_elliptic_key_signer(private_key=private).sign(model, bundle)
    return bundle


def library_missing() -> str | None:
    """Why model-signing cannot be used here, None where it can."""
    try:
        importlib.import_module("model_signing")
    except ImportError as error:
        return str(error)
    return None
