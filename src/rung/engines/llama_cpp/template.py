"""A conversation as token ids in the model's own chat format, with nothing in it that can pose as that format.

The template is rendered around marks that stand for the contents. Only the template's own text is searched for control
tokens; contents are tokenised as plain text, so `<|im_end|>` in a user's text is ten characters and no end of a turn.
A text runs on to the plain template text beside it, so that the tokens are those the model was trained on.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import Protocol

import msgspec

from rung.engines.llama_cpp.rendering import Job, Rendered
from rung.errors import EngineRefused, EngineUnavailable
from rung.task import Message

PLAIN = "{% for message in messages %}{{ message.content }}\n\n{% endfor %}"
"""For models without a chat template: the contents, a blank line after each."""

MOST_TEMPLATE_BYTES = 512 * 1024
ROLES = ("system", "user", "assistant")

_RENDER_S = 10.0
_MARK = re.compile("\ue000([0-9]+)\ue001")
_KEPT_LAYOUTS = 64
_KEPT_TEXTS = 256
_KEPT_CHARS = 32 * 1024  # longer texts are hardly asked twice

# What control tokens look like in the templates in use: <|im_start|>, <s>, [INST], <start_of_turn>, <｜User｜>, [|user|]
_CONTROL_LIKE = re.compile(r"<[^<>\s]{1,60}>|\[[^\[\]\s]{1,60}\]")

Tokens = tuple[int, ...]


class Tokenizer(Protocol):
    """Turns texts into the model's tokens."""

    async def tokenize(self, texts: Sequence[str], *, parse_special: bool) -> list[Tokens]:
        """The tokens of each text, nothing added around them.

        Args:
            texts: what to tokenise.
            parse_special: read control tokens where their text stands.

        Raises:
            EngineError: the engine does not answer.
        """
        ...


class ChatFormat(msgspec.Struct, frozen=True):
    """How a model wants conversations written.

    Attributes:
        template: Jinja source, None for models that have none.
        bos, eos: texts of its tokens of those names.
        prefix: tokens that begin every prompt.
    """

    template: str | None = None
    bos: str = ""
    eos: str = ""
    prefix: Tokens = ()


class _Gap(msgspec.Struct, frozen=True):
    """What stands between two contents: plain text, then fixed tokens and plain text again, or plain text alone.

    Attributes:
        before: plain text that the content before runs on to.
        fixed: tokens from the first control token to the last; None when there is none.
        after: plain text that runs on to the content after.
    """

    before: str
    fixed: Tokens | None
    after: str


class _Layout(msgspec.Struct, frozen=True):
    """A rendered template: gap, content, gap, …, gap.

    Attributes:
        gaps: one more than there are contents.
        order: which message stands in each place.
        folded: whether the system turn was written into the turn after it.
        markers: texts that are one token wherever they stand, and shape the conversation.
    """

    gaps: tuple[_Gap, ...]
    order: tuple[int, ...]
    folded: bool
    markers: tuple[str, ...]


