"""Which files of a repository are the model that was asked for: the quantisation read from names, parts kept together.

Labels are compared whole: `Q4_K` is not `Q4_K_M`, and `UD-Q4_K_XL` is none of the plain ones. Where the listing comes
from is `hub`'s and `lmstudio`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from rung.errors import ModelError
from rung.models.reference import Reference
from rung.models.shards import part_names, unsplit
from rung.models.sources.resolved import RemoteFile, Role

DEFAULT_QUANT = "Q4_K_M"
MOST_LISTED = 24

_LABEL = re.compile(
    r"(?:^|[-._])"
    r"((?:(?:UD|I1)-)?(?:(?:I?Q|TQ)[1-9](?:_[A-Z0-9]+)*|MXFP4(?:_[A-Z0-9]+)*|NVFP4|BF16|F16|F32|FP16|FP32))$"
)
_CONFIGS = (".json", ".txt", ".yaml")


class Group(msgspec.Struct, frozen=True):
    """One model of a repository.

    Attributes:
        label: its quantisation, None where the name does not say.
        files: its parts in order.
    """

    label: str | None
    files: tuple[RemoteFile, ...]

    @property
    def name(self) -> str:
        """The first part's name."""
        return self.files[0].name


def quant_of(name: str) -> str | None:
    """The quantisation that a file's name ends in, or its folder's, in upper case; None where neither does."""
    path, _, suffix = name.rpartition(".")
    if suffix.lower() != "gguf":
        return None
    folders, _, stem = path.rpartition("/")
    for part in (unsplit(stem)[0], folders.rpartition("/")[2]):
        if found := _LABEL.search(part.upper()):
            return found[1]
    return None


def role_of(name: str) -> Role:
    """What a file of a repository is for, by its name; what it holds is the scanner's to say."""
    base = name.rpartition("/")[2].lower()
    if base.endswith((".gguf", ".safetensors")):
        if "mmproj" in base:
            return Role.PROJECTOR
        is_weights = "imatrix" not in base and not base.startswith("ggml-vocab")
        return Role.WEIGHTS if is_weights else Role.OTHER
    if base.endswith(_CONFIGS):
        return Role.TOKENIZER if "token" in base or "vocab" in base else Role.CONFIG
    return Role.LICENCE if base.startswith(("license", "licence")) else Role.OTHER


def choose(
    reference: Reference, listing: Sequence[RemoteFile]
) -> tuple[tuple[RemoteFile, ...], tuple[RemoteFile, ...]]:
    """The files that a reference names, and the other models' beside them.

    Without a quantisation and a file, `Q4_K_M` is meant, or the only model there is.

    Args:
        reference: with a file, a quantisation, or neither.
        listing: every file there.

    Raises:
        ModelError: nothing there or more than one thing is what was asked for, or a part is missing.
    """
    groups = _groups(file for file in listing if _is_model(file))
    chosen = (
        _labelled(reference, groups).files
        if reference.file is None
        else _named(reference, listing, groups)
    )
    _check_whole(reference, chosen)
    others = [file for group in groups for file in group.files if file not in chosen]
    return chosen, tuple(others)


def _is_model(file: RemoteFile) -> bool:
    return file.role is Role.WEIGHTS and file.name.lower().endswith(".gguf")


def _groups(files: Iterable[RemoteFile]) -> list[Group]:
    """Files by model, parts together; one in two parts and one in three are two models."""
    found: dict[tuple[str, int], list[RemoteFile]] = {}
    for file in sorted(files, key=lambda file: file.name):
        found.setdefault(unsplit(file.name.rpartition(".")[0]), []).append(file)
    return [Group(quant_of(files[0].name), tuple(files)) for files in found.values()]


def _named(
    reference: Reference, listing: Sequence[RemoteFile], groups: Sequence[Group]
) -> tuple[RemoteFile, ...]:
    for group in groups:
        if any(file.name == reference.file for file in group.files):
            return group.files
    for file in listing:
        if file.name == reference.file:
            return (file,)
    raise ModelError(
        f"{_where(reference)} has no file {reference.file!r}", hint=_what_is_there(groups)
    )


def _labelled(reference: Reference, groups: Sequence[Group]) -> Group:
    if not groups:
        raise ModelError(
            f"{_where(reference)} has no model in GGUF format",
            hint="look for a repository of the same model whose name ends in -GGUF",
        )
    wanted = reference.quant or DEFAULT_QUANT
    found = [group for group in groups if group.label == wanted]
    if not found and reference.quant is None and len(groups) == 1:
        return groups[0]
    if not found:
        why = "" if reference.quant else ", which is taken when none is named"
        raise ModelError(
            f"{_where(reference)} has no quantisation {wanted!r}{why}", hint=_what_is_there(groups)
        )
    if len(found) > 1:
        names = ", ".join(group.name for group in found[:MOST_LISTED])
        raise ModelError(
            f"{_where(reference)} has {len(found)} models of the quantisation {wanted!r}: {names}",
            hint=f"name the file: {_spelled(reference, found[0].name)}",
        )
    return found[0]


def _check_whole(reference: Reference, chosen: Sequence[RemoteFile]) -> None:
    folder, slash, name = chosen[0].name.rpartition("/")
    there = {file.name for file in chosen}
    missing = [part for part in part_names(name) if f"{folder}{slash}{part}" not in there]
    if missing:
        raise ModelError(
            f"{_where(reference)} lacks {missing[0]!r}, one of {len(missing)} missing parts of this model",
            hint="take another quantisation, or tell whoever published it",
        )


def _what_is_there(groups: Sequence[Group]) -> str:
    labels = sorted({group.label for group in groups if group.label is not None})
    names = [group.name for group in groups if group.label is None]
    listed = [*labels, *names]
    if not listed:
        return "there is no model in GGUF format in it"
    more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return f"there are {', '.join(listed[:MOST_LISTED])}{more}"


def _where(reference: Reference) -> str:
    revision = f" at {reference.revision!r}" if reference.revision else ""
    return f"{reference.origin}:{reference.repo}{revision}"


def _spelled(reference: Reference, file: str) -> str:
    return str(msgspec.structs.replace(reference, quant=None, file=file))
