"""Money: whole pico-USD (1e-12 $) inside, `Decimal` at the edges, never `float`."""

from decimal import ROUND_HALF_EVEN, Context, Decimal

__all__ = ["PICO_PER_USD", "format_usd", "pico_from_usd", "usd_from_pico"]

PICO_PER_USD = 10**12
_EXACT = Context(prec=60)


def usd_from_pico(pico: int) -> Decimal:
    """Return the amount in USD, exactly, with twelve decimal places."""
    return _EXACT.scaleb(Decimal(pico), -12)


def pico_from_usd(usd: Decimal) -> int:
    """Return the nearest whole pico-USD; a tie goes to the even number.

    Raises ValueError for NaN and infinities.
    """
    if not usd.is_finite():
        raise ValueError(f"an amount of money must be finite, not {usd}")
    return int(_EXACT.scaleb(usd, 12).to_integral_value(rounding=ROUND_HALF_EVEN))


def format_usd(pico: int) -> str:
    """Return the amount for people and JSON: all its digits, no trailing zeros beyond cents, no exponent."""
    text = f"{usd_from_pico(pico):f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
