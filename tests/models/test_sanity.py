"""Headers that are well-formed and cannot be meant are told from those that can."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from dense_models import weights, write_model

from gguf_models import tiny_lora, tiny_model
from malformed.contradictory_cases import CONTRADICTORY, SENSIBLE, TWICE
from malformed.gguf_parts import gguf, number, tensor, word
from rung.errors import ModelError
from rung.models import sanity
from rung.models.header import read_header
from rung.models.sanity import oddities, repeated_tokens


@pytest.mark.parametrize("kind", CONTRADICTORY)
def test_a_contradiction_is_found_by_its_rule(tmp_path: Path, kind: str) -> None:
    """And by no other."""
    path = tmp_path / "odd.gguf"
    path.write_bytes(CONTRADICTORY[kind].content)
    assert {oddity.rule for oddity in oddities(read_header(path))} == {CONTRADICTORY[kind].sentence}


def test_every_rule_has_a_case() -> None:
    """A rule without a file that breaks it is untested."""
    calls = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(sanity)))
        if isinstance(node, ast.Call)
    ]
    rules = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "Oddity"
        and isinstance(call.args[0], ast.Constant)
    }
    assert rules == {case.sentence for case in CONTRADICTORY.values()}


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3"])
def test_models_that_the_engine_loads_are_sensible(tmp_path: Path, arch: str) -> None:
    """Random models with and without a vocabulary, tied and untied."""
    path = write_model(tmp_path / "dense.gguf", weights(tied=arch == "gemma3"), arch=arch)
    assert oddities(read_header(path)) == ()


def test_a_model_with_a_vocabulary_and_an_adapter_are_sensible(tmp_path: Path) -> None:
    """Of the adapter there is nothing to compare."""
    model, adapter = tiny_model(tmp_path / "m.gguf"), tiny_lora(tmp_path / "a.gguf")
    header = read_header(model)
    assert oddities(header) == ()
    assert repeated_tokens(model, header) == 0
    assert oddities(read_header(adapter)) == ()
    assert repeated_tokens(adapter, read_header(adapter)) == 0


def test_public_files_are_sensible(shared_data: Path) -> None:
    """A tiny model and vocabularies of five families."""
    paths = sorted((shared_data / "weights_tiny_gguf").rglob("*.gguf"))
    assert len(paths) >= 6
    for path in paths:
        header = read_header(path)
        assert (path.name, oddities(header), repeated_tokens(path, header)) == (path.name, (), 0)


def test_parts_are_looked_at_together(tmp_path: Path) -> None:
    """Layers that lie in another part are there."""
    keys = [word("general.architecture", "llama"), number("llama.block_count", 2)]
    (tmp_path / "1").write_bytes(gguf(keys, [tensor("blk.0.attn_norm.weight")]))
    (tmp_path / "2").write_bytes(gguf([], [tensor("blk.1.attn_norm.weight")]))
    first, second = read_header(tmp_path / "1"), read_header(tmp_path / "2")
    assert [oddity.rule for oddity in oddities(first)] == ["block-count"]
    assert oddities(first, second) == ()
    (tmp_path / "3").write_bytes(
        gguf([*keys, number("split.count", 2)], [tensor("blk.0.attn_norm.weight")])
    )
    assert oddities(read_header(tmp_path / "3")) == ()  # what it says of others cannot be compared


def test_a_token_that_occurs_twice_is_counted(tmp_path: Path) -> None:
    """The vocabulary is read again for it: headers keep no long arrays."""
    path = tmp_path / "m.gguf"
    path.write_bytes(SENSIBLE)
    assert repeated_tokens(path, read_header(path)) == 0
    path.write_bytes(TWICE)
    header = read_header(path)
    assert oddities(header) == ()
    assert repeated_tokens(path, header) == 1
    path.unlink()
    with pytest.raises(ModelError, match="changed while it was read"):
        repeated_tokens(path, header)
