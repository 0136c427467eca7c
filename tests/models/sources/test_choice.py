"""Which file of a repository is meant: labels read from names, compared whole, parts kept together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.errors import ModelError
from rung.models.reference import parse_reference
from rung.models.sources.choice import choose, quant_of, role_of
from rung.models.sources.resolved import RemoteFile, Role

LABELS = {
    "Qwen3-4B-Q4_K_M.gguf": "Q4_K_M",
    "qwen3-4b.q4_k_m.gguf": "Q4_K_M",
    "qwen3_4b_q8_0.gguf": "Q8_0",
    "Qwen3-4B-UD-Q4_K_XL.gguf": "UD-Q4_K_XL",
    "Qwen3-4B.i1-IQ3_XXS.gguf": "I1-IQ3_XXS",
    "Qwen3-4B-IQ4_NL.gguf": "IQ4_NL",
    "gpt-oss-20b-MXFP4.gguf": "MXFP4",
    "x-BF16.gguf": "BF16",
    "ggml-model-f16.gguf": "F16",
    "x-TQ1_0.gguf": "TQ1_0",
    "Q4_K_M.gguf": "Q4_K_M",
    "Q4_K_M/x-00001-of-00003.gguf": "Q4_K_M",
    "UD-Q2_K_XL/x-UD-Q2_K_XL-00001-of-00002.gguf": "UD-Q2_K_XL",
    "x-Q8_0/x-Q8_0-00002-of-00002.gguf": "Q8_0",
    "x-Q4_K_M-imat.gguf": None,
    "model.gguf": None,
    "x-Q4_K_M.safetensors": None,
    "NotQ4_K_M.gguf": None,
}


def files(*names: str) -> list[RemoteFile]:
    """A listing."""
    return [RemoteFile(name=name, role=role_of(name), size=1) for name in names]


def chosen(text: str, *names: str) -> tuple[str, ...]:
    """The names a reference chooses from a listing."""
    return tuple(file.name for file in choose(parse_reference(text), files(*names))[0])


@pytest.mark.parametrize("name", LABELS)
def test_the_label_is_read_from_the_end_of_a_name_or_its_folder(name: str) -> None:
    """Upper and lower case, with its prefix, without the part's number."""
    assert quant_of(name) == LABELS[name]


def test_labels_are_compared_whole() -> None:
    """Neither a prefix nor a suffix of a label is that label."""
    names = (
        "x-Q4_K.gguf",
        "x-Q4_K_M.gguf",
        "x-UD-Q4_K_M.gguf",
        "x.i1-Q4_K_M.gguf",
        "x-IQ4_XS.gguf",
    )
    assert chosen("hf:o/r:Q4_K", *names) == ("x-Q4_K.gguf",)
    assert chosen("hf:o/r:Q4_K_M", *names) == ("x-Q4_K_M.gguf",)
    assert chosen("hf:o/r:ud-q4_k_m", *names) == ("x-UD-Q4_K_M.gguf",)
    assert chosen("hf:o/r", *names) == ("x-Q4_K_M.gguf",)


def test_all_parts_are_taken_in_order() -> None:
    """Named by its quantisation or by any of its parts, a model in parts comes whole."""
    parts = tuple(f"Q8_0/x-{n:05}-of-00012.gguf" for n in range(1, 13))
    assert chosen("hf:o/r:Q8_0", *reversed(parts)) == parts
    assert chosen(f"hf:o/r:{parts[4]}", *parts) == parts


