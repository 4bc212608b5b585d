"""Money is exact both ways, for any amount."""

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.schemas import PICO_PER_USD, format_usd, pico_from_usd, usd_from_pico

amounts = st.decimals(-(10**25), 10**25, allow_nan=False, allow_infinity=False, places=20)


@given(st.integers(-(10**40), 10**40))
def test_pico_to_usd_and_back_changes_nothing(pico: int) -> None:
    usd = usd_from_pico(pico)

    assert Fraction(usd) == Fraction(pico, PICO_PER_USD)
    assert pico_from_usd(usd) == pico


@given(amounts)
def test_usd_become_the_nearest_whole_pico_and_a_tie_the_even_one(usd: Decimal) -> None:
    assert pico_from_usd(usd) == round(Fraction(usd) * PICO_PER_USD)


@pytest.mark.parametrize(
    ("usd", "pico"),
    [
        ("0.0000000000005", 0),
        ("0.0000000000015", 2),
        ("0.0000000000025", 2),
        ("-0.0000000000005", 0),
        ("-0.0000000000015", -2),
        ("0.00000000000050000000000000000001", 1),
        ("1E+12", 10**24),
        ("-0", 0),
        ("0E-40", 0),
    ],
)
def test_halves_go_to_the_even_pico(usd: str, pico: int) -> None:
    assert pico_from_usd(Decimal(usd)) == pico


@pytest.mark.parametrize("usd", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_an_amount_that_is_no_number_is_refused(usd: str) -> None:
    with pytest.raises(ValueError, match="an amount of money must be finite"):
        pico_from_usd(Decimal(usd))


@given(st.integers(-(10**40), 10**40))
def test_the_callers_decimal_context_changes_nothing(pico: int) -> None:
    with localcontext() as context:
        context.prec = 1
        usd = usd_from_pico(pico)
        assert pico_from_usd(usd) == pico

    assert usd == usd_from_pico(pico)


@given(st.integers(-(10**40), 10**40))
def test_a_written_amount_has_all_its_digits(pico: int) -> None:
    text = format_usd(pico)

    assert pico_from_usd(Decimal(text)) == pico
    assert "E" not in text
    assert len(text.partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (0, "0.00"),
        (1, "0.000000000001"),
        (-1, "-0.000000000001"),
        (10**12, "1.00"),
        (1_500_000_000_000, "1.50"),
        (123_456_000_000_000, "123.456"),
        (10**24, "1000000000000.00"),
    ],
)
def test_amounts_are_written_for_people(pico: int, text: str) -> None:
    assert format_usd(pico) == text
