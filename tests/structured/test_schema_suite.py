"""The public JSON Schema Test Suite: every group is enforced, relaxed by name, or refused."""

from __future__ import annotations

import collections
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
from grammar_acceptance import Acceptor
from llguidance.gbnf_to_lark import any_to_lark

from rung.errors import ConfigError, EngineUnsupported
from rung.structured import SchemaPlan, gbnf, gbnf_plan, llguidance_grammar, plan

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


class Group(NamedTuple):
    """One schema of the suite with its instances and its plan, None where it is refused."""

    file: str
    schema: str
    tests: list[dict[str, Any]]
    plan: SchemaPlan | None


@pytest.fixture(scope="module")
def groups(shared_data: Path) -> list[Group]:
    """The required tests of drafts 2020-12 and 7; those of draft 7 say so in their schema."""
    return list(_groups(shared_data / "json_schema_test_suite" / "draft2020-12_and_draft7.tar.gz"))


def _groups(path: Path) -> Iterator[Group]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".json") or "/optional/" in member.name:
                continue
            for group in json.load(file):
                schema = group["schema"]
                if "draft7" in member.name and isinstance(schema, dict):
                    schema = {"$schema": DRAFT_7, **schema}
                text = json.dumps(schema)
                yield Group(member.name, text, group["tests"], _planned(text))


def _planned(schema: str) -> SchemaPlan | None:
    try:
        return plan(schema)
    except ConfigError:
        return None


def _as_lark(grammar: str) -> str:
    """GBNF in llguidance's own language; its converter writes character ranges that it cannot read."""
    ranges = r"\u80-\uD7FF\uE000-\U10FFFF"
    return any_to_lark(grammar).replace(ranges, r"\x{80}-\x{D7FF}\x{E000}-\x{10FFFF}")


def test_every_group_is_enforced_relaxed_or_refused(groups: list[Group]) -> None:
    """What is enforced without relaxing rejects every invalid instance and takes every valid one.

    Left out of "takes": formats, which the suite holds to be annotations, and decoding holds text to.
    """
    counts: collections.Counter[str] = collections.Counter()
    wrong = []
    for group in groups:
        planned = group.plan
        if planned is None or planned.relaxed:
            counts["refused" if planned is None else "relaxed"] += 1
            continue
        counts["enforced"] += 1
        held = Acceptor(llguidance_grammar(planned))
        for test in group.tests:
            if held.accepts(test["data"]) == test["valid"]:
                counts["valid" if test["valid"] else "invalid"] += 1
            elif not group.file.endswith("/format.json"):
                wrong.append((group.file, test["description"]))
    assert wrong == []
    assert counts == {
        "enforced": 337,
        "relaxed": 214,
        "refused": 89,
        "valid": 726,
        "invalid": 460,
    }


def test_a_relaxed_schema_still_takes_what_is_valid(groups: list[Group]) -> None:
    """Relaxing only ever allows more."""
    lost = []
    for group in groups:
        planned = group.plan
        if planned is None or not planned.relaxed:
            continue
        weaker = jsonschema_rs.validator_for(json.loads(planned.enforced))
        lost += [
            (group.file, test["description"])
            for test in group.tests
            if test["valid"] and not weaker.is_valid(test["data"])
        ]
    assert lost == []


def test_what_gbnf_writes_keeps_its_plan(groups: list[Group]) -> None:
    """No instance that breaks the plan is accepted; what cannot be written is refused."""
    counts: collections.Counter[str] = collections.Counter()
    wrong = []
    for group in groups[::3]:  # a third: reading GBNF back takes a while
        if group.plan is None:
            continue
        planned = gbnf_plan(group.schema)
        try:
            held = Acceptor(_as_lark(gbnf(planned)))
        except EngineUnsupported:
            counts["refused"] += 1
            continue
        counts["written"] += 1
        validator = jsonschema_rs.validator_for(json.loads(planned.enforced))
        wrong += [
            (group.file, test["description"])
            for test in group.tests
            if held.accepts(test["data"]) and not validator.is_valid(test["data"])
        ]
    assert wrong == []
    assert counts == {"written": 165, "refused": 22}
