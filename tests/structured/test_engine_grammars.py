"""The engine's own llguidance and GBNF, which are not the wheel's, hold real decoding to what a plan promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gguf_models import tiny_model
from rung.structured import gbnf, gbnf_plan, llguidance_grammar, plan, vocabulary_fits

SCHEMAS: list[Any] = [
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 8},
            "people": {"type": "integer", "minimum": 1, "maximum": 20},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["people"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"enum": ["x", "y", None]}, "minItems": 2, "maxItems": 3},
    {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "n": {"type": "integer", "maximum": 9}},
                "required": ["kind"],
                "additionalProperties": False,
            }
            for kind in ("a", "b")
        ]
    },
    {"type": "string", "pattern": r"^[A-Z]{2}\d{3}$"},
    {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 10},
    {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 2,
        "additionalProperties": {"type": "null"},
    },
    {
        "type": "object",
        "properties": {"next": {"$ref": "#"}, "v": {"type": "boolean"}},
        "required": ["v"],
        "additionalProperties": False,
    },
    {"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}, "maxItems": 3},
]


def written(
    model: Path, grammars: list[str], *, max_tokens: int = 120
) -> tuple[list[list[str]], str]:
    """What the engine writes under each grammar with three seeds, [text, why it ended], and what it logged."""
    requests = [
        {"grammar": grammar, "seed": seed, "max_tokens": max_tokens}
        for grammar in grammars
        for seed in range(3)
    ]
    # Not under pytest's folder: a socket's path is at most 107 bytes long.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("decoding_child.py"), model, folder],
            input=json.dumps(requests),
            text=True,
            capture_output=True,
            check=True,
            env={
                **os.environ,
                "GOMP_SPINCOUNT": "0",
                "OMP_NUM_THREADS": "1",
                "GGML_NO_BACKTRACE": "1",
            },
        )
        return json.loads((Path(folder) / "answers.json").read_text()), done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose vocabulary llguidance can mask."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", vocab=480)


def test_a_random_model_writes_what_its_plan_enforces(model: Path) -> None:
    """Every finished answer keeps the enforced schema, through llguidance and through GBNF."""
    plans = [plan(json.dumps(schema)) for schema in SCHEMAS]
    coarse = [gbnf_plan(json.dumps(schema)) for schema in SCHEMAS]
    grammars = [*map(llguidance_grammar, plans), *map(gbnf, coarse)]
    answers, logged = written(model, grammars)
    assert "llg error" not in logged
    finished = 0
    for index, (text, why) in enumerate(answers):
        validator = jsonschema_rs.validator_for(json.loads([*plans, *coarse][index // 3].enforced))
        if why == "stop":
            finished += 1
            assert validator.is_valid(json.loads(text)), text
    assert finished >= len(answers) * 3 // 4


def test_a_vocabulary_that_llguidance_cannot_mask_is_known(tmp_path: Path) -> None:
    """With 511 tokens the engine drops the constraint in the middle of an answer: GBNF holds it."""
    strings = '{"type":"array","items":{"type":"string","minLength":1},"minItems":1,"maxItems":1}'
    bad = tiny_model(tmp_path / "bad.gguf", vocab=512)  # 511 distinct tokens
    assert not vocabulary_fits(511)
    assert vocabulary_fits(480)
    _, logged = written(bad, [llguidance_grammar(plan(strings))], max_tokens=8)
    assert "llg error: panic" in logged
    _, logged = written(bad, [gbnf(gbnf_plan(strings))], max_tokens=8)
    assert "llg error" not in logged
