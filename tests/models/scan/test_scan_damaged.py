"""Damaged copies of every kind of hostile file: whatever stands in a file, looking at it ends with an answer."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malformed.contradictory_cases import CONTRADICTORY
from malformed.gguf_cases import GGUF
from malformed.hostile_archives import ARCHIVES, POLYGLOTS
from malformed.hostile_files import FILES
from malformed.hostile_pickles import PICKLES
from malformed.safetensors_cases import SAFETENSORS
from rung.models.scan.content import Content
from rung.models.scan.inspection import look_at
from rung.models.scan.report import Seen

STARTS = [
    content
    for content in (
        *PICKLES.values(),
        *ARCHIVES.values(),
        *POLYGLOTS.values(),
        *FILES.values(),
        *(case.content for cases in (GGUF, CONTRADICTORY, SAFETENSORS) for case in cases.values()),
    )
    if len(content) < 20_000
]


def looked_at(content: bytes, path: Path) -> Seen:
    """What the scanner's child would say, in this process."""
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return look_at(Content(descriptor), lambda seen: None)
    finally:
        os.close(descriptor)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.sampled_from(STARTS),
    cut=st.integers(0, 20_000),
    changes=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=6),
    tail=st.binary(max_size=30),
)
def test_looking_at_damaged_files_ends_with_an_answer(
    tmp_path: Path, start: bytes, cut: int, changes: list[tuple[int, int]], tail: bytes
) -> None:
    """No exception leaves it, and every finding can be printed."""
    content = bytearray(start[:cut] + tail)
    for at, value in changes:
        if content:
            content[at % len(content)] = value
    for finding in looked_at(bytes(content), tmp_path / "file").findings:
        assert finding.rule.replace("-", "").isalnum()
        assert finding.where.isprintable()


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=400))
def test_any_bytes_get_an_answer(tmp_path: Path, content: bytes) -> None:
    """What begins with a control character is no text, and nothing else that is accepted."""
    seen = looked_at(b"\x01" + content, tmp_path / "file")
    assert seen.findings
