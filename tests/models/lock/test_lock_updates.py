"""What a publisher changed is told without fetching weights; a source that does not answer is said so."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gguf_models import CHATML, tiny_model
from hub import MODEL_LAYER, TEMPLATE_LAYER, Fault, Hub, Mode
from rung.errors import ConfigError, InputError
from rung.models.header import read_header
from rung.models.lock.changes import Part
from rung.models.lock.identity import SLICE_BYTES, SLICES
from rung.models.lock.pinning import artefact_of, local_artefact
from rung.models.lock.record import Artefact, LockedFile, Verified
from rung.models.lock.updates import State, Update, updates
from rung.models.reference import parse_reference
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import Resolved, Role

REPO = "someone/tiny-GGUF"
SOURCE = f"hf:{REPO}:Q4_K_M"
FILE = "tiny-Q4_K_M.gguf"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Servers, and a home of its own."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    with Hub() as servers:
        servers.use(monkeypatch)
        yield servers


def pin(source: str, path: Path) -> Artefact:
    """A pin of what a reference names now, with its weights at `path`."""

    async def scene() -> Artefact:
        async with Sources(stores=False) as sources:
            resolved = await sources.resolve(parse_reference(source))
        files = tuple(
            LockedFile(
                role=file.role.value,
                path=path.name if file.role is Role.WEIGHTS else f"{path.name}.{file.role}",
                size=file.size or 0,
                sha256=file.sha256 or "",
                verified=Verified.PUBLISHER,
            )
            for file in resolved.files
        )
        return artefact_of(resolved, files, [read_header(path)], root=path.parent)

    return asyncio.run(scene())


def asked(*artefacts: Artefact) -> tuple[Update, ...]:
    """What became of them."""

    async def scene() -> tuple[Update, ...]:
        async with Sources(stores=False) as sources:
            return await updates(artefacts, sources)

    return asyncio.run(scene())


def published(hub: Hub, root: Path, **facts: Any) -> Artefact:  # Any: arguments of tiny_model
    """A model on the hub, pinned."""
    path = tiny_model(root / FILE, **facts)
    hub.add_repo(REPO, {FILE: path.read_bytes()}, licence="apache-2.0")
    return pin(SOURCE, path)


def test_a_reference_that_names_the_same_is_current(hub: Hub, tmp_path: Path) -> None:
    """One request, nothing read."""
    artefact = published(hub, tmp_path)
    (found,) = asked(artefact)
    assert (found.state, found.parts) == (State.CURRENT, ())
    assert hub.requests_for("/cdn/") == []


def test_another_commit_with_the_same_file_changed_nothing(hub: Hub, tmp_path: Path) -> None:
    """A new README, most often."""
    artefact = published(hub, tmp_path)
    now = hub.add_repo(
        REPO,
        {FILE: (tmp_path / FILE).read_bytes(), "README.md": b"new"},
        licence="apache-2.0",
    )
    (found,) = asked(artefact)
    assert (found.state, found.parts, found.revision) == (State.REVISION, (), now)
    assert hub.requests_for("/cdn/") == []


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ({"template": CHATML + "{# mended #}"}, {Part.TEMPLATE}),
        ({"template": None}, {Part.TEMPLATE}),
        ({"extra": {"tokenizer.ggml.pre": "llama-bpe"}}, {Part.TOKENIZER}),
        ({"extra": {"general.author": "me"}}, {Part.METADATA}),
        ({"seed": 1}, {Part.WEIGHTS}),
        ({"seed": 1, "template": "{{ x }}"}, {Part.WEIGHTS, Part.TEMPLATE}),
        ({"layers": 1}, {Part.TENSORS, Part.METADATA}),
    ],
)
def test_it_says_which_part_the_publisher_changed(
    hub: Hub, tmp_path: Path, facts: Mapping[str, Any], parts: set[Part]
) -> None:
    """And reads no more of the file than its header and some slices."""
    artefact = published(hub, tmp_path, dim=512)
    other = tiny_model(tmp_path / "other.gguf", **{"dim": 512} | dict(facts))
    hub.add_repo(REPO, {FILE: other}, licence="apache-2.0")
    (found,) = asked(artefact)
    assert (found.state, set(found.parts), found.sampled) == (
        State.CHANGED,
        parts,
        Part.TENSORS not in parts,
    )
    assert found.places == (SLICES if found.sampled else 0)
    assert (found.template is not None) == (
        Part.TEMPLATE in parts and facts["template"] is not None
    )


def test_of_the_weights_it_reads_sixteen_slices(hub: Hub, tmp_path: Path) -> None:
    """Of 4 KiB each, and not what follows them."""
    artefact = published(hub, tmp_path)
    hub.add_repo(REPO, {FILE: tiny_model(tmp_path / "other.gguf", template="{{ x }}")})
    asked(artefact)
    slices = [
        each
        for each in hub.requests_for("/cdn/")
        if each.range and not each.range.startswith("bytes=0-")
    ]
    assert [each.sent for each in slices] == [SLICE_BYTES] * SLICES
    (found,) = asked(artefact)
    assert found.places == SLICES


def test_another_projector_is_told_and_one_that_went_away(hub: Hub, tmp_path: Path) -> None:
    """A file that was pinned beside the weights is looked for by its name."""
    weights, eyes, other = (
        tiny_model(tmp_path / name, seed=seed)
        for seed, name in enumerate((FILE, "mmproj-F16.gguf", "o.gguf"))
    )
    hub.add_repo(REPO, {FILE: weights, eyes.name: eyes}, licence="mit")
    artefact = pin(SOURCE, weights)
    file = LockedFile(
        role="projector",
        path="models/tiny-Q4_K_M.with.mmproj-F16.gguf",
        size=eyes.stat().st_size,
        sha256=hashlib.sha256(eyes.read_bytes()).hexdigest(),
        verified=Verified.PUBLISHER,
    )
    artefact = msgspec.structs.replace(artefact, files=(*artefact.files, file))
    expected: list[tuple[dict[str, Path], State, tuple[Part, ...], bool]] = [
        ({eyes.name: eyes, "README.md": other}, State.REVISION, (), False),
        ({eyes.name: other, "mmproj-BF16.gguf": eyes}, State.CHANGED, (Part.FILES,), False),
        ({"mmproj-BF16.gguf": eyes}, State.CHANGED, (Part.FILES,), True),
        ({}, State.CHANGED, (Part.FILES,), True),
    ]
    for files, state, parts, said in expected:
        hub.add_repo(REPO, {FILE: weights, **files}, licence="mit")
        (found,) = asked(artefact)
        assert (found.state, found.parts, found.reason is not None) == (state, parts, said)


@pytest.mark.parametrize("source", [f"hf:{REPO}", f"hf:{REPO}:Q8_0"])
def test_what_else_a_publisher_adds_is_no_change_of_the_pinned_file(
    hub: Hub, tmp_path: Path, source: str
) -> None:
    """Also where the reference would mean another file now, or none in particular."""
    path = tiny_model(tmp_path / "tiny-Q8_0.gguf")
    other = tiny_model(tmp_path / "other.gguf", seed=1)
    hub.add_repo(REPO, {path.name: path})
    artefact = pin(source, path)
    for added in ("tiny-Q4_K_M.gguf", "tiny-Q5_0.gguf", "big-Q8_0.gguf"):
        hub.add_repo(REPO, {path.name: path, added: other})
        (found,) = asked(artefact)
        assert (found.state, found.parts, found.reason) == (State.REVISION, (), None)
    mended = tiny_model(tmp_path / "mended.gguf", template="{{ x }}")
    hub.add_repo(REPO, {path.name: mended, "tiny-Q4_K_M.gguf": other})
    (found,) = asked(artefact)
    assert (found.state, found.parts) == (State.CHANGED, (Part.TEMPLATE,))


def test_a_header_that_cannot_be_read_leaves_the_change_known(hub: Hub, tmp_path: Path) -> None:
    """The digests told it; which part it is stays open."""
    artefact = published(hub, tmp_path)
    hub.add_repo(REPO, {FILE: tiny_model(tmp_path / "o.gguf", seed=1)}, licence="apache-2.0")
    hub.fail(Fault(Mode.STATUS, status=503), times=9)
    (found,) = asked(artefact)
    assert (found.state, found.parts, found.broken_off) == (State.CHANGED, (), True)
    assert "its header cannot be read: " in (found.reason or "")


def test_a_wrong_setting_is_no_news_of_a_publisher(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a lock that names nonsense."""
    artefact = published(hub, tmp_path)
    broken = msgspec.structs.replace(artefact, source="nonsense")
    with pytest.raises(ConfigError, match=r"rung\.lock: the source of 'tiny-Q4_K_M' is no name"):
        asked(broken)
    monkeypatch.setenv("HF_ENDPOINT", "ftp://nothing")
    with pytest.raises(InputError, match="HF_ENDPOINT is 'ftp://nothing'"):
        asked(artefact)


