"""GGUF and safetensors files: their headers read strictly, and nothing hidden around what the headers account for.

The headers' own rules are in `models.header`, `models.sanity` and `models.safetensors`; here they become findings, and
what those leave out is looked at: padding, chat templates, and what else the same bytes are (`foreign`).
"""

from __future__ import annotations

from collections.abc import Iterator

from rung.errors import ModelError
from rung.models.header import Header, header_from
from rung.models.safetensors import read_safetensors
from rung.models.sanity import oddities, repeated_tokens
from rung.models.scan.content import Content
from rung.models.scan.foreign import foreign
from rung.models.scan.pickles import findings as pickle_findings
from rung.models.scan.pickles import pickles_in
from rung.models.scan.report import Finding, Seen, Tell, shown
from rung.models.scan.template import check_template, template_notes

VOCABULARY = "GGUF without tensors (a vocabulary)"
TEMPLATE = "tokenizer.chat_template"
_SAFETENSORS_BYTES = 8  # of the header's length, before its opening brace
_LONGEST_HEADER = 100_000_000  # that the format allows
_MOST_TEMPLATES = 32  # in one file; those that are published have one to four


def look_at_gguf(content: Content, tell: Tell) -> Seen:
    """Look at a file that begins as GGUF does.

    Args:
        content: the file.
        tell: is given what was found before a step that may end the process.
    """
    hidden = foreign(content)
    tell(Seen("GGUF", hidden))
    try:
        header = header_from("", content.size, content.reader())
        repeated = repeated_tokens(content.path, header)
    except ModelError as error:
        return Seen("GGUF", (*hidden, *_in_the_way(content), _unreadable("gguf-header", error)))
    found = [*hidden, *_padding(content, header)]
    if repeated:
        what = f"a vocabulary in which tokens occur twice ({repeated:,})"
        found.append(Finding("gguf-vocabulary", what, "tokenizer.ggml.tokens"))
    notes = []
    if _parts(header) > 1:
        notes.append(
            f"one of {_parts(header)} parts; together they are checked when they are loaded"
        )
    else:
        for odd in oddities(header):
            if odd.grave:
                found.append(Finding(f"gguf-{odd.rule}", odd.what, "header"))
            else:
                notes.append(f"it has {odd.what}")
    templates = list(_templates(header))
    if len(templates) > _MOST_TEMPLATES:
        what = (
            f"{len(templates):,} chat templates, more than the {_MOST_TEMPLATES} that are looked at"
        )
        found.append(Finding("template-count", what, TEMPLATE))
    for key, text in templates[:_MOST_TEMPLATES]:
        tell(Seen("GGUF", tuple(found), tuple(notes)))
        found += check_template(text, key)
        notes += template_notes(text)
    kind = "GGUF" if header.tensors else VOCABULARY
    return Seen(kind, tuple(found), tuple(notes))


def like_safetensors(content: Content) -> bool:
    """Whether a file begins as safetensors do: a length and a brace."""
    length = int.from_bytes(content.head[:_SAFETENSORS_BYTES], "little")
    return 0 < length <= _LONGEST_HEADER and content.head[_SAFETENSORS_BYTES:][:1] in (b"{", b" ")


def look_at_safetensors(content: Content, tell: Tell) -> Seen:
    """Look at a file that begins as safetensors do; `tell` as above."""
    hidden = foreign(content)
    tell(Seen("safetensors", hidden))
    try:
        header = read_safetensors(content.path)
    except ModelError as error:
        unreadable = _unreadable("safetensors-header", error)
        return Seen("safetensors", (*hidden, *_in_the_way(content), unreadable))
    keys = ", ".join(shown(key, 40) for key in list(header.metadata)[:5])
    notes = (f"texts in its header: {keys}",) if keys else ()
    return Seen("safetensors", hidden, notes)


def _unreadable(rule: str, error: ModelError) -> Finding:
    """A reader's refusal, without the name that it was given for the file."""
    what = error.message.split("' ", 1)[-1].removeprefix("the model file ")
    return Finding(rule, f"the file {shown(what)}", "header")


def _in_the_way(content: Content) -> tuple[Finding, ...]:
    """Pickles in a file whose header cannot be read."""
    walks = [each for each in pickles_in(content) if each.certain]
    return pickle_findings(walks) if walks else ()


def _padding(content: Content, header: Header) -> Iterator[Finding]:
    """Bytes between the parts of a file, which its reader holds to be none and which must be zero."""
    end = _end_of_infos(header)
    for tensor in header.tensors:
        gap = content.at(end, tensor.start - end)
        if gap.strip(b"\0"):
            what = f"{len(gap):,} bytes between its tensors that are not zero"
            yield Finding("gguf-padding", what, f"byte {end:,}")
            return
        end = tensor.start + tensor.size
    if content.at(end, header.alignment).strip(b"\0"):
        yield Finding("gguf-padding", "bytes behind its last tensor that are not zero", f"byte {end:,}")  # fmt: skip


def _end_of_infos(header: Header) -> int:
    """Where the part of the file that is read as header ends."""
    entries = max((entry.end for entry in header.metadata.values()), default=24)
    return entries + sum(
        8 + len(tensor.name.encode()) + 4 + 8 * len(tensor.shape) + 4 + 8
        for tensor in header.tensors
    )


def _parts(header: Header) -> int:
    return header.number("split.count") or 1


def _templates(header: Header) -> Iterator[tuple[str, str]]:
    for key in header.metadata:
        if key.startswith(TEMPLATE) and (text := header.text(key)) is not None:
            yield shown(key, 80), text
