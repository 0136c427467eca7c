"""What a name promises, what a template provides for, and which licences allow any use."""

from __future__ import annotations

import pytest

from rung.models.pull.facts import abilities, asked_bits, is_permissive
from rung.models.reference import parse_reference


@pytest.mark.parametrize(
    ("reference", "bits"),
    [
        ("hf:a/b:Q4_K_M", 4),
        ("hf:a/b:IQ2_XXS", 2),
        ("hf:a/b:UD-Q5_K_XL", 5),
        ("hf:a/b:BF16", 16),
        ("hf:a/b:model-Q8_0.gguf", 8),
        ("hf:a/b", None),
        ("ollama:llama3.2:1b", None),
        ("ollama:llama3.2:1b-instruct-q4_K_M", 4),
        ("ollama:gemma2", None),
        ("https://example.org/qwen2.5-7b.Q6_K.gguf", 6),
        ("models/llama-7b.gguf", None),
    ],
)
def test_a_name_promises_bits_only_where_it_names_a_quantisation(
    reference: str, bits: int | None
) -> None:
    """Sizes and versions have digits, too."""
    assert asked_bits(parse_reference(reference)) == bits


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (None, ()),
        ("{{ messages[0].content }}", ()),
        ("{% if tools %}{% endif %}", ("tools",)),
        ("{{ toolset }}", ()),
        ("{% if enable_thinking is defined %}<think>{% endif %}{{ tools }}", ("tools", "thinking")),
    ],
)
def test_a_template_tells_what_it_provides_for(
    template: str | None, found: tuple[str, ...]
) -> None:
    """By the names that it uses."""
    assert abilities(template) == found


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [("Apache-2.0", True), ("mit", True), ("llama3.2", False), ("gemma", False), (None, False)],
)
def test_only_well_known_licences_allow_any_use(licence: str | None, permissive: bool) -> None:
    """An unknown one is to be read."""
    assert is_permissive(licence) is permissive