def test_bytes_that_were_never_the_publishers_are_told(hub: Hub, tmp_path: Path) -> None:
    """Pinned offline from another program's copy, under a commit that is right."""
    artefact = published(hub, tmp_path)
    (right,) = artefact.files
    wrong = msgspec.structs.replace(right, sha256="ab" * 32, verified=Verified.COMPUTED)
    (found,) = asked(msgspec.structs.replace(artefact, files=(wrong,)))
    assert (found.state, found.revision) == (State.CHANGED, artefact.revision)


def test_an_address_that_took_a_query_cannot_be_asked_again(hub: Hub, tmp_path: Path) -> None:
    """The lock does not hold the query, which may be a key."""
    path = tiny_model(tmp_path / FILE)
    source = hub.add_file(FILE, path.read_bytes())
    artefact = pinned_address(f"{source}?sig=abc", path)
    assert artefact.source == f"{source}?"
    (found,) = asked(artefact)
    assert found.state is State.UNANSWERABLE
    assert "cannot be asked again" in (found.reason or "")


def test_another_licence_is_told(hub: Hub, tmp_path: Path) -> None:
    """Of the same weights."""
    artefact = published(hub, tmp_path)
    hub.add_repo(
        REPO, {FILE: (tmp_path / FILE).read_bytes(), "LICENSE": b"no"}, licence="cc-by-nc-4.0"
    )
    (found,) = asked(artefact)
    assert (found.state, found.parts, found.licence) == (
        State.CHANGED,
        (Part.LICENCE,),
        "cc-by-nc-4.0",
    )


