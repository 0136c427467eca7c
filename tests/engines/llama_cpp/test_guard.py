"""The guard: what it sends, and what it never does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attacks import STALLING

from rung.engines.llama_cpp.guard import (
    MOST_STOPS,
    AdapterScale,
    Bounds,
    Completion,
    body_of,
    check_written_grammar,
    nesting,
)
from rung.errors import EngineRefused

BOUNDS = Bounds(context=512)


def completion(**changes: Any) -> Completion:  # Any: the fields' own types
    """A request that the guard lets pass."""
    return Completion(**({"prompt": (1, 2, 3), "max_tokens": 8} | changes))


def refusal(**changes: Any) -> str:  # Any: the fields' own types
    """What the guard says of a request."""
    with pytest.raises(EngineRefused) as caught:
        body_of(completion(**changes), BOUNDS)
    return caught.value.message


def test_the_body_holds_the_named_fields_and_nothing_else() -> None:
    """Every field is sent, so that no answer rests on a default of the library."""
    assert json.loads(body_of(completion(), BOUNDS)) == {
        "prompt": [1, 2, 3],
        "n_predict": 8,
        "temperature": 0.0,
        "seed": 0,
        "stop": [],
        "n_probs": 0,
        "grammar": "",
        "repeat_penalty": 1.0,
        "repeat_last_n": 64,
        "lora": [],
        "logit_bias": [],
        "ignore_eos": False,
        "stream": True,
        "cache_prompt": True,
        "return_tokens": True,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
        "samplers": ["penalties", "top_k", "top_p", "min_p", "temperature"],
    }


def test_an_answer_ends_where_the_context_does() -> None:
    """The longest answer is cut to what the context leaves; the prompt never is."""
    body = json.loads(body_of(completion(prompt=(1,) * 500, max_tokens=100), BOUNDS))
    assert (len(body["prompt"]), body["n_predict"]) == (500, 12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": ()}, "the prompt is empty"),
        ({"prompt": (1,) * 512}, "the prompt has 512 tokens, and the context holds 512"),
        ({"prompt": (-1,)}, "no token"),
        ({"prompt": (2**31,)}, "no token"),
        ({"max_tokens": 0}, "max_tokens must be from 1"),
        ({"temperature": float("nan")}, "temperature must be from 0.0 to 10.0, not nan"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"alternatives": 10**9}, "alternatives"),
        ({"repeat_window": 2_000_000_000}, "repeat_window must be from 0 to 512"),
        ({"repeat_window": -1}, "repeat_window"),
        ({"repeat_penalty": 0.0}, "repeat_penalty"),
        ({"stop": ("x",) * (MOST_STOPS + 1)}, "stop has 17 texts, and at most 16"),
        ({"stop": ("",)}, "a text in stop"),
        ({"stop": ("x" * 10_000,)}, "a text in stop"),
        ({"grammar": "root ::= " + "(" * 200_000 + '"a"' + ")" * 200_000}, "nested 200,000 deep"),
        ({"grammar": "%llguidance {}\nstart: %json " + '{"items":' * 20_000}, "20,00"),
        ({"grammar": "a" * 600_000}, "the grammar is 600,000 bytes long"),
        ({"adapters": (AdapterScale(0, 1.0),)}, "each of the 0 loaded adapters"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_what_crashes_or_stalls_the_engine_is_refused(changes: dict[str, Any], said: str) -> None:
    """One sentence with the value and the bound; nothing is sent."""
    assert said in refusal(**changes)


def test_every_adapter_is_named_or_the_request_is_refused() -> None:
    """The engine would reuse another request's state for one that is left out."""
    two = Bounds(context=512, adapters=2)
    off = (AdapterScale(0, 0.0), AdapterScale(1, 0.0))
    assert json.loads(body_of(completion(adapters=off), two))["lora"] == [
        {"id": 0, "scale": 0.0},
        {"id": 1, "scale": 0.0},
    ]
    for wrong in ((), off[:1], off[::-1], (*off, AdapterScale(2, 0.0))):
        with pytest.raises(EngineRefused, match="2 loaded adapters"):
            body_of(completion(adapters=wrong), two)


FAIR = {
    "JSON": r"""
        root   ::= object
        value  ::= object | array | string | number | ("true" | "false" | "null") space  # any
        object ::= "{" space (string ":" space value ("," space string ":" space value)*)? "}" space
        array  ::= "[" space (value ("," space value)*)? "]" space
        string ::= "\"" ([^"\\] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" space
        number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,3})? space
        space  ::= | " " | "\n" [ \t]{0,20}
        """,
    "a choice of many": "root ::= " + " | ".join(f'"word {number}"' for number in range(1000)),
    "as many letters as fit": "root ::= [a-z]{0,1000}",
    "64 optional letters": "root ::= " + "[a-z]? " * 64,
    "many optional parts apart": 'root ::= ("a"? "b"){200} [a-c]{3} [x]{2,}',
    "a list": 'root ::= (item "\n")+\nitem ::= "- " [^\n]+',
    "without an end": 'root ::= "a" root',
}


@pytest.mark.parametrize("name", FAIR)
def test_a_written_grammar_that_is_quickly_followed_passes(name: str) -> None:
    """What counts is how much is open at one place, not how long a grammar is."""
    check_written_grammar(FAIR[name])


LOOSE = {
    **{name: str(body["grammar"]) for name, body in STALLING.items() if "grammar" in body},
    "one more than is taken": "root ::= " + "[a-z]? " * 65,
    "parts that pile up": 'root ::= "a" root [b]? | "c"',
    "many ways of many parts": "root ::= " + "|".join(["[a-z]? " * 60] * 100),
}


@pytest.mark.parametrize("name", LOOSE)
def test_a_written_grammar_that_leaves_too_much_open_is_refused(name: str) -> None:
    """A thousand optional letters keep the engine busy for minutes a token, however they are written."""
    with pytest.raises(EngineRefused, match=r"parts in a row|ways on"):
        check_written_grammar(LOOSE[name])


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        ('root ::= "a', "line 1 cannot be read"),
        ('root ::= "a"\n)', "line 2 cannot be read"),
        ("root ::= (", "line 1 cannot be read"),
        ("root ::= ?", "line 1 cannot be read"),
        ('"a"', "line 1 cannot be read"),
        ("root ::= x", "no rule 'x'"),
        ('other ::= "a"', "no rule 'root'"),
        ("root ::= root", "begins with itself"),
        ("root ::= ([a-z]?)*", "begins with itself"),
        ('root ::= "a"{100000000}', "more than 50,000 symbols"),
        ('root ::= "a"{0,100000000}', "more than 50,000 symbols"),
        ('root ::= "a"' + "?" * 1000, "nested more than 256 deep"),
        ('root ::= "' + "a" * 70_000 + '"', "70,011 bytes long"),
        ("%llguidance {}\nstart: " + "(" * 300, "nested 300 deep"),
    ],
    ids=range(14),
)
def test_a_written_grammar_that_cannot_be_read_is_refused_before_it_is_compiled(
    grammar: str, said: str
) -> None:
    """Where it cannot be read, or which bound it passes."""
    with pytest.raises(EngineRefused, match=said):
        check_written_grammar(grammar)


def test_nesting_is_never_underrated() -> None:
    """Brackets inside quotes count, and those closed there hide none that follow."""
    assert nesting('a ( b [ c ] ) "(" ') == 2
    assert nesting('")))" ((( x )))') == 3
