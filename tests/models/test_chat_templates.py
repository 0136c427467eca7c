"""The scan and the engine render a template alike: what is clean can be used."""

from __future__ import annotations

import pytest

from rung.engines.llama_cpp.rendering import Job, render
from rung.models.scan.template import check_template

MESSAGES = (("user", "hello"), ("assistant", "hi"))
TRAINED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}<{{ m.content }}>{% endif %}{% endfor %}"
)


def test_a_template_for_training_is_clean_and_renders() -> None:
    """Its marks around the assistant's turns are dropped by both, not by one of them alone."""
    assert check_template(TRAINED) == ()
    assert render(Job(TRAINED, MESSAGES)).text == "<hello>hi"


@pytest.mark.parametrize(
    "template", ["{{ messages.index(5) }}", "{{ messages[0].content.upper(1) }}", "{{ 1 + 'a' }}"]
)
def test_what_pythons_own_methods_raise_is_a_problem_and_no_traceback(template: str) -> None:
    """The renderer says it in a line; the scan does not call it clean."""
    assert render(Job(template, MESSAGES)).problem
    assert check_template(template)


def test_a_refusal_is_told_in_the_templates_own_words() -> None:
    """Templates refuse conversations that they were not made for."""
    refused = render(Job("{{ raise_exception('only one turn') }}", MESSAGES))
    assert refused.problem == "only one turn"
