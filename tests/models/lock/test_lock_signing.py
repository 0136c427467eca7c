"""A publisher's signature is good, of the right signer and about the pinned files, or it is refused in a sentence."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from locked import artefact

from rung.errors import GateError, InputError, SourceError
from rung.models.lock.record import Artefact, LockedFile, Verified
from rung.models.lock.signing import Signer, check_signature
from signatures import keys, library_missing, sign

needs_library = pytest.mark.skipif(
    library_missing() is not None, reason=f"model-signing: {library_missing()}"
)

Bundle = dict[str, Any]  # Any: JSON, damaged in tests


def pinned(*files: Path) -> Artefact:
    """A pin of these files as its weights."""
    return artefact(
        files=tuple(
            LockedFile(
                role="weights",
                path=f"models/{file.name}",
                size=file.stat().st_size,
                sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                verified=Verified.PUBLISHER,
            )
            for file in files
        )
    )


def written(path: Path, content: bytes) -> Path:
    """A file with these bytes."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@needs_library
def test_a_signature_over_the_file_is_good(tmp_path: Path) -> None:
    """It is noted by its digest and the key's; nothing is asked of the network."""
    private, public = keys(tmp_path)
    model = written(tmp_path / "a.gguf", b"weights")
    bundle = sign(model, private, tmp_path / "model.sig")
    found = check_signature(pinned(model), bundle, Signer(public_key=public))
    assert found.bundle == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert found.signer.startswith("key sha256:")
    assert found.issuer is None


@needs_library
def test_a_signature_over_a_whole_repository_is_good_for_each_of_its_models(tmp_path: Path) -> None:
    """Of what a publisher signed, only some files are fetched; all parts of a model have to be among it."""
    private, public = keys(tmp_path)
    repo = tmp_path / "repo"
    repo.mkdir()
    first, second = (written(repo / f"{name}.gguf", name.encode()) for name in "ab")
    written(repo / "README.md", b"read me")
    bundle = sign(repo, private, tmp_path / "model.sig")
    signer = Signer(public_key=public)
    assert check_signature(pinned(first, second), bundle, signer)
    other = written(tmp_path / "c.gguf", b"c")
    with pytest.raises(GateError, match=r"is good and not about 'models/c\.gguf'"):
        check_signature(pinned(first, other), bundle, signer)


@needs_library
def test_another_key_and_what_is_no_key_are_refused(tmp_path: Path) -> None:
    """Each with its own sentence."""
    private, public = keys(tmp_path)
    _, stranger = keys(tmp_path, "stranger")
    model = written(tmp_path / "a.gguf", b"weights")
    bundle = sign(model, private, tmp_path / "model.sig")
    with pytest.raises(GateError, match="is not good: Key mismatch"):
        check_signature(pinned(model), bundle, Signer(public_key=stranger))
    with pytest.raises(InputError, match="is no public key on the curves"):
        check_signature(pinned(model), bundle, Signer(public_key=model))
    with pytest.raises(InputError, match="and none is named"):
        check_signature(pinned(model), bundle, Signer())
    with pytest.raises(InputError, match="public key 'none' cannot be read"):
        check_signature(pinned(model), bundle, Signer(public_key=Path("none")))
    assert check_signature(pinned(model), bundle, Signer(public_key=public))


@needs_library
def test_an_identity_without_a_network_is_an_error_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sigstore's trusted roots are fetched; a key needs none."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):  # where sigstore keeps them
        monkeypatch.setenv(name, str(tmp_path / "home"))
    private, _ = keys(tmp_path)
    model = written(tmp_path / "a.gguf", b"weights")
    bundle = sign(model, private, tmp_path / "model.sig")
    signer = Signer(identity="me@example.com", provider="https://example.com")
    with pytest.raises(SourceError, match="sigstore's trusted roots") as refused:
        check_signature(pinned(model), bundle, signer)
    assert "--public-key" in (refused.value.hint or "")


def _other_signature(bundle: Bundle) -> None:
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(b"123").decode()


def _other_payload(bundle: Bundle) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    other = payload.replace(
        hashlib.sha256(b"weights").hexdigest().encode(), hashlib.sha256(b"x").hexdigest().encode()
    )
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(other).decode()


def _other_predicate(bundle: Bundle) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    other = payload.replace(b"signature/v1.0", b"signature/v9.0")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(other).decode()


@needs_library
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_other_signature, "is not good"),
        (_other_payload, "is not good"),
        (_other_predicate, "is no signature of a model: it states"),
        (lambda bundle: bundle.pop("verificationMaterial"), "it is no sigstore bundle"),
        (lambda bundle: bundle["dsseEnvelope"].update(extra=1), "it is no sigstore bundle"),
        (lambda bundle: bundle["dsseEnvelope"].update(payload="ä"), "is no signature of a model"),
        (lambda bundle: bundle["dsseEnvelope"].update(payload=5), "is no signature of a model"),
        (lambda bundle: bundle["dsseEnvelope"].update(payload=""), "is no signature of a model"),
    ],
)
def test_a_changed_signature_is_refused(
    tmp_path: Path, damage: Callable[[Bundle], object], sentence: str
) -> None:
    """Whatever is changed in it."""
    private, public = keys(tmp_path)
    model = written(tmp_path / "a.gguf", b"weights")
    bundle = sign(model, private, tmp_path / "model.sig")
    parts = json.loads(bundle.read_text())
    damage(parts)
    bundle.write_text(json.dumps(parts))
    changed = written(tmp_path / "x.gguf", b"x") if damage is _other_payload else model
    with pytest.raises(GateError, match=sentence):
        check_signature(pinned(changed), bundle, Signer(public_key=public))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x00", b'{"a": 1, "a": 2}', b"[" * 9999])
def test_what_is_no_signature_is_refused_before_any_library_sees_it(
    tmp_path: Path, content: bytes
) -> None:
    """In a sentence that names the file."""
    bundle = written(tmp_path / "model.sig", content)
    model = written(tmp_path / "a.gguf", b"weights")
    with pytest.raises(GateError, match="is no signature of a model"):
        check_signature(pinned(model), bundle, Signer(public_key=tmp_path / "key"))


@pytest.mark.skipif(library_missing() is None, reason="model-signing is here")
def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    """The package is an extra."""
    statement = {
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"resources": []},
    }
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    envelope = {"payload": payload, "payloadType": "", "signatures": []}
    parts = {"mediaType": "", "verificationMaterial": {}, "dsseEnvelope": envelope}
    bundle = written(tmp_path / "model.sig", json.dumps(parts).encode())
    model = written(tmp_path / "a.gguf", b"weights")
    with pytest.raises(InputError, match="model-signing, which cannot be loaded") as refused:
        check_signature(pinned(model), bundle, Signer(public_key=model))
    assert refused.value.hint == "pip install 'rung[signing]'"
