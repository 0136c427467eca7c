"""Builders of locks that several tests share."""

from __future__ import annotations

from typing import Any

from rung.models.lock.record import Artefact, Identity, LockedFile, Verified

DIGEST = "ab" * 32


def artefact(name: str = "tiny", **other: Any) -> Artefact:  # Any: the fields of an artefact
    """A pin, with these fields in place of the usual ones."""
    facts: dict[str, Any] = {
        "name": name,
        "source": f"hf:someone/{name}-GGUF:Q4_K_M",
        "revision": "c0ffee" + "0" * 34,
        "files": (
            LockedFile(
                role="weights",
                path=f"models/{name}.gguf",
                size=7,
                sha256=DIGEST,
                verified=Verified.PUBLISHER,
            ),
        ),
        "identity": Identity(
            tensor_table=DIGEST, tokenizer=DIGEST, template=DIGEST, parameters=DIGEST
        ),
        "architecture": "llama",
        "file_type": "Q4_K_M",
        "parameters": 1_573_632,
        "bits_per_weight": 4.85,
        "context_length": 2048,
        "licence": "apache-2.0",
        "engine": "xllamacpp 1",
        "template": "{{ messages }}",
        "retrieved": "2026-11-02T10:00:00.000+00:00",
        "rung": "0.1.0",
    }
    return Artefact(**facts | other)
