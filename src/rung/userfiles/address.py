"""Addresses of servers: whether one is well formed, and whether it can leave this machine. Nothing is connected."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from rung.userfiles.document import shown_value


def address_problem(url: str) -> str | None:
    """What is wrong with the form of a server's address; never shows a password in it."""
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError:
        return f'must be an address such as "http://127.0.0.1:11434/v1", not {shown_value(url)}'
    if address.username is not None or address.password is not None:
        return (
            "holds a user name or password; name an environment variable with api_key_env instead"
        )
    if (
        address.scheme not in ("http", "https")
        or not address.hostname
        or port == 0
        or any(character.isspace() for character in url)
    ):
        return f'must be an address such as "http://127.0.0.1:11434/v1", not {shown_value(url)}'
    if address.query or address.fragment:
        return "must end with the path; remove what follows '?' or '#'"
    return None


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
