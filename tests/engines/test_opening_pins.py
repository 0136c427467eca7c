"""The load gate: what the lock names is what is loaded, or nothing is."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from gguf_models import tiny_model
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.opening import Engines
from rung.engines.protocol import GenerateRequest, Generation, Health, State
from rung.errors import ConfigError, EngineUnavailable, ModelError
from rung.models.lock.file import LOCK_NAME, update_lock
from rung.models.lock.pinning import local_artefact
from rung.models.lock.record import Artefact
from rung.task import Message
from rung.userfiles.settings import load_settings

ASK = GenerateRequest(messages=(Message("user", "hello"),), max_tokens=1)
SOURCE = "hf:someone/tiny-GGUF:F16"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))


def project(root: Path, model: str, *, source: str | None = None) -> Path:
    """A project with one rung on `model`, and models/tiny.gguf pinned, as fetched from `source` where one is given.

    Returns:
        The pinned file.
    """
    (root / "rung.toml").write_text(
        f'format = 1\n[rungs.local]\nengine = "llama_cpp"\nmodel = "{model}"\n[ladders]\ndefault = ["local"]\n'
    )
    (root / "models").mkdir()
    path = tiny_model(root / "models" / "tiny.gguf")
    artefact = local_artefact("models/tiny.gguf", root)
    facts = {name: getattr(artefact, name) for name in Artefact.__struct_fields__}
    pinned = Artefact(**facts | {"source": source or artefact.source})
    update_lock(root / LOCK_NAME, lambda lock: lock.put(pinned))
    return path


def asked(root: Path) -> Generation:
    """The answer of the rung."""

    async def scene() -> Generation:
        settings = load_settings(root / "rung.toml")
        engines = Engines(settings)
        engine = engines.get(settings.rungs["local"], "triage")
        assert isinstance(engine, LlamaCppEngine)
        try:
            return await engine.generate(ASK)
        finally:
            await engines.aclose()

    return asyncio.run(scene())


def health(root: Path) -> Health:
    """How the rung's engine is."""

    async def scene() -> Health:
        settings = load_settings(root / "rung.toml")
        engines = Engines(settings)
        try:
            return await engines.get(settings.rungs["local"], "triage").health()
        finally:
            await engines.aclose()

    return asyncio.run(scene())


def test_the_pinned_file_answers_under_its_path_and_under_its_reference(tmp_path: Path) -> None:
    """No network is there; the lock says which file a reference is."""
    project(tmp_path, SOURCE, source=SOURCE)
    assert isinstance(asked(tmp_path), Generation)
    text = (tmp_path / "rung.toml").read_text().replace(SOURCE, "models/tiny.gguf")
    (tmp_path / "rung.toml").write_text(text)
    assert isinstance(asked(tmp_path), Generation)


@pytest.mark.parametrize(
    "model", ["hf.co/someone/tiny-GGUF:F16", "https://hf.co/someone/tiny-GGUF:f16"]
)
def test_a_reference_may_be_written_as_everywhere_else(tmp_path: Path, model: str) -> None:
    """What the command line takes, `rung.toml` takes."""
    project(tmp_path, model, source=SOURCE)
    assert health(tmp_path).state in (State.READY, State.COLD)


@pytest.mark.parametrize(
    ("source", "hint"),
    [(None, 'write model = "models/tiny.gguf"'), (SOURCE, f'write model = "{SOURCE}"')],
)
def test_a_name_in_the_lock_is_not_what_a_rung_names(
    tmp_path: Path, source: str | None, hint: str
) -> None:
    """It says what to write instead."""
    project(tmp_path, "tiny", source=source)
    with pytest.raises(ModelError, match=r"'tiny' is a name in rung\.lock, not a file") as refused:
        asked(tmp_path)
    assert refused.value.hint == hint


def test_a_query_of_a_rungs_address_is_not_shown(tmp_path: Path) -> None:
    """It may be a key."""
    project(tmp_path, "https://model.example/x.gguf?sig=abc")
    with pytest.raises(
        ModelError, match=r"'https://model\.example/x\.gguf\?' is not pinned"
    ) as caught:
        asked(tmp_path)
    assert "abc" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("model", ["models/tiny.gguf", "./models/../models/tiny.gguf", SOURCE])
