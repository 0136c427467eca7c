"""Quantities as people read them: counts, shares and money, written the same in a terminal and on a page."""

from __future__ import annotations

from rung.receipt import NANO

SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage without idle zeros: `5 %`, `88.1 %`."""
    return f"{percent_number(share, digits)} %"


def percent_number(share: float, digits: int = 1) -> str:
    """A percentage without its sign, for use before a shared one: `88.1`."""
    text = f"{share * 100:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted(number: int, noun: str = "row") -> str:
    """A count with what is counted: `1 row`, `3,080 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def amount(nano: int, currency: str) -> str:
    """An amount of nano-units with two digits that count: `$0.00`, `$0.31`, `$0.00094`."""
    value = abs(nano) / NANO
    digits = 2
    while 0 < value < 10 ** -(digits - 1) and digits < 9:
        digits += 1
    sign = SIGNS.get(currency)
    minus = "−" if nano < 0 else ""
    return f"{minus}{sign}{value:,.{digits}f}" if sign else f"{minus}{value:,.{digits}f} {currency}"
