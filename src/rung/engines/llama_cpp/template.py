"""A conversation as token ids in the model's own chat format, with nothing in it that can pose as that format.

The template is rendered around marks that stand for the contents. Only the template's own text is searched for control
tokens; contents are tokenised as plain text, so `<|im_end|>` in a user's text is ten characters and no end of a turn.
A text runs on to the plain template text beside it, so that the tokens are those the model was trained on.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Sequence, Set
from typing import Protocol

import msgspec

from rung.engines.llama_cpp.rendering import Job, Rendered
from rung.errors import EngineRefused, EngineUnavailable, EngineUnsupported
from rung.task import Message

PLAIN = "{% for message in messages %}{{ message.content }}\n\n{% endfor %}"
"""For models without a chat template: the contents, a blank line after each."""

MOST_TEMPLATE_BYTES = 512 * 1024
ROLES = ("system", "user", "assistant")

_RENDER_S = 10.0
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_HOLE = "\ue002"  # stands for the content that a frame leaves open
_BOS, _EOS = "\ue003", "\ue004"  # stand for the tokens that templates know by name
_MARK = re.compile("\ue000([0-9]+)\ue001")
_KEPT_LAYOUTS = 64
_KEPT_TEXTS = 256
_KEPT_CHARS = 32 * 1024  # longer texts are hardly asked twice

# What control tokens look like: <|im_start|>, <s>, [INST], <start_of_turn>, <｜User｜>, [|user|]
_CONTROL_LIKE = re.compile(rf"<[^<>\s]{{1,60}}>|\[[^\[\]\s]{{1,60}}\]|[{_BOS}{_EOS}]")

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
        bos, eos: its tokens of those names, None for none.
        prefix: tokens that begin every prompt.
    """

    template: str | None = None
    bos: int | None = None
    eos: int | None = None
    prefix: Tokens = ()

    @property
    def named(self) -> dict[str, Tokens]:
        """What the marks for the two tokens stand for."""
        return {
            _BOS: () if self.bos is None else (self.bos,),
            _EOS: () if self.eos is None else (self.eos,),
        }


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


class Frame(msgspec.Struct, frozen=True):
    """A prompt whose last content is left open, for many texts in the same place.

    Attributes:
        before: tokens before it.
        lead, tail: plain text that runs on to the content on either side.
        after: tokens after it.
        begun: plain text after the last control token, that the answer runs on to.
        markers: texts that the content must not hold, because they would shape the conversation.
    """

    before: Tokens
    lead: str
    tail: str
    after: Tokens
    begun: str
    markers: tuple[str, ...]


