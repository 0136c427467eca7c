"""Planning structured output: what of a schema decoding enforces, and what is left to validation, by name.

Every schema passes here before an engine sees it, because engines drop what they cannot enforce without a word.
Nothing is dropped here without one: a keyword is enforced, relaxed and named, or the schema is refused. The finished
answer is validated against the whole schema elsewhere (`task.Contract`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import msgspec

from rung.errors import ConfigError
from rung.receipt import JsonValue
from rung.structured.checking import UNSATISFIABLE, grammar_text, refusal
from rung.structured.pointers import Pointer, parsed, shown, value_at
from rung.structured.termination import Loop
from rung.structured.validation import check_parts, validator_of
from rung.structured.weakening import Weakened, draft_of, weaken

MAX_BYTES = 128 * 1024
"""Largest schema, as JSON text."""

MAX_DEPTH = 64
"""Deepest nesting of its JSON; llguidance itself stops at 128."""

MAX_PROPERTIES = 256
"""Most entries of one table: compiling takes time with their square."""

MOST_TRIES = 64
_LIBRARIES = (("$defs",), ("definitions",))


class SchemaPlan(msgspec.Struct, frozen=True):
    """A schema as decoding will hold it.

    Attributes:
        enforced: the JSON Schema that decoding enforces, draft 2020-12 as JSON text; allows all that the original
            allows.
        relaxed: what of the original it does not enforce, as JSON pointers of the keywords; empty when nothing.
    """

    enforced: str
    relaxed: tuple[str, ...] = ()


@functools.lru_cache(maxsize=256)
def plan(schema: str) -> SchemaPlan:
    """What decoding enforces of `schema`.

    Args:
        schema: a JSON Schema of draft 4 to 2020-12, as JSON text.

    Raises:
        ConfigError: it is not JSON or not a JSON Schema; it is too large or too deep; a `$ref` is remote, points at
            nothing, or runs in a circle with no way out; it names a format that nothing checks; or no value can keep
            it.
    """
    original = _read(schema)
    weakened = _compilable(original, _tries(schema))
    return SchemaPlan(msgspec.json.encode(weakened.schema).decode(), weakened.relaxed)


def llguidance_grammar(plan: SchemaPlan) -> str:
    """The grammar of compact JSON that keeps `plan.enforced`, for llama.cpp's `grammar` field."""
    return grammar_text(msgspec.json.decode(plan.enforced))


def _read(schema: str) -> JsonValue:
    """The schema as a value within bounds.

    Raises:
        ConfigError: as `plan`.
    """
    size = len(schema.encode())
    if size > MAX_BYTES:
        raise ConfigError(f"the schema is {size:,} bytes long, and at most {MAX_BYTES:,} are taken")
    try:
        value = msgspec.json.decode(schema)
    except RecursionError:
        raise ConfigError(_too_deep()) from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"the schema is not JSON: {error}") from error
    _bound(value)
    draft_of(value)
    _check_valid(value)
    return value


def _bound(root: JsonValue) -> None:
    waiting: list[tuple[JsonValue, Pointer]] = [(root, ())]
    while waiting:
        value, at = waiting.pop()
        if len(at) > MAX_DEPTH:
            raise ConfigError(_too_deep())
        if isinstance(value, dict):
            if len(value) > MAX_PROPERTIES and at[-1:] not in _LIBRARIES:
                raise ConfigError(
                    f"{shown(at) or 'the schema'} has {len(value):,} entries, "
                    f"and at most {MAX_PROPERTIES} are taken"
                )
            waiting.extend((part, (*at, key)) for key, part in value.items())
        elif isinstance(value, list):
            waiting.extend((part, (*at, str(index))) for index, part in enumerate(value))


def _too_deep() -> str:
    return f"the schema is nested deeper than {MAX_DEPTH} levels"


