"""How a user names a model: one strict grammar, read into a value and written back the same.

    hf:owner/repo[@revision][:QUANT | :path/in/repo.gguf]
    ollama:[namespace/]name[:tag | @sha256:digest]
    https://host/path/model.gguf          (http:// on this machine only)
    lmstudio:publisher/repo[/file.gguf]
    file:path, or just a path

What could be mistaken for another name, or lead out of a folder, is refused and not repaired: the parts are checked in
`names`, addresses in `addresses`. Whether there is such a model is `sources`' to find out.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import msgspec

from rung.errors import InputError
from rung.models.addresses import HUB_HOSTS, checked_address, host_of, hub_page, hub_short
from rung.models.names import (
    DIGEST,
    checked_name,
    checked_path,
    checked_text,
    is_plain_path,
    masked,
)

FORMS = (
    "write hf:owner/repo:Q4_K_M, ollama:name:tag, https://host/model.gguf, lmstudio:publisher/repo "
    "or the path of a .gguf file"
)
MODEL_SUFFIXES = (".gguf", ".safetensors")
MOST_CHARACTERS = 2048

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,4}")
_QUANT = re.compile(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+){0,6}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # one letter before a colon is a drive
_HUB_HOSTS = ("hf.co/", "huggingface.co/", "www.huggingface.co/")


class Origin(enum.StrEnum):
    """Where a model is looked for."""

    HF = "hf"
    OLLAMA = "ollama"
    URL = "https"
    FILE = "file"
    LMSTUDIO = "lmstudio"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a model; `str` of it is canonical and is read back into an equal value, but for a query.

    Attributes:
        origin: where to look.
        repo: `owner/repo` of Hugging Face and LM Studio, `namespace/name` of Ollama, a whole address, or a path.
        revision: branch, tag or commit of Hugging Face that was asked for; tag or digest of Ollama.
        file: exact file within the repository.
        quant: label of a quantisation such as `Q4_K_M`, upper case.
        query: what followed the `?` of an address and may be a key that was lent for a while: sent, and never written
            or shown. Empty where there was one that nobody knows any more, None where there was none.
    """

    origin: Origin
    repo: str
    revision: str | None = None
    file: str | None = None
    quant: str | None = None
    query: str | None = None

    @property
    def address(self) -> str:
        """What an address is asked by; not to be shown."""
        return f"{self.repo}?{self.query}" if self.query else self.repo

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __str__(self) -> str:
        if self.origin is Origin.URL:
            return self.repo if self.query is None else f"{self.repo}?"
        if self.origin is Origin.OLLAMA:
            revision = self.revision or "latest"
            return f"ollama:{self.repo}{'@' if DIGEST.fullmatch(revision) else ':'}{revision}"
        if self.origin is Origin.LMSTUDIO:
            return f"lmstudio:{self.repo}" + (f"/{self.file}" if self.file else "")
        revision = f"@{self.revision}" if self.revision else ""
        tail = f":{self.file or self.quant}" if self.file or self.quant else ""
        return f"{self.origin}:{self.repo}{revision}{tail}"


def parse_reference(text: str) -> Reference:
    """Read what a user typed for a model.

    Args:
        text: one of the forms at the top of this module; a path needs no `file:` when it contains a slash, ends in
            `.gguf` or `.safetensors`, or exists.

    Raises:
        InputError: it is none of the forms, or a part of it is not what such a part may be.
    """
    if not text or len(text) > MOST_CHARACTERS:
        raise InputError(
            f"a model's name has 1 to {MOST_CHARACTERS:,} characters, this one {len(text):,}",
            hint=FORMS,
        )
    for start, read in _FORMS.items():
        if text.startswith(start):
            return read(text)
    return _bare(text)


def names_source(text: str) -> bool:
    """Whether a text begins as the name of a model at a source does; others are paths, or nothing."""
    return text.startswith(tuple(_FORMS))


def _hub(text: str) -> Reference:
    left, colon, tail = checked_text(text).removeprefix("hf:").partition(":")
    repo, at, revision = left.partition("@")
    owner, slash, name = repo.partition("/")
    if not slash or "/" in name:
        repo, _, file = name.partition("/")
        meant = f":{file}" if is_plain_path(f"{owner}/{name}") and not (at or colon) else ""
        raise InputError(
            f"{text!r} does not name a repository of Hugging Face",
            hint=f"write hf:{owner}/{repo}{meant}" if meant else "write hf:owner/repo",
        )
    checked_name(owner, text)
    checked_name(name, text)
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or len(revision) > 128):
        raise InputError(
            f"{revision!r} in {text!r} is no branch, tag or commit",
            hint="write hf:owner/repo@main or hf:owner/repo@ and the 40 letters of a commit",
        )
    return Reference(
        origin=Origin.HF,
        repo=repo,
        revision=revision if at else None,
        **_quant_or_file(tail, text, given=bool(colon)),
    )


