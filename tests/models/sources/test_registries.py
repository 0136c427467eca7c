"""Looking models up at Hugging Face, Ollama's registry, plain addresses and on this machine."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import (
    LICENSE_LAYER,
    MODEL_LAYER,
    PARAMS_LAYER,
    PROJECTOR_LAYER,
    TEMPLATE_LAYER,
    Fault,
    Hub,
    Mode,
)
from lookups import read_file, read_headers, resolve
from rung.errors import InputError, ModelError, SourceError
from rung.models.reference import parse_reference
from rung.models.sources.ollama import resolved_manifest
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import RemoteFile, Resolved, Role

WEIGHTS = b"GGUF" + bytes(1000)
SHA = hashlib.sha256(WEIGHTS).hexdigest()


def test_hugging_face_pins_commit_size_digest_and_licence(hub: Hub) -> None:
    """One request tells all that a pin needs."""
    commit = hub.add_repo(
        "o/r",
        {"x-Q4_K_M.gguf": WEIGHTS, "x-Q8_0.gguf": b"eight", "README.md": b"#"},
        licence="apache-2.0",
        base_models=["o/base"],
    )
    base = f"{hub.url}/o/r/resolve/{commit}"
    found = resolve("hf:o/r:Q4_K_M")
    assert found == Resolved(
        reference=parse_reference("hf:o/r:Q4_K_M"),
        revision=commit,
        files=(
            RemoteFile(
                name="x-Q4_K_M.gguf",
                role=Role.WEIGHTS,
                size=len(WEIGHTS),
                sha256=SHA,
                url=f"{base}/x-Q4_K_M.gguf",
            ),
        ),
        others=(
            RemoteFile(
                name="x-Q8_0.gguf",
                role=Role.WEIGHTS,
                size=5,
                sha256=hashlib.sha256(b"eight").hexdigest(),
                url=f"{base}/x-Q8_0.gguf",
            ),
        ),
        licence="apache-2.0",
        base_models=("o/base",),
    )
    assert len(hub.log) == 1


def test_an_older_commit_stays_what_it_was(hub: Hub) -> None:
    """A branch moves, a commit does not."""
    old = hub.add_repo("o/r", {"x-Q4_K_M.gguf": WEIGHTS})
    new = hub.add_repo("o/r", {"x-Q4_K_M.gguf": WEIGHTS + b"2"})
    assert resolve("hf:o/r").revision == new
    assert resolve(f"hf:o/r@{old}").files[0].sha256 == SHA


def test_what_hugging_face_does_not_have_is_said(hub: Hub) -> None:
    """Repository, revision: each in one sentence with a way on."""
    hub.add_repo("o/r", {"x-Q4_K_M.gguf": WEIGHTS})
    with pytest.raises(ModelError, match="hf:o/other does not exist or is private") as caught:
        resolve("hf:o/other")
    assert "HF_TOKEN" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="no branch, tag or commit 'v9'"):
        resolve("hf:o/r@v9")


def test_a_gated_model_says_how_to_get_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its facts are public; its bytes need consent and a token, which goes to Hugging Face alone."""
    hub.add_repo("o/r", {"x-Q4_K_M.gguf": WEIGHTS}, gated=True)
    found = resolve("hf:o/r")
    assert found.gated
    with pytest.raises(ModelError, match="is gated") as caught:
        read_file(found.files[0])
    assert "agree to its terms at https://huggingface.co/o/r" in (caught.value.hint or "")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelError, match="is gated") as caught:
        read_file(found.files[0])
    assert "hf_wrong" not in f"{caught.value.message} {caught.value.hint}"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.log.clear()
    assert read_file(found.files[0])[3] == WEIGHTS
    sent = {(request.port, request.authorization) for request in hub.log}
    assert sent == {(hub.port, f"Bearer {hub.token}"), (hub.cdn_port, None)}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(Mode.HTML), "does not answer as Hugging Face does"),
        (Fault(Mode.STATUS, status=503), "failed with status 503"),
        (Fault(Mode.STATUS, status=429, headers=(("Retry-After", "7"),)), "no more requests"),
        (Fault(Mode.HANG_UP), "cannot be reached"),
        (
            Fault(Mode.REDIRECT, to="http://example.com/x?sig=abc"),
            r"example.com/x\?…', which is not",
        ),
        (Fault(Mode.REDIRECT, to="http://example.com/x"), "is not encrypted"),
        (Fault(Mode.REDIRECT, to="/api/models/o/r"), "redirects more than 5 times"),
    ],
)
def test_a_listing_that_goes_wrong_is_said(hub: Hub, fault: Fault, says: str) -> None:
    """No traceback and no guess, whatever the server answers."""
    hub.add_repo("o/r", {"x-Q4_K_M.gguf": WEIGHTS})
    hub.fail(fault, path="/api/", times=9)
    with pytest.raises(SourceError, match=says):
        resolve("hf:o/r")


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection names the host once, and what the system says of it."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError) as refused:
        resolve("hf:o/r", stores=False)
    assert refused.value.message == "'127.0.0.1' cannot be reached: connection refused"