def _check_valid(schema: JsonValue) -> None:
    """Check that the schema is one by the rules of its own draft, and that some value may keep it."""
    import jsonschema_rs  # noqa: PLC0415 - 20 ms that only structured output needs

    if schema is False:
        raise ConfigError("no value can keep the schema: it is false")
    if not isinstance(schema, dict | bool):
        raise ConfigError(f"a JSON Schema is an object, true or false, not {type(schema).__name__}")
    check_parts(schema)
    try:
        jsonschema_rs.meta.validate(schema)  # the shape first: what follows relies on it
    except (jsonschema_rs.ValidationError, ValueError) as error:
        said = str(error).splitlines()[0][:200]
        raise ConfigError(f"the schema is not a valid JSON Schema: {said}") from error
    weaken(schema)
    validator_of(schema)


def _compilable(original: JsonValue, tries: int) -> Weakened:
    """The strongest rewriting found that llguidance takes.

    Raises:
        ConfigError: none is taken, or none can be kept.
    """
    whole = weaken(original)
    _check_ends(whole)
    said = refusal(whole.schema)
    if said is None:
        return whole
    alone = frozenset(_refused_alone(original, whole.suspects))
    weakest = frozenset(whole.suspects)
    for left_out in (alone, weakest):
        if said is not None and said.startswith(UNSATISFIABLE):
            raise ConfigError(
                f"no value can keep the schema: {said.removeprefix(UNSATISFIABLE + ': ')}"
            )
        said = refusal(weaken(original, left_out).schema)
        if said is None and left_out is alone:
            return weaken(original, alone)
    if said is not None:
        raise ConfigError(f"the schema cannot be turned into a grammar: {said}")
    doubtful = tuple(place for place in whole.suspects if place not in alone)
    budget = iter(range(tries))

    def taken(left_out: frozenset[str]) -> bool:
        if next(budget, None) is None:
            return False
        return refusal(weaken(original, left_out).schema) is None

    return weaken(original, _needed(doubtful, weakest, taken))


def _refused_alone(original: JsonValue, suspects: Sequence[str]) -> Iterator[str]:
    """The suspects that are a `pattern` which llguidance takes nowhere, such as one that looks ahead."""
    answers: dict[str, bool] = {}
    for place in suspects:
        if place.endswith("/pattern"):
            pattern = value_at(original, parsed(place))
            if pattern not in answers:
                answers[pattern] = refusal({"type": "string", "pattern": pattern}) is not None
            if answers[pattern]:
                yield place


def _needed(
    suspects: Sequence[str], left_out: frozenset[str], taken: Callable[[frozenset[str]], bool]
) -> frozenset[str]:
    """The part of `left_out` that must stay left out: `suspects` are put back in halves while all is well."""
    kept = left_out - set(suspects)
    if not suspects or taken(kept):
        return kept
    if len(suspects) == 1:
        return left_out
    middle = len(suspects) // 2
    left_out = _needed(suspects[:middle], left_out, taken)
    return _needed(suspects[middle:], left_out, taken)


def _tries(schema: str) -> int:
    """How many rewritings may be tried: fewer for a large schema, so that the time is bounded."""
    return max(4, min(MOST_TRIES, 200_000 // max(1, len(schema))))


def _check_ends(weakened: Weakened) -> None:
    loop = Loop(weakened.schema)
    place = loop.unguarded()
    if place is not None:
        raise ConfigError(
            f"the schema at {_original(place, weakened)!r} refers back to itself with no value in between"
        )
    place = loop.endless()
    if place is not None:
        raise ConfigError(
            f"a value for {_original(place, weakened)!r} would have to hold itself without end: "
            "the $ref cycle has no way out",
            hint="leave the property out of required, or allow another type, such as null",
        )


def _original(place: str, weakened: Weakened) -> str:
    """A place of the rewritten schema as the original's pointer, as near as it can be told."""
    for name, origin in weakened.origins.items():
        own = shown(("$defs", name))
        if place == own or place.startswith(f"{own}/"):
            return origin + place.removeprefix(own)
    return place or "/"
