"""Chat templates: what is said of them besides the verdict, and how a change is shown."""

from __future__ import annotations

import pytest
from benign_files import TEMPLATES
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.models.scan.template import check_template, template_diff, template_notes


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_in_the_styles_in_use_are_clean(name: str) -> None:
    """Not one false alarm, and no notes that everybody would learn to pass over."""
    assert check_template(TEMPLATES[name]) == ()
    assert template_notes(TEMPLATES[name]) == ()


def test_what_a_reader_may_want_to_look_at_is_noted() -> None:
    """Addresses, letters that cannot be seen, answers that hang on what is said; they block nothing."""
    text = (
        "{% for m in messages %}{% if 'my invoice' in m.content %}see https://example.org/pay{% endif %}"
        "{{ m.content }}\u200b{% endfor %}"
    )
    assert check_template(text) == ()
    assert template_notes(text) == (
        "the chat template holds the address https://example.org/pay",
        "the chat template holds characters that cannot be seen: U+200B",
        "the chat template looks for 'my invoice' in what is said",
    )


def test_a_template_cannot_change_what_the_next_one_is_tried_on() -> None:
    """Templates may call the methods of lists."""
    assert check_template("{% set x = messages.append(1) %}{% set x = messages.clear() %}a") == ()
    assert check_template("{{ messages[0].content }}") == ()


def test_a_change_is_shown_line_by_line() -> None:
    """As people know it from version control."""
    assert template_diff("a\nb\n", "a\nb\n") == ""
    diff = template_diff("a\nb\nc", "a\nB\x1b\nc").splitlines()
    assert diff == ["--- pinned", "+++ now", "@@ -1,3 +1,3 @@", " a", "-b", "+B\\x1b", " c"]
    assert template_diff("a\n", "a") == "only line ends or the end of the text differ"


def test_a_long_change_is_cut() -> None:
    """Nobody reads it all, and it may be hostile."""
    diff = template_diff("", "x\n" * 100_000).splitlines()
    assert len(diff) < 500
    assert diff[-1] == "…"


def test_templates_that_would_take_minutes_to_compare_are_compared_at_their_start() -> None:
    """The time for a diff grows faster than the square of the lines; a publisher chooses both texts."""
    lines = [f"{number * 7 % 120}" for number in range(60_000)]
    hostile = "\n".join(["same", "was\x1b", *lines])
    diff = template_diff(hostile, "\n".join(["same", "is", *reversed(lines)]))
    assert diff.splitlines() == [
        "too long to be compared line by line: 60,002 lines pinned, 60,002 now; line 2 is the first that differs",
        "-was\\x1b",
        "+is",
    ]
    assert template_diff(hostile, f"{hostile}\nmore").splitlines()[1:] == ["+more"]
    assert template_diff(hostile, f"{hostile}\n") == "only line ends or the end of the text differ"


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from(list("{}%#- \n'\".[]()|~+=_abfori")), max_size=60))
def test_no_text_makes_the_checker_fail(text: str) -> None:
    """It is blocked or clean."""
    for finding in check_template(text):
        assert finding.rule.startswith("template-")
    template_notes(text)
