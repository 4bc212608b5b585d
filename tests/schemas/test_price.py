"""What a price override may say."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tokentide.schemas import PriceOverride


def override(**changes: Any) -> PriceOverride:
    fields = {
        "provider": "openai",
        "model": "gpt-4o",
        "valid_from": datetime(2026, 11, 1, tzinfo=UTC),
        "input_usd_per_mtok": "2",
        "output_usd_per_mtok": "8",
        **changes,
    }
    return PriceOverride(**fields)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_usd_per_mtok": "-1"}, "greater than or equal to 0"),
        ({"input_usd_per_mtok": "NaN"}, "finite number"),
        ({"output_usd_per_mtok": "0.0000001"}, "no more than 6 decimal places"),
        ({"cache_read_usd_per_mtok": "2e6"}, "less than or equal to 1000000"),
        ({"usd_per_request": "0.0000000000001"}, "no more than 12 decimal places"),
        ({"valid_from": datetime(2026, 11, 1)}, "timezone"),
        ({"valid_from": datetime(2200, 11, 1, tzinfo=UTC)}, "between the years 2010 and 2100"),
        ({"provider": ""}, "at least 1 character"),
        ({"model": "a\nb"}, "match pattern"),
        ({"withdrawn": 1}, "valid boolean"),
        ({"input_price": 3}, "Extra inputs are not permitted"),
        ({"schema_version": 2}, "Input should be 1"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        override(**changes)


def test_a_provider_is_named_as_the_events_name_it_and_time_is_utc() -> None:
    made = override(provider="Claude", valid_from=datetime.fromisoformat("2026-11-01T02:00:00+02:00"))

    assert made.key() == "anthropic/gpt-4o"
    assert made.valid_from == datetime(2026, 11, 1, tzinfo=UTC)


def test_money_survives_json_as_strings_of_digits() -> None:
    made = override(input_usd_per_mtok=Decimal("0.000001"), usd_per_request=Decimal("1e-12"))

    text = made.model_dump_json()

    assert '"input_usd_per_mtok":"0.000001"' in text
    assert '"usd_per_request":"0.000000000001"' in text
    assert PriceOverride.model_validate_json(text) == made
