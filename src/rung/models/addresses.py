"""Addresses that users type or servers redirect to, read strictly: one look shows where the bytes come from.

Fetching from them is `sources`'.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse

from rung.errors import InputError
from rung.models.names import is_plain_path

HUB = "https://huggingface.co"
HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})

_PLAIN = "write https://host/path/model.gguf"
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?")
_HIDDEN = re.compile(r"%(?![0-9A-Fa-f]{2})|%(2[EeFf5]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])")
_NO_OWNERS = frozenset({"api", "datasets", "spaces", "models", "docs", "blog", "papers", "v2"})


def checked_address(text: str) -> str:
    """An address of a file, its host in lower case.

    Args:
        text: of printable ASCII alone.

    Raises:
        InputError: it is not `https` (`http` on this machine), hides its host, or holds what nobody types.
    """
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{text!r} is not an address: {error}", hint=_PLAIN) from error
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        masked = text.replace(parts.netloc, f"…@{parts.netloc.rpartition('@')[2]}")  # a password
        raise _refused(masked, "has a user name before its host, which hides the host", _PLAIN)
    if not _is_host(host):
        raise _refused(text, f"has the host {host!r}, which is not one", _PLAIN)
    if parts.scheme == "http" and not is_here(host):
        raise _refused(text, "is not encrypted", "write https://; http:// is for this machine only")
    if (port is not None or parts.netloc.endswith(":")) and not is_here(host):
        raise _refused(text, "names a port", "serve the model on the usual port of https")
    if parts.fragment or "#" in text:
        raise _refused(text, "has a part behind '#'", "leave that part out")
    _check_path(parts.path, text)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.lower(), *parts[2:4], ""))


def is_here(host: str) -> bool:
    """Whether a host is this machine by its name or number alone; nothing is looked up."""
    return host == "localhost" or (is_number(host) and ipaddress.ip_address(host).is_loopback)


def is_number(host: str) -> bool:
    """Whether a host is given by its number."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_private(host: str) -> bool:
    """Whether a host is this machine or, by its number, one that only its neighbours can reach."""
    if not is_number(host):
        return host == "localhost"
    number = ipaddress.ip_address(host.partition("%")[0])
    mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
    return not (mapped or number).is_global


def host_of(address: str) -> str:
    """The host of an address, empty when it has none."""
    try:
        return urllib.parse.urlsplit(address).hostname or ""
    except ValueError:
        return ""


def origin_of(address: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what credentials belong to."""
    parts = urllib.parse.urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port


def redirect_problem(first: str, target: str) -> str | None:
    """Why a server's redirect is not followed; None when it may be.

    Hosts are judged by name and number alone; what a name resolves to is the caller's to look at.

    Args:
        first: the address that was asked for.
        target: where the server points to, whole.
    """
    try:
        parts = urllib.parse.urlsplit(target)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is not an address"
    if "@" in parts.netloc or not _is_host(host) or not target.isascii():
        return "hides its host"
    here = is_here(host_of(first))
    if parts.scheme != "https" and not (parts.scheme == "http" and here and is_here(host)):
        return "is not encrypted"
    if is_private(host) and not is_private(host_of(first)):
        return "leads into a private network"
    return None


def hub_page(address: str) -> str | None:
    """A page or file of Hugging Face as `hf:owner/repo@revision:file`; None for other addresses.

    Raises:
        InputError: it is there, but neither a repository of models nor a file in one.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.hostname not in HUB_HOSTS:
        return None
    names = parts.path.strip("/").split("/")
    if len(names) < 2 or names[0] in _NO_OWNERS:
        raise _refused(address, "is no repository of models", "write hf:owner/repo:Q4_K_M")
    repo, rest = "/".join(names[:2]), names[2:]
    if not rest:
        return f"hf:{repo}"
    kind, revision, file = rest[0], rest[1] if len(rest) > 1 else "", "/".join(rest[2:])
    if kind == "tree" and revision and not file:
        return f"hf:{repo}@{revision}"
    if kind in {"blob", "resolve", "raw"} and is_plain_path(file):
        return f"hf:{repo}@{revision}:{file}"
    raise _refused(address, "is no file of a repository", f"write hf:{repo}:Q4_K_M")


def _is_host(host: str) -> bool:
    if is_number(host):
        return True
    labels = host.split(".")
    if len(host) > 253 or not all(len(label) < 64 and _LABEL.fullmatch(label) for label in labels):
        return False
    # A last label of digits is read as a number by some clients: 0x7f.1, 2130706433.
    numeric = labels[-1][0].isdigit()
    return (host == "localhost" or len(labels) > 1) and not numeric


def _check_path(path: str, text: str) -> None:
    if "\\" in text or _HIDDEN.search(text):
        raise _refused(text, "hides dots, slashes or control characters in escapes", _PLAIN)
    parts = path.split("/")[1:]
    if any(part in {".", ".."} for part in parts) or "" in parts[:-1]:
        raise _refused(text, "has '..' or an empty part in its path", "write the path without them")
    if not parts or not is_plain_path(parts[-1]):
        raise _refused(text, "does not end in the plain name of a file", _PLAIN)


def _refused(text: str, what: str, hint: str) -> InputError:
    return InputError(f"the address {text!r} {what}", hint=hint)