def _quant_or_file(tail: str, text: str, *, given: bool) -> dict[str, str]:
    if not given:
        return {}
    if "." in tail or "/" in tail:
        return {"file": checked_path(tail, text)}
    if not _QUANT.fullmatch(tail):
        raise InputError(
            f"{tail!r} in {text!r} is neither a quantisation nor a file",
            hint="write hf:owner/repo:Q4_K_M or hf:owner/repo:model-Q4_K_M.gguf",
        )
    return {"quant": tail.upper()}


def _ollama(text: str) -> Reference:
    rest = checked_text(text).removeprefix("ollama:")
    name, at, digest = rest.partition("@")
    name, colon, tag = (name, "", "") if at else rest.partition(":")
    spaced = name if "/" in name else f"library/{name}"
    namespace, _, model = spaced.partition("/")
    if "/" in model:
        raise InputError(
            f"{text!r} does not name a model of Ollama's registry",
            hint="write ollama:name:tag or ollama:namespace/name:tag",
        )
    checked_name(namespace, text)
    checked_name(model, text)
    if (at and not DIGEST.fullmatch(digest)) or (colon and not _TAG.fullmatch(tag)):
        raise InputError(
            f"{digest if at else tag!r} in {text!r} is no tag of Ollama's registry",
            hint="write ollama:name:4b, or ollama:name@sha256: and 64 lower-case hex digits",
        )
    return Reference(
        origin=Origin.OLLAMA, repo=spaced, revision=digest if at else tag if colon else "latest"
    )


def _lmstudio(text: str) -> Reference:
    parts = checked_text(text).removeprefix("lmstudio:").split("/", 2)
    if len(parts) == 1:
        raise InputError(
            f"{text!r} does not name a model of LM Studio",
            hint="write lmstudio:publisher/repo, as its folder of models has them",
        )
    for part in parts[:2]:
        checked_name(part, text)
    file = checked_path(parts[2], text) if len(parts) > 2 else None
    return Reference(origin=Origin.LMSTUDIO, repo="/".join(parts[:2]), file=file)


def _address(text: str) -> Reference:
    on_hub = host_of(checked_text(text)) in HUB_HOSTS
    if short := hub_short(text):
        return _hub(short)
    address = checked_address(text.rstrip("/") if on_hub else text)
    if page := hub_page(address):
        return _hub(page)
    repo, _, query = address.partition("?")
    return Reference(origin=Origin.URL, repo=repo, query=query if "?" in text else None)


def _hub_short(text: str) -> Reference:
    """`hf.co/owner/repo:Q4_K_M`, as other programs write it, or the address of a page without its `https://`."""
    return _address(f"https://{checked_text(text)}")


def _file(text: str) -> Reference:
    path = text.removeprefix("file:")
    if path.startswith("//"):
        if not path.startswith("///") or "%" in path:
            raise InputError(
                f"{masked(text)!r} is an address with a host or with escapes",
                hint="write the path itself",
            )
        path = "/" + path.lstrip("/")
    if not path or any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        raise InputError(f"{masked(text)!r} is not the path of a file", hint="check the path")
    return Reference(origin=Origin.FILE, repo=path)


def _bare(text: str) -> Reference:
    """A path, or nothing we know."""
    scheme = _SCHEME.match(unicodedata.normalize("NFKC", text))  # a wide colon looks like one
    if scheme and not _exists(text):
        known = scheme[0].lower() in _FORMS
        raise InputError(
            f"{masked(text)!r} starts with the unknown {scheme[0]!r}",
            hint=f"write {scheme[0].lower()} in lower case" if known else FORMS,
        )
    if "/" in text or text.endswith(MODEL_SUFFIXES) or _exists(text):
        return _file(text)
    raise InputError(f"{masked(text)!r} is neither the name of a model nor a file", hint=FORMS)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False  # a NUL, or a name too long to be one


_FORMS: dict[str, Callable[[str], Reference]] = {
    "hf:": _hub,
    "ollama:": _ollama,
    "lmstudio:": _lmstudio,
    "https://": _address,
    "http://": _address,
    "file:": _file,
    **dict.fromkeys(_HUB_HOSTS, _hub_short),
}
