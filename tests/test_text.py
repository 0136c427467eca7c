"""Texts of others, as a terminal may get them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rung.text import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("für alle", "für alle"),
        ("\x1b]0;x\x07\nok", "?]0;x??ok"),
        ("a\u202eb\ud800", "a?b?"),
        ("long" * 100, "long" * 74 + "lon…"),
    ],
)
def test_what_a_terminal_could_act_on_is_replaced(text: str, shown: str) -> None:
    """And what is long is cut."""
    assert plain(text) == shown


@given(st.text(st.characters(), max_size=40))
def test_any_text_can_be_shown(text: str) -> None:
    """In one line; twice is once."""
    assert plain(text).isprintable()
    assert plain(plain(text)) == plain(text)