@pytest.mark.parametrize("address", ["http://example.com", "nonsense", "https://u:p@example.com"])
def test_an_endpoint_that_a_token_must_not_go_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The variable is checked before anything is sent."""
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(InputError, match="HF_ENDPOINT"):
        resolve("hf:o/r", stores=False)


def test_the_registry_of_ollama_pins_the_manifest_and_its_layers(hub: Hub) -> None:
    """A tag becomes the digest of its manifest; layers become files by what they are for."""
    layers = [(TEMPLATE_LAYER, b"{{ .Prompt }}"), (MODEL_LAYER, WEIGHTS), (LICENSE_LAYER, b"MIT")]
    layers += [(PARAMS_LAYER, b"{}"), (PROJECTOR_LAYER, b"p"), ("application/other", b"?")]
    digest = hub.add_ollama("library/tiny", "1b", layers)
    found = resolve("ollama:tiny:1b")
    assert found.revision == digest
    assert [(file.name, file.role.value) for file in found.files] == [
        ("tiny-1b.gguf", "weights"),
        ("tiny-1b.template", "template"),
        ("tiny-1b.license", "licence"),
        ("tiny-1b.params.json", "parameters"),
        ("tiny-1b-mmproj.gguf", "projector"),
    ]
    assert (found.files[0].sha256, found.files[0].size) == (SHA, len(WEIGHTS))
    assert read_file(found.files[0])[3] == WEIGHTS
    assert resolve(f"ollama:tiny@{digest}").revision == digest


def test_a_wrong_manifest_is_refused(hub: Hub) -> None:
    """Other bytes than the digest asked for, digests that are none, no weights, no JSON."""
    digest = hub.add_ollama("library/t", "a", [(MODEL_LAYER, WEIGHTS)])
    hub.set_manifest("library/t", digest, hub.manifest("library/t", "a") + b" ")
    with pytest.raises(SourceError, match="has the digest"):
        resolve(f"ollama:t@{digest}")
    hub.set_manifest(
        "library/t", "b", hub.manifest("library/t", "a").replace(b'"sha256:', b'"md5:')
    )
    with pytest.raises(SourceError, match="cannot be read"):
        resolve("ollama:t:b")
    hub.set_manifest("library/t", "c", json.dumps({"schemaVersion": 2, "layers": []}).encode())
    with pytest.raises(ModelError, match="holds no weights"):
        resolve("ollama:t:c")
    hub.set_manifest("library/t", "d", b"<html>")
    with pytest.raises(SourceError, match="cannot be read"):
        resolve("ollama:t:d")
    with pytest.raises(ModelError, match="has no 'ollama:library/t:e'"):
        resolve("ollama:t:e")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
LAYERS = st.lists(
    st.fixed_dictionaries(
        {
            "mediaType": st.sampled_from([MODEL_LAYER, TEMPLATE_LAYER, "application/x"]) | JSON,
            "digest": st.sampled_from([f"sha256:{SHA}", "sha256:../../x", f"sha512:{SHA}"]) | JSON,
            "size": st.integers(-1, 2**70) | JSON,
        }
    ),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=40)
    | JSON.map(lambda value: json.dumps(value).encode())
    | LAYERS.map(lambda layers: json.dumps({"schemaVersion": 2, "layers": layers}).encode())
)
def test_any_manifest_is_read_or_refused(manifest: bytes) -> None:
    """Whatever a registry sends, files have plain names, true digests and sizes."""
    try:
        found = resolved_manifest(parse_reference("ollama:t:1b"), manifest, "https://r.example")
    except (ModelError, SourceError):
        return
    for file in found.files:
        assert file.sha256 == SHA
        assert file.size is not None
        assert file.size >= 0
        assert "/" not in file.name


def test_a_plain_address_is_pinned_by_its_entity_tag(hub: Hub) -> None:
    """Its size is known from one byte; a weak tag stands for nothing."""
    address = hub.add_file("x.gguf", WEIGHTS)
    found = resolve(address)
    assert (found.revision, found.files[0].size) == (f'"{SHA}"', len(WEIGHTS))
    assert found.files[0].sha256 is None
    assert hub.bytes_served == 1
    hub.fail(Fault(Mode.WEAK_ETAG))
    assert resolve(address).revision == ""
    hub.fail(Fault(Mode.IGNORE_RANGE))
    assert resolve(address).files[0].size == len(WEIGHTS)


def test_a_listing_that_comes_in_drips_is_given_up(hub: Hub) -> None:
    """A byte now and then is no answer."""
    hub.add_repo("o/r", {"x-Q4_K_M.gguf": WEIGHTS})
    hub.fail(Fault(Mode.DRIP), path="/api/")

    async def ask() -> None:
        async with Sources(stores=False, stall_s=0.3) as sources:
            await sources.resolve(parse_reference("hf:o/r"))

    with pytest.raises(SourceError, match="does not answer in time"):
        asyncio.run(ask())


def test_a_query_opens_an_address_and_is_shown_nowhere(hub: Hub) -> None:
    """It is sent with every request; what was written down of it cannot be asked again."""
    address = hub.add_file("x.gguf", WEIGHTS)
    found = resolve(f"{address}?sig=abc")
    assert read_file(found.files[0])[3] == WEIGHTS
    assert [request.path for request in hub.log] == ["/files/x.gguf?sig=abc"] * 2
    with pytest.raises(ModelError, match="cannot be asked again") as caught:
        resolve(str(found.reference))
    assert "rung pull" in (caught.value.hint or "")
    for name in ("gone", "hangs"):
        hub.fail(Fault(Mode.HANG_UP), path="hangs", times=9)
        with pytest.raises((ModelError, SourceError)) as refused:
            resolve(f"{hub.url}/files/{name}.gguf?sig=abc")
        assert "abc" not in f"{refused.value.message} {refused.value.hint}"


def test_an_address_without_a_model_is_said(hub: Hub) -> None:
    """Nothing there, a page to sign in, or another host, each by name."""
    with pytest.raises(ModelError, match="there is nothing at"):
        resolve(f"{hub.url}/files/x.gguf")
    address = hub.add_file("x.gguf", WEIGHTS)
    hub.fail(Fault(Mode.HTML))
    with pytest.raises(SourceError, match="with a web page"):
        resolve(address)
    hub.add_repo("o/r", {"x.gguf": WEIGHTS})
    hub.fail(Fault(Mode.REDIRECT, to=f"http://localhost:{hub.cdn_port}/cdn/{SHA}"))
    assert resolve(address).notes == ("127.0.0.1 hands over to localhost, which serves the bytes",)


def test_a_file_of_this_machine_needs_no_server(tmp_path: Path) -> None:
    """It is read where it lies, its parts beside it; a missing one is named."""
    parts = [tmp_path / f"x-{n:05}-of-00002.gguf" for n in (1, 2)]
    parts[0].write_bytes(WEIGHTS)
    with pytest.raises(ModelError, match=r"x-00002-of-00002\.gguf"):
        resolve(str(parts[0]))
    parts[1].write_bytes(b"2")
    found = resolve(str(parts[1]))
    assert [file.path for file in found.files] == parts
    assert read_file(found.files[0], start=4)[3] == WEIGHTS[4:]
    with pytest.raises(ModelError) as caught:
        resolve("owner/repo")
    assert caught.value.hint == "for a repository of Hugging Face write hf:owner/repo"


def test_a_file_that_is_no_model_has_no_header(hub: Hub) -> None:
    """What is named is found; what it holds is judged when it is read."""
    hub.add_repo("o/r", {"x-Q4_K_M.gguf": b"PK\x03\x04" + bytes(100)})
    with pytest.raises(ModelError, match="is not a GGUF file"):
        read_headers("hf:o/r")
