"""What a budget may say."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tokentide.schemas import Budget, Period, Scope, Unit


def budget(**changes: Any) -> Budget:
    return Budget(**{"budget_id": "b", "scope": "team", "scope_id": "t", "limit": "10", **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limit": "-1"}, "greater than 0"),
        ({"limit": "0"}, "greater than 0"),
        ({"limit": "NaN"}, "finite number"),
        ({"limit": "Infinity"}, "finite number"),
        ({"limit": "0.0000000000001"}, "decimal places"),
        ({"limit": "1e16"}, "no more than 16 digits"),
        ({"limit": "2e15"}, "less than or equal"),
        ({"limit": "ten"}, "valid decimal"),
        ({"unit": "tokens", "limit": "1.5"}, "whole number"),
        ({"period": "hour"}, "period must be day or month"),
        ({"period": "week"}, "'hour', 'day' or 'month'"),
        ({"scope": "planet"}, "Input should be 'user'"),
        ({"scope_id": ""}, "at least 1 character"),
        ({"budget_id": "a\nb"}, "match pattern"),
        ({"thresholds": ()}, "at least 1 item"),
        ({"thresholds": (0,)}, "greater than or equal to 1"),
        ({"limits": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        budget(**changes)


def test_a_limit_in_dollars_is_whole_pico_dollars() -> None:
    assert budget(limit="0.000000000001").limit_units() == 1
    assert budget(limit="1e15").limit_units() == 10**27


def test_a_limit_in_tokens_is_whole_tokens() -> None:
    assert budget(unit=Unit.TOKENS, limit="1e6").limit_units() == 1_000_000


def test_a_budget_is_for_a_month_and_warns_three_times_unless_told() -> None:
    made = budget()

    assert (made.period, made.unit, made.thresholds) == (Period.MONTH, Unit.USD, (75, 90, 100))
    assert made.limit == Decimal(10)


@pytest.mark.parametrize(
    ("scope", "given", "kept"),
    [
        (Scope.PROVIDER, "Claude", "anthropic"),
        (Scope.PROVIDER, "acme", "acme"),
        (Scope.MODEL, "xai/grok-4", "x-ai/grok-4"),
        (Scope.MODEL, "openrouter/xai/grok-4", "openrouter/xai/grok-4"),
        (Scope.MODEL, "grok", "x-ai"),
        (Scope.USER, "claude", "claude"),
        (Scope.TEAM, "xai/grok", "xai/grok"),
    ],
)
def test_a_provider_is_named_as_the_totals_name_it(scope: Scope, given: str, kept: str) -> None:
    assert budget(scope=scope, scope_id=given).scope_id == kept
