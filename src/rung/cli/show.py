"""Numbers as people read them: money, shares, counts."""

from __future__ import annotations

from rung.receipt import NANO

SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def amount(nano: int, currency: str) -> str:
    """An amount with two digits that count: `$0.00`, `$0.31`, `$0.00094`."""
    value = nano / NANO
    digits = 2
    while 0 < value < 10 ** -(digits - 1) and digits < 9:
        digits += 1
    sign = SIGNS.get(currency)
    return f"{sign}{value:,.{digits}f}" if sign else f"{value:,.{digits}f} {currency}"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage without idle zeros: `5 %`, `88.1 %`."""
    text = f"{share * 100:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"