class PromptWriter:
    """Writes prompts for one model.

    Args:
        format: the model's.
        tokenizer: the model's.
    """

    def __init__(self, format: ChatFormat, tokenizer: Tokenizer) -> None:
        self._format = format
        self._tokenizer = tokenizer
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._texts: dict[str, Tokens] = {}

    async def tokens(self, messages: Sequence[Message]) -> Tokens:
        """The prompt that asks for the next turn of a conversation.

        Raises:
            EngineRefused: a role that no template knows, or one that the model's template refuses.
            EngineError: the engine does not answer.
        """
        before, after = await self.parts(messages)
        return before + after

    async def parts(self, messages: Sequence[Message]) -> tuple[Tokens, Tokens]:
        """The prompt in two: what does not depend on the last message's content, and the rest."""
        layout = await self._layout(messages)
        contents = [message.content for message in _folded(messages, layout.folded)]
        pieces: list[str | Tokens] = [self._format.prefix]
        run, start = "", 0
        for gap, place in zip(layout.gaps, (*layout.order, None), strict=True):
            run += gap.before
            if gap.fixed is not None:
                pieces += [run, gap.fixed]
                run = gap.after
            if place is not None:
                if place == len(contents) - 1:
                    start = len(pieces)
                run += contents[place]
        pieces.append(run)
        tokens = await self._tokenised(pieces, layout.markers)
        return _joined(tokens[:start]), _joined(tokens[start:])

    async def _tokenised(
        self, pieces: Sequence[str | Tokens], markers: tuple[str, ...]
    ) -> list[Tokens]:
        """Every piece as tokens; texts that were seen lately are not asked for again."""
        missing = {
            piece: broken(piece, markers)
            for piece in pieces
            if isinstance(piece, str) and piece and piece not in self._texts
        }
        parts = [part for split in missing.values() for part in split]
        found = iter(
            await self._tokenizer.tokenize(parts, parse_special=False) if parts else []
        )
        fresh = {text: _joined([next(found) for _ in split]) for text, split in missing.items()}
        known = {"": (), **self._texts, **fresh}
        for text, tokens in fresh.items():
            if len(text) <= _KEPT_CHARS:
                self._texts[text] = tokens
        while len(self._texts) > _KEPT_TEXTS:
            del self._texts[next(iter(self._texts))]
        return [known[piece] if isinstance(piece, str) else piece for piece in pieces]

    async def _layout(self, messages: Sequence[Message]) -> _Layout:
        roles = tuple(message.role for message in messages)
        if roles not in self._layouts:
            layout = await self._rendered(roles)
            if len(self._layouts) >= _KEPT_LAYOUTS:
                self._layouts.clear()
            self._layouts[roles] = layout
        return self._layouts[roles]

    async def _rendered(self, roles: tuple[str, ...]) -> _Layout:
        """The template around marks; a system turn that it refuses or drops goes into the turn after it."""
        _check_roles(roles)
        source = PLAIN if self._format.template is None else self._format.template
        if len(source) > MOST_TEMPLATE_BYTES:
            raise EngineRefused(
                f"the model's chat template has {len(source):,} characters, "
                f"and at most {MOST_TEMPLATE_BYTES:,} are rendered"
            )
        text, problem = await self._render(source, roles)
        folded = problem is not None and roles[:1] == ("system",) and len(roles) > 1
        if folded:
            text, again = await self._render(source, roles[1:])
            problem = problem if again is not None else None
        if problem is not None:
            raise EngineRefused(
                f"the model's chat template does not take a conversation of {', '.join(roles)}: {problem}",
                hint="another model, or one system turn followed by user and assistant in turns",
            )
        return await self._laid_out(text, folded=folded)

    async def _render(self, source: str, roles: tuple[str, ...]) -> tuple[str, str | None]:
        """The text with a mark in the place of every content, and why it is of no use."""
        marked = tuple((role, f"\ue000{i}\ue001") for i, role in enumerate(roles))
        result = await _in_own_process(Job(source, marked, self._format.bos, self._format.eos))
        if result.problem is not None:
            return "", result.problem
        seen = {int(mark) for mark in _MARK.findall(result.text)}
        lost = [role for i, role in enumerate(roles) if i not in seen]
        return result.text, f"it leaves out what the {lost[0]} said" if lost else None

    async def _laid_out(self, text: str, *, folded: bool) -> _Layout:
        parts = _MARK.split(text)
        texts = parts[::2]
        likely = sorted({found for part in texts for found in _CONTROL_LIKE.findall(part)})
        special = await self._tokenizer.tokenize(likely, parse_special=True)
        plain = await self._tokenizer.tokenize(likely, parse_special=False)
        control = {
            text
            for text, one, other in zip(likely, special, plain, strict=True)
            if one != other and len(one) == 1
        }
        markers = [
            text
            for text, one, other in zip(likely, special, plain, strict=True)
            if one == other and len(one) == 1
        ]
        gaps = [await self._gap(part, control) for part in texts]
        gaps[0] = self._begun(gaps[0])
        return _Layout(tuple(gaps), tuple(map(int, parts[1::2])), folded, tuple(markers))

    async def _gap(self, text: str, control: set[str]) -> _Gap:
        """One stretch of template text, its control tokens found."""
        places = [m for m in _CONTROL_LIKE.finditer(text) if m[0] in control]
        start, end = (places[0].start(), places[-1].end()) if places else (len(text), len(text))
        before, fixed, after = text[:start], text[start:end], text[end:]
        specials = await self._tokenizer.tokenize([before, fixed, after], parse_special=True)
        plains = await self._tokenizer.tokenize([before, after], parse_special=False)
        if [specials[0], specials[2]] != plains:  # a control token of a shape nobody has met
            (whole,) = await self._tokenizer.tokenize([text], parse_special=True)
            return _Gap("", whole, "")
        return _Gap(before, specials[1], after) if places else _Gap(text, None, "")

    def _begun(self, gap: _Gap) -> _Gap:
        """The first stretch without the tokens that begin every prompt anyway."""
        prefix = self._format.prefix
        if not prefix or gap.fixed is None or gap.before or gap.fixed[: len(prefix)] != prefix:
            return gap
        return msgspec.structs.replace(gap, fixed=gap.fixed[len(prefix) :])


def broken(text: str, markers: Sequence[str]) -> list[str]:
    """`text` in pieces none of which holds a marker: each one is cut in two behind its first character."""
    if not markers:
        return [text]
    pieces, at = [], 0
    for found in re.finditer("|".join(f"(?={re.escape(marker)})" for marker in markers), text):
        pieces.append(text[at : found.start() + 1])
        at = found.start() + 1
    return [*pieces, text[at:]]


def _check_roles(roles: tuple[str, ...]) -> None:
    """Check the roles, which a template writes out as they are."""
    if not roles:
        raise EngineRefused("the conversation is empty")
    for role in roles:
        if role not in ROLES:
            raise EngineRefused(
                f"{role[:40]!r} is no role of a conversation",
                hint=f"the roles are {', '.join(ROLES)}",
            )


def _folded(messages: Sequence[Message], folded: bool) -> Sequence[Message]:
    """The messages, the system's words put before those of the turn after it when `folded`."""
    if not folded:
        return messages
    first = Message(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
    return (first, *messages[2:])


def _joined(parts: Sequence[Tokens]) -> Tokens:
    return tuple(token for part in parts for token in part)


async def _in_own_process(job: Job) -> Rendered:
    """Render where a hostile template can only hurt itself.

    Raises:
        EngineUnavailable: no process can be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-m", "rung.engines.llama_cpp.rendering"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )
    except OSError as error:
        raise EngineUnavailable(f"a process to render the chat template: {error}") from error
    try:
        async with asyncio.timeout(_RENDER_S):
            written, _ = await process.communicate(msgspec.json.encode(job))
    except TimeoutError:
        return Rendered(problem=f"rendering it took longer than {_RENDER_S:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(written, type=Rendered)
    except msgspec.DecodeError:
        return Rendered(problem="rendering it ended the process that tried")
