"""What may be asked of the engine: one frozen value in, the exact JSON of one request out.

llama.cpp takes well-formed requests that crash it or keep it busy for ever, so nothing reaches it that is not named
and bounded here. Fields that a caller cannot set are sent all the same: no answer rests on a default of the wheel.
What a grammar means is `grammars`'s; that the finished answer is what was asked for is checked elsewhere.
"""

from __future__ import annotations

import math

import msgspec

from rung.engines.llama_cpp.looseness import check_looseness
from rung.errors import EngineRefused

LLGUIDANCE = "%llguidance"
"""Begins a grammar in llguidance's notation."""

MOST_GRAMMAR_BYTES = 512 * 1024
MOST_WRITTEN_BYTES = 64 * 1024
"""Longest grammar that a caller may write by hand; those made for schemas are longer."""

MOST_TOKEN_BYTES = 256
"""No known vocabulary has longer tokens."""

MOST_NESTING = 256
"""Deepest nesting of brackets in a grammar; llama.cpp's own parsers overflow their stack somewhere above 20,000."""

MOST_STOPS = 16
MOST_STOP_BYTES = 256
MOST_ALTERNATIVES = 1_000_000
"""As many as a vocabulary may have: label probabilities can need all of them."""

MOST_REPEAT_PENALTY = 10.0
MOST_TEMPERATURE = 10.0
MOST_SEED = 2**32 - 1

_ROOM = (
    "shorten the text, or raise the context as far as the model allows:"
    " load.context in rung.toml, --ctx of rung run"
)
_TOKENS = 2**31
_CERTAIN = 1e4
_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")


class AdapterScale(msgspec.Struct, frozen=True):
    """How much of one loaded adapter applies, 0 for not at all."""

    id: int
    scale: float


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One request for text.

    Attributes:
        prompt: token ids.
        max_tokens: longest answer.
        temperature: 0 for the most likely token each time.
        seed: of the dice at higher temperatures.
        stop: texts that end the answer.
        alternatives: log-probabilities of so many tokens at each place, 0 for none at all.
        grammar: in llama.cpp's own notation or llguidance's, empty for free text.
        repeat_penalty: on tokens among the last `repeat_window`; 1 for none.
        repeat_window: tokens looked back on.
        adapters: the scale of every adapter that is loaded.
        forced: the token that is generated whatever the model would say; log-probabilities stay the model's.
        ignore_end: go on where the model would end.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    alternatives: int = 0
    grammar: str = ""
    repeat_penalty: float = 1.0
    repeat_window: int = 64
    adapters: tuple[AdapterScale, ...] = ()
    forced: int | None = None
    ignore_end: bool = False