class PromptWriter:
    """Writes prompts for one model.

    Args:
        format: the model's.
    """

    def __init__(self, format: ChatFormat) -> None:
        self._format = format
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._texts: dict[str, Tokens] = {}

    async def tokens(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Tokens:
        """The prompt that asks for the next turn of a conversation.

        Args:
            messages: the conversation.
            tokenizer: the model's.

        Raises:
            EngineRefused: a role that no template knows, or a conversation that the model's template refuses.
            EngineError: the engine does not answer.
        """
        layout = await self._layout(messages, tokenizer)
        contents = [message.content for message in _folded(messages, layout.folded)]
        pieces = _pieces(layout, contents)
        return self._format.prefix + _joined(
            await self._tokenised(pieces, layout.markers, tokenizer)
        )

    async def frame(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Frame:
        """The prompt around the last message's content, which is taken as empty.

        Raises:
            EngineUnsupported: the template writes that content more than once.
            EngineRefused: as `tokens`.
            EngineError: the engine does not answer.
        """
        layout = await self._layout(messages, tokenizer)
        contents = [message.content for message in _folded(messages, layout.folded)]
        if layout.order.count(len(contents) - 1) != 1:
            raise EngineUnsupported("the model's chat template writes the last text more than once")
        contents[-1] += _HOLE
        pieces = _pieces(layout, contents)
        place = max(
            i for i, piece in enumerate(pieces) if isinstance(piece, str) and _HOLE in piece
        )
        run = pieces[place]
        lead, _, tail = run.rpartition(_HOLE) if isinstance(run, str) else ("", "", "")
        before = await self._tokenised(pieces[:place], layout.markers, tokenizer)
        after = await self._tokenised(pieces[place + 1 :], layout.markers, tokenizer)
        last = pieces[-1]
        return Frame(
            before=self._format.prefix + _joined(before),
            lead=lead,
            tail=tail,
            after=_joined(after),
            begun=last if isinstance(last, str) and place != len(pieces) - 1 else "",
            markers=layout.markers,
        )

    async def _tokenised(
        self, pieces: Sequence[str | Tokens], markers: tuple[str, ...], tokenizer: Tokenizer
    ) -> list[Tokens]:
        """Every piece as tokens; texts that were seen lately are not asked for again."""
        texts = {piece for piece in pieces if isinstance(piece, str) and piece}
        # taken before waiting: other calls may push them out meanwhile
        kept = {text: self._texts[text] for text in texts if text in self._texts}
        missing = {text: broken(text, markers) for text in texts if text not in kept}
        parts = [part for split in missing.values() for part in split]
        found = iter(await tokenizer.tokenize(parts, parse_special=False) if parts else [])
        fresh = {text: _joined([next(found) for _ in split]) for text, split in missing.items()}
        known = {"": (), **kept, **fresh}
        for text in texts:  # put last again: what every prompt shares is not what is pushed out
            if len(text) <= _KEPT_CHARS:
                self._texts.pop(text, None)
                self._texts[text] = known[text]
        while len(self._texts) > _KEPT_TEXTS:
            del self._texts[next(iter(self._texts))]
        return [known[piece] if isinstance(piece, str) else piece for piece in pieces]

    async def _layout(self, messages: Sequence[Message], tokenizer: Tokenizer) -> _Layout:
        roles = tuple(message.role for message in messages)
        if roles not in self._layouts:
            layout = await self._rendered(roles, tokenizer)
            if len(self._layouts) >= _KEPT_LAYOUTS:
                self._layouts.clear()
            self._layouts[roles] = layout
        return self._layouts[roles]

    async def _rendered(self, roles: tuple[str, ...], tokenizer: Tokenizer) -> _Layout:
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
        gaps, markers = await self._gaps(_MARK.split(text)[::2], tokenizer)
        order = tuple(map(int, _MARK.findall(text)))
        return _Layout(gaps, order, folded, markers)

    async def _render(self, source: str, roles: tuple[str, ...]) -> tuple[str, str | None]:
        """The text with a mark in the place of every content, and why it is of no use."""
        marked = tuple((role, f"\ue000{i}\ue001") for i, role in enumerate(roles))
        result = await _in_own_process(Job(source, marked, _BOS, _EOS))
        if result.problem is not None:
            return "", result.problem
        seen = {int(mark) for mark in _MARK.findall(result.text)}
        lost = [role for i, role in enumerate(roles) if i not in seen]
        return result.text, f"it leaves out what the {lost[0]} said" if lost else None

    async def _gaps(
        self, texts: Sequence[str], tokenizer: Tokenizer
    ) -> tuple[tuple[_Gap, ...], tuple[str, ...]]:
        """The template's own texts with their control tokens found, and its markers."""
        named = self._format.named
        found = {like for text in texts for like in _CONTROL_LIKE.findall(text)}
        likely = sorted(found - named.keys())
        special = await tokenizer.tokenize(likely, parse_special=True)
        plain = await tokenizer.tokenize(likely, parse_special=False)
        single = [
            (text, one != other)
            for text, one, other in zip(likely, special, plain, strict=True)
            if len(one) == 1
        ]
        control = named.keys() | {text for text, _ in single}
        gaps = [await self._gap(text, control, tokenizer) for text in texts]
        gaps[0] = self._begun(gaps[0])
        return tuple(gaps), tuple(text for text, is_control in single if not is_control)

    async def _gap(self, text: str, control: Set[str], tokenizer: Tokenizer) -> _Gap:
        """One stretch of template text, its control tokens found."""
        places = [found for found in _CONTROL_LIKE.finditer(text) if found[0] in control]
        start, end = (places[0].start(), places[-1].end()) if places else (len(text), len(text))
        plain = [text[:start], text[end:]]
        read = await tokenizer.tokenize(plain, parse_special=True)
        if read != await tokenizer.tokenize(plain, parse_special=False):
            # A control token of a shape nobody has met: no content runs on to this text.
            return _Gap("", await self._fixed(text, tokenizer), "")
        if not places:
            return _Gap(text, None, "")
        return _Gap(text[:start], await self._fixed(text[start:end], tokenizer), text[end:])

    async def _fixed(self, text: str, tokenizer: Tokenizer) -> Tokens:
        """Template text as tokens, control tokens read."""
        named = self._format.named
        parts = re.split(f"([{_BOS}{_EOS}])", text)
        plain = iter(await tokenizer.tokenize(parts[::2], parse_special=True))
        return _joined([named[part] if part in named else next(plain) for part in parts])

    def _begun(self, gap: _Gap) -> _Gap:
        """The first stretch without the tokens that begin every prompt anyway."""
        prefix = self._format.prefix
        if not prefix or gap.fixed is None or gap.before or gap.fixed[: len(prefix)] != prefix:
            return gap
        return msgspec.structs.replace(gap, fixed=gap.fixed[len(prefix) :])


def _pieces(layout: _Layout, contents: Sequence[str]) -> list[str | Tokens]:
    """Fixed tokens and the runs of plain text between them, contents in their places."""
    pieces: list[str | Tokens] = []
    run = ""
    for gap, place in zip(layout.gaps, (*layout.order, None), strict=True):
        run += gap.before
        if gap.fixed is not None:
            pieces += [run, gap.fixed]
            run = gap.after
        if place is not None:
            run += contents[place]
    return [*pieces, run]


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


def _environment() -> dict[str, str]:
    """Nothing but where libraries are: an interpreter outside the usual places does not start without."""
    return {name: os.environ[name] for name in _LIBRARY_PATHS if name in os.environ}


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
            env=_environment(),
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
