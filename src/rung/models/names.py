"""What a part of a model's name may be made of: plain letters, nothing that leads elsewhere or looks like another.

Names come from users and, as file listings, from servers; both are held to the same rules. What stands for very bytes
has its pattern here, too.
"""

from __future__ import annotations

import re
import unicodedata

from rung.errors import InputError

MOST_IN_NAME = 96
MOST_IN_COMPONENT = 200
MOST_IN_PATH = 512
SHA256 = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""Of a manifest or a layer of Ollama's registry."""
COMMIT = re.compile(r"[0-9a-f]{40}")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=,()\[\]-]*")
_USER = re.compile(r"//.*[@\uff20\ufe6b]", re.DOTALL)
_QUERY = re.compile(r"(?<=/)([^?#\uff1f]*[?#\uff1f]).+", re.DOTALL)
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def masked(text: str) -> str:
    """What a user typed, for messages: without what stands before a host or behind a `?`, which may be a password.

    Args:
        text: anything, also what is no address or one that is not well formed.
    """
    return _QUERY.sub(r"\1…", _USER.sub("//…@", text))


def checked_text(text: str) -> str:
    """A name made of printable ASCII alone.

    Raises:
        InputError: it has other characters, which can look like those of another name.
    """
    for at, letter in enumerate(text):
        if not "!" <= letter <= "~":
            called = unicodedata.name(letter, f"U+{ord(letter):04X}")
            raise InputError(
                f"the model's name {masked(text)!r} has the character {called!r} at place {at + 1}, "
                "which can pass for another",
                hint="type the name with plain letters, digits and . _ - only",
            )
    return text


def checked_name(name: str, text: str) -> str:
    """The name of an owner, a repository or a model.

    Args:
        name: the part.
        text: the whole, for messages.

    Raises:
        InputError: it is not such a name.
    """
    if len(name) > MOST_IN_NAME or not _NAME.fullmatch(name) or _misleads(name):
        raise InputError(
            f"{name!r} in {text!r} is not a name",
            hint=f"a name has up to {MOST_IN_NAME} letters, digits and . _ -, and starts and ends with "
            "a letter or digit",
        )
    return name


def checked_path(path: str, text: str) -> str:
    """The path of a file within a repository.

    Raises:
        InputError: it is not one, or could lead out of a folder.
    """
    if not is_plain_path(path):
        raise InputError(
            f"{path!r} in {text!r} is not a plain path of a file within a repository",
            hint="write it as the repository lists it, with forward slashes and without '..'",
        )
    return path


def is_plain_path(path: str) -> bool:
    """Whether a path stays below the folder that it is joined to, on every system."""
    return len(path) <= MOST_IN_PATH and all(_is_component(part) for part in path.split("/"))


def _is_component(part: str) -> bool:
    if len(part) > MOST_IN_COMPONENT or not _COMPONENT.fullmatch(part):
        return False
    return not _misleads(part)


def _misleads(part: str) -> bool:
    return ".." in part or part.endswith((".", "-")) or bool(_DEVICES.fullmatch(part))