def test_one_model_in_two_and_in_three_parts_is_two_models() -> None:
    """Their parts are not mixed, and neither is a whole file among them."""
    two = [f"m-Q4_K_M-{n:05}-of-00002.gguf" for n in (1, 2)]
    three = [f"m-Q4_K_M-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    with pytest.raises(ModelError, match="has 3 models of the quantisation 'Q4_K_M'"):
        chosen("hf:o/r:Q4_K_M", *two, *three, "m-Q4_K_M.gguf")
    assert chosen(f"hf:o/r:{two[1]}", *two, *three, "m-Q4_K_M.gguf") == tuple(two)
    assert chosen("hf:o/r:m-Q4_K_M.gguf", *two, "m-Q4_K_M.gguf") == ("m-Q4_K_M.gguf",)


def test_a_missing_part_is_named() -> None:
    """A model that is not whole is not taken."""
    with pytest.raises(ModelError, match=r"x-Q8_0-00002-of-00003\.gguf"):
        chosen("hf:o/r:Q8_0", "x-Q8_0-00001-of-00003.gguf", "x-Q8_0-00003-of-00003.gguf")


def test_projectors_and_importance_matrices_are_no_weights() -> None:
    """They carry labels too and are never taken for the model."""
    names = ("mmproj-x-Q8_0.gguf", "x-imatrix-Q8_0.gguf", "x-Q8_0.gguf")
    assert chosen("hf:o/r:Q8_0", *names) == ("x-Q8_0.gguf",)
    assert role_of("mmproj-F16.gguf") is Role.PROJECTOR
    assert role_of("tokenizer.json") is Role.TOKENIZER
    assert role_of("config.json") is Role.CONFIG
    assert role_of("LICENSE") is Role.LICENCE


def test_other_quantisations_are_listed_beside() -> None:
    """What else the repository holds is known, for a smaller one to be offered."""
    listing = files("x-Q4_K_M.gguf", "x-Q3_K_M.gguf", "mmproj-F16.gguf", "README.md")
    _, others = choose(parse_reference("hf:o/r"), listing)
    assert [file.name for file in others] == ["x-Q3_K_M.gguf"]


def test_an_unknown_quantisation_lists_those_there() -> None:
    """The sentence says what can be written instead."""
    with pytest.raises(ModelError, match="no quantisation 'Q5_K_M'") as caught:
        chosen("hf:o/r:Q5_K_M", "x-Q4_K_M.gguf", "x-Q8_0.gguf", "odd.gguf")
    assert caught.value.hint == "there are Q4_K_M, Q8_0, odd.gguf"


def test_without_a_quantisation_none_is_guessed() -> None:
    """Q4_K_M is taken, or the only model there is; else the user says which."""
    assert chosen("hf:o/r", "only.gguf") == ("only.gguf",)
    with pytest.raises(ModelError, match="taken when none is named") as caught:
        chosen("hf:o/r", "x-Q3_K_M.gguf", "x-Q8_0.gguf")
    assert caught.value.hint == "there are Q3_K_M, Q8_0"


def test_several_models_of_one_label_are_listed() -> None:
    """The sentence names them, and how to name one."""
    with pytest.raises(ModelError, match=r"a-Q8_0\.gguf, b-Q8_0\.gguf") as caught:
        chosen("hf:o/r:Q8_0", "a-Q8_0.gguf", "b-Q8_0.gguf")
    assert caught.value.hint == "name the file: hf:o/r:a-Q8_0.gguf"


def test_a_repository_without_gguf_says_what_to_look_for() -> None:
    """Other formats are taken only when their file is named."""
    with pytest.raises(ModelError, match="no model in GGUF format"):
        chosen("hf:o/r", "model.safetensors", "config.json")
    assert chosen("hf:o/r:model.safetensors", "model.safetensors") == ("model.safetensors",)
    with pytest.raises(ModelError, match=r"no file 'other\.gguf'"):
        chosen("hf:o/r:other.gguf", "x-Q8_0.gguf")


NAMES = [
    f"{folder}{stem}{label}{part}.gguf"
    for folder in ("", "Q4_K_M/", "UD-Q4_K/")
    for stem in ("x-", "y.", "mmproj-", "imatrix-")
    for label in ("Q4_K_M", "UD-Q4_K_M", "i1-Q4_K", "Q8_0", "BF16", "chat")
    for part in ("", "-00001-of-00002", "-00002-of-00002", "-00003-of-00002", "-00000-of-00000")
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(NAMES), max_size=8, unique=True),
    st.sampled_from(["", ":Q4_K_M", ":Q4_K", ":BF16", ":x-Q8_0.gguf"]),
)
def test_any_listing_is_chosen_from_or_refused(names: list[str], tail: str) -> None:
    """What is chosen was asked for, once, and nothing of it is also beside it."""
    reference = parse_reference(f"hf:o/r{tail}")
    try:
        chosen, others = choose(reference, files(*names))
    except ModelError as error:
        assert error.hint
        return
    assert chosen
    assert not set(chosen) & set(others)
    if reference.quant:
        assert {quant_of(file.name) for file in chosen} == {reference.quant}