def test_a_tag_of_a_registry_is_asked_after(hub: Hub, tmp_path: Path) -> None:
    """The weights are the same layer, the template is another one."""
    path = tiny_model(tmp_path / "tiny-latest.gguf")
    layers = [(MODEL_LAYER, path.read_bytes()), (TEMPLATE_LAYER, b"{{ .Prompt }}")]
    hub.add_ollama("library/tiny", "latest", layers)
    artefact = pin("ollama:tiny", path)
    assert [each.state for each in asked(artefact)] == [State.CURRENT]
    hub.add_ollama("library/tiny", "latest", [layers[0], (TEMPLATE_LAYER, b"{{ .System }}")])
    (found,) = asked(artefact)
    assert (found.state, found.parts) == (State.CHANGED, (Part.FILES,))


def test_an_address_is_asked_after_by_its_etag(hub: Hub, tmp_path: Path) -> None:
    """Where the server gives a strong one; else there is nothing to compare."""
    path = tiny_model(tmp_path / FILE)
    source = hub.add_file(FILE, path.read_bytes())
    artefact = pinned_address(source, path)
    assert artefact.revision
    assert [each.state for each in asked(artefact)] == [State.CURRENT]
    hub.add_file(FILE, tiny_model(tmp_path / "o.gguf", template="{{ x }}").read_bytes())
    (found,) = asked(artefact)
    assert (found.state, found.parts) == (State.CHANGED, (Part.TEMPLATE,))
    plain = Artefact(
        **{name: getattr(artefact, name) for name in Artefact.__struct_fields__} | {"revision": ""}
    )
    (unknown,) = asked(plain)
    assert unknown.state is State.UNANSWERABLE


def pinned_address(source: str, path: Path) -> Artefact:
    """A pin of a file of the plain web server, whose digest is computed here."""

    async def resolved() -> Resolved:
        async with Sources(stores=False) as sources:
            return await sources.resolve(parse_reference(source))

    file = LockedFile(
        role="weights",
        path=path.name,
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        verified=Verified.COMPUTED,
    )
    return artefact_of(asyncio.run(resolved()), (file,), [read_header(path)], root=path.parent)


def test_each_model_has_its_own_answer(hub: Hub, tmp_path: Path) -> None:
    """A file has no publisher, a repository may be gone, a server may be down; the others are asked all the same."""
    artefact = published(hub, tmp_path)
    local = local_artefact(FILE, tmp_path)
    facts = {name: getattr(artefact, name) for name in Artefact.__struct_fields__}
    gone = Artefact(**facts | {"source": "hf:someone/else:Q4_K_M"})
    down = Artefact(**facts | {"source": "ollama:tiny:down"})
    hub.fail(Fault(Mode.STATUS, status=500), times=99, path="/v2/")
    found = asked(artefact, local, gone, down)
    assert [each.state for each in found] == [
        State.CURRENT,
        State.UNANSWERABLE,
        State.GONE,
        State.UNREACHABLE,
    ]
    assert all(each.reason for each in found[1:])
    assert [each.sampled for each in found] == [None] * 4


def test_a_server_that_gives_no_parts_of_files_leaves_the_weights_uncompared(
    hub: Hub, tmp_path: Path
) -> None:
    """The header is read all the same, and the answer says what it rests on."""
    artefact = published(hub, tmp_path)
    other = tiny_model(tmp_path / "other.gguf", template="{{ x }}")
    hub.add_repo(REPO, {FILE: other}, licence="apache-2.0")
    hub.fail(Fault(Mode.IGNORE_RANGE), times=99)
    (found,) = asked(artefact)
    assert (found.parts, found.sampled) == ((Part.TEMPLATE,), False)