class Bounds(msgspec.Struct, frozen=True):
    """What the loaded model allows.

    Attributes:
        context: tokens that prompt and answer may take together.
        adapters: how many are loaded.
    """

    context: int
    adapters: int = 0


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /completion`, every field sent."""

    prompt: tuple[int, ...]
    n_predict: int
    temperature: float
    seed: int
    stop: tuple[str, ...]
    n_probs: int
    grammar: str
    repeat_penalty: float
    repeat_last_n: int
    lora: tuple[AdapterScale, ...]
    logit_bias: tuple[tuple[int, float], ...]
    ignore_eos: bool
    stream: bool = True  # the engine notices that a client has left only while it streams
    cache_prompt: bool = True
    return_tokens: bool = True
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    samplers: tuple[str, ...] = ("penalties", "top_k", "top_p", "min_p", "temperature")


def body_of(completion: Completion, bounds: Bounds) -> bytes:
    """The request as JSON, when it is one that the engine survives.

    An answer is cut where the context ends; the prompt never is.

    Raises:
        EngineRefused: a field is out of bounds, or the prompt leaves no room for an answer.
    """
    _check_prompt(completion, bounds)
    _check_decoding(completion, bounds)
    _check_stops(completion.stop)
    _check_grammar(completion.grammar)
    _check_adapters(completion.adapters, bounds)
    return msgspec.json.encode(
        _Body(
            prompt=completion.prompt,
            n_predict=min(completion.max_tokens, bounds.context - len(completion.prompt)),
            temperature=completion.temperature,
            seed=completion.seed,
            stop=completion.stop,
            n_probs=completion.alternatives,
            grammar=completion.grammar,
            repeat_penalty=completion.repeat_penalty,
            repeat_last_n=completion.repeat_window,
            lora=completion.adapters,
            logit_bias=() if completion.forced is None else ((completion.forced, _CERTAIN),),
            ignore_eos=completion.ignore_end,
        )
    )


def check_size(text: str, context: int) -> None:
    """Check that a text is not too long to be worth tokenising.

    Raises:
        EngineRefused: it has more tokens than the context holds, whatever they are.
    """
    if len(text) > context * MOST_TOKEN_BYTES:
        raise EngineRefused(
            f"the prompt has {len(text):,} characters, and the context holds {context:,} tokens with the answer",
            hint=_ROOM,
        )


def check_length(tokens: int, context: int) -> None:
    """Check that a prompt leaves room for an answer.

    Raises:
        EngineRefused: it does not.
    """
    if tokens >= context:
        raise EngineRefused(
            f"the prompt has {tokens:,} tokens, and the context holds {context:,} with the answer",
            hint=_ROOM,
        )


def _check_prompt(completion: Completion, bounds: Bounds) -> None:
    if not completion.prompt:
        raise EngineRefused("the prompt is empty")
    check_length(len(completion.prompt), bounds.context)
    if not 0 <= min(completion.prompt) <= max(completion.prompt) < _TOKENS:
        raise EngineRefused("the prompt holds a number that is no token")


def _check_decoding(completion: Completion, bounds: Bounds) -> None:
    _check("max_tokens", completion.max_tokens, 1, 2**31 - 1)
    _check("temperature", completion.temperature, 0.0, MOST_TEMPERATURE)
    _check("seed", completion.seed, 0, MOST_SEED)
    _check("alternatives", completion.alternatives, 0, MOST_ALTERNATIVES)
    _check("repeat_penalty", completion.repeat_penalty, 0.1, MOST_REPEAT_PENALTY)
    _check("repeat_window", completion.repeat_window, 0, bounds.context)


def _check(name: str, value: float, least: float, most: float) -> None:
    """Check that a number is within bounds; NaN never is."""
    if not (math.isfinite(value) and least <= value <= most):
        raise EngineRefused(f"{name} must be from {least:,} to {most:,}, not {value!r}")


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MOST_STOPS:
        raise EngineRefused(
            f"stop has {len(stops):,} texts, and at most {MOST_STOPS} are looked for"
        )
    for stop in stops:
        if not 0 < len(_utf8(stop, "a text in stop")) <= MOST_STOP_BYTES:
            raise EngineRefused(
                f"a text in stop must have 1 to {MOST_STOP_BYTES} bytes, not {len(stop):,} characters"
            )


def _check_grammar(grammar: str) -> None:
    size = len(_utf8(grammar, "the grammar"))
    if size > MOST_GRAMMAR_BYTES:
        raise EngineRefused(
            f"the grammar is {size:,} bytes long, and at most {MOST_GRAMMAR_BYTES:,} are taken"
        )
    _check_nesting(grammar)


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EngineRefused(
            f"{what} holds half of a surrogate pair, which is no character"
        ) from error


def _check_nesting(grammar: str) -> None:
    depth = nesting(grammar)
    if depth > MOST_NESTING:
        raise EngineRefused(
            f"the grammar is nested {depth:,} deep, and at most {MOST_NESTING} levels are taken"
        )


def check_written_grammar(grammar: str) -> None:
    """Check a grammar that a caller wrote by hand, beyond what every grammar must keep, before it is compiled.

    Raises:
        EngineRefused: it is too long, nested too deep, or can keep the engine busy for minutes.
    """
    size = len(_utf8(grammar, "the grammar"))
    if size > MOST_WRITTEN_BYTES:
        raise EngineRefused(
            f"the grammar is {size:,} bytes long, and at most {MOST_WRITTEN_BYTES:,} are taken"
        )
    _check_nesting(grammar)
    if not grammar.startswith(LLGUIDANCE):
        check_looseness(grammar)


def nesting(text: str) -> int:
    """How deep brackets nest in `text` at most, those inside quotes counted too: an upper bound."""
    depth = deepest = 0
    for char in text:
        if char in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif char in _CLOSING:
            depth = max(0, depth - 1)  # a bracket closed inside quotes must not hide later ones
    return deepest


def _check_adapters(adapters: tuple[AdapterScale, ...], bounds: Bounds) -> None:
    """Check that every loaded adapter is named: llama.cpp reuses another request's state when one is left out."""
    if [adapter.id for adapter in adapters] != list(range(bounds.adapters)):
        raise EngineRefused(
            f"a request names the scale of each of the {bounds.adapters} loaded adapters in order, "
            f"not of {[adapter.id for adapter in adapters]}"
        )
    for adapter in adapters:
        _check("an adapter's scale", adapter.scale, -100.0, 100.0)