def test_a_flipped_bit_is_refused_with_both_digests(tmp_path: Path, model: str) -> None:
    """Under every way to name the file; its size and header are as they were."""
    path = project(tmp_path, model, source=SOURCE)
    content = bytearray(path.read_bytes())
    pinned = hashlib.sha256(content).hexdigest()
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(EngineUnavailable) as refused:
        asked(tmp_path)
    message = refused.value.message
    assert message.startswith("model file changed since it was pinned: models/tiny.gguf is ")
    assert message.endswith(
        f" is sha256 {hashlib.sha256(content).hexdigest()}, rung.lock says {pinned}"
    )
    assert (
        refused.value.hint == "rung verify shows what changed; rung pull restores the pinned file"
    )


def test_health_tells_of_another_size_without_reading_the_file(tmp_path: Path) -> None:
    """And of a file as it was pinned that it can be loaded."""
    path = project(tmp_path, "models/tiny.gguf")
    assert health(tmp_path).state is State.READY
    tiny_model(path, template=None)
    found = health(tmp_path)
    assert found.state is State.DOWN
    assert "changed since it was pinned" in (found.detail or "")


def test_a_file_that_is_not_pinned_is_loaded_as_before(tmp_path: Path) -> None:
    """A lock says nothing of other files."""
    project(tmp_path, "other.gguf")
    tiny_model(tmp_path / "other.gguf", seed=1)
    assert isinstance(asked(tmp_path), Generation)


def test_a_reference_that_is_not_pinned_says_how_to_fetch_it(tmp_path: Path) -> None:
    """Before anything else happens."""
    project(tmp_path, "hf:someone/else:Q4_K_M")
    with pytest.raises(ModelError, match=r"is not pinned in rung\.lock") as refused:
        asked(tmp_path)
    assert refused.value.hint == "rung pull hf:someone/else:Q4_K_M"


def test_a_pinned_reference_without_its_file_says_how_to_restore_it(tmp_path: Path) -> None:
    """A fresh checkout has the lock and no models."""
    project(tmp_path, SOURCE, source=SOURCE).unlink()
    with pytest.raises(ModelError, match=r"its file 'models/tiny.gguf' is not there") as refused:
        asked(tmp_path)
    assert refused.value.hint == "rung pull restores what is pinned"


def test_a_damaged_lock_loads_nothing(tmp_path: Path) -> None:
    """It would say which files are right."""
    project(tmp_path, "models/tiny.gguf")
    (tmp_path / LOCK_NAME).write_text('{"format": 1, "artefacts": [')
    with pytest.raises(ConfigError, match=r"rung\.lock:1: "):
        asked(tmp_path)


@pytest.mark.parametrize("opened", ["before", "between"])
def test_a_file_rewritten_with_its_old_times_is_refused(tmp_path: Path, opened: str) -> None:
    """In the engine that read it, in another one of the process, and whether it is loaded or not."""
    path = project(tmp_path, "models/tiny.gguf")
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-100] ^= 1

    async def scene() -> None:
        settings = load_settings(tmp_path / "rung.toml")
        engines = Engines(settings)
        try:
            engine = engines.get(settings.rungs["local"], "triage")
            assert isinstance(engine, LlamaCppEngine)
            await engine.generate(ASK)
            path.write_bytes(content)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            if opened == "between":
                engine = Engines(settings).get(settings.rungs["local"], "triage")
                assert isinstance(engine, LlamaCppEngine)
            with pytest.raises(EngineUnavailable, match="changed since it was pinned"):
                await engine.generate(ASK)
        finally:
            await engines.aclose()

    asyncio.run(scene())


def test_a_file_that_got_another_name_besides_is_the_same_file(tmp_path: Path) -> None:
    """Its system changes one of its times then, and it is read once more."""
    path = project(tmp_path, "models/tiny.gguf")

    async def scene() -> None:
        settings = load_settings(tmp_path / "rung.toml")
        engines = Engines(settings)
        try:
            engine = engines.get(settings.rungs["local"], "triage")
            assert isinstance(engine, LlamaCppEngine)
            first = await engine.generate(ASK)
            os.link(path, tmp_path / "twin.gguf")
            assert (await engine.generate(ASK)).text == first.text
        finally:
            await engines.aclose()

    asyncio.run(scene())
