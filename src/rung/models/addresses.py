"""Addresses that users type, variables hold or servers redirect to, read strictly: one look shows where they lead.

Fetching from them is `sources`'. A query may be a key that was lent for a while: it is sent and never shown.
"""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
from collections.abc import Iterator

from rung.errors import InputError
from rung.models.names import is_plain_path, masked

HUB = "https://huggingface.co"
HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})

_PLAIN = "write https://host/path/model.gguf"
_SHORT = re.compile(
    r"(https://)?(hf\.co|(www\.)?huggingface\.co)/(?P<owner>[^/:@?#]+)/(?P<rest>[^/:@?#]+(@[^:?#]+)?(:[^?#]+)?)"
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?")
_HIDDEN = re.compile(r"%(?![0-9A-Fa-f]{2})|%(2[EeFf5]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
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
    except ValueError:
        # Not its words, which repeat a part of what may be a password.
        raise InputError(f"{masked(text)!r} is not an address", hint=_PLAIN) from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise _refused(text, "has a user name before its host, which hides the host", _PLAIN)
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
    if isinstance(number, ipaddress.IPv4Address):
        return not number.is_global
    if number.ipv4_mapped is not None:
        return not number.ipv4_mapped.is_global
    return not number.is_global or not all(inner.is_global for inner in _carried(number))


def _carried(number: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The older numbers that a number leads to by a rule of translation (RFC 6052, 3056, 4380, 4291)."""
    if number in _NAT64 or number in _COMPATIBLE:
        yield ipaddress.IPv4Address(int(number) & 0xFFFF_FFFF)
    if number.sixtofour is not None:
        yield number.sixtofour
    if number.teredo is not None:
        yield from number.teredo


def without_query(address: str) -> str:
    """An address as it may be shown and kept: what follows a `?` opens it for those who have it."""
    return address.partition("?")[0]


def service(variable: str, usual: str) -> str:
    """The address of a service that a variable of the environment may replace, without a slash at its end.

    Raises:
        InputError: the variable holds no encrypted address; this machine's need not be.
    """
    address = os.environ.get(variable, "").rstrip("/") or usual
    host, shown = host_of(address), masked(address)
    authority, scheme = address.partition("//")[2], address.partition(":")[0]
    if not host or scheme not in {"https", "http"} or "@" in authority:
        raise InputError(f"{variable} is {shown!r}, which is no address", hint=f"such as {usual}")
    if scheme == "http" and not is_here(host):
        raise InputError(f"{variable} is {shown!r}, which is not encrypted", hint="use https://")
    return address


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


def hub_short(text: str) -> str | None:
    """`hf.co/owner/repo@revision:Q4_K_M`, as other programs write it, as `hf:…`; None for what is not of this form."""
    match = _SHORT.fullmatch(text)
    if match is None or match["owner"] in _NO_OWNERS:
        return None
    return f"hf:{match['owner']}/{match['rest']}"


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
    return InputError(f"the address {masked(text)!r} {what}", hint=hint)
