"""How a score is printed: in percent, a difference in points, and ties as a reader rounds them. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

EXACT_DIGITS = 10
"""After the point, of a number in percent: what binary arithmetic adds to a score stands further behind."""


def show_percent(fraction: float, digits: int = 1, sign: bool = False) -> str:
    """Return a fraction in percent, or a difference of two in points: see `show_points`."""
    return show_points(100 * fraction, digits, sign)


def show_points(points: float, digits: int = 1, sign: bool = False) -> str:
    """Return a number with so many digits after the point, with its `+` too if `sign`; 0 has no sign.

    A tie goes away from 0: 81.25 is 81.3, where Python's own formats go to the even digit (81.2).
    """
    exact = Decimal(repr(round(float(points), EXACT_DIGITS)))
    rounded = exact.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    return f"{rounded:{'+' * (sign and rounded != 0)}z}"
