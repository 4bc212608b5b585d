"""The budgets of the demo: each is crossed by its trace at 75, 90 and 100 %."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.traces import REAL_TRACE, WITHOUT_IT

from tokentide.console.audit.price import price_event
from tokentide.console.demo import survey
from tokentide.console.trace import TraceOptions, generate_trace, read_trace
from tokentide.schemas import Budget, Period, Scope, Unit, UsageEvent, period_start


def event(day: int = 1, **fields: object) -> UsageEvent:
    return UsageEvent.model_validate(
        {
            "timestamp": datetime(2025, 3, day, 12, tzinfo=UTC),
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": 1000,
            **fields,
        }
    )


def most_used(budget: Budget, events: list[UsageEvent]) -> int:
    """What the budget's entity uses in its fullest period, by the arithmetic of the audit."""
    used: dict[int, int] = {}
    for each in events:
        names = {
            Scope.TEAM: each.team_id,
            Scope.USER: each.user_id,
            Scope.MODEL: f"{each.provider}/{each.model}",
        }
        if names[budget.scope] == budget.scope_id:
            start = period_start(budget.period, int(each.timestamp.timestamp()))
            cost = price_event(each).cost_pico_usd or 0
            used[start] = used.get(start, 0) + (each.total_tokens if budget.unit is Unit.TOKENS else cost)
    return max(used.values())


def assert_all_thresholds_are_crossed(budgets: tuple[Budget, ...], events: list[UsageEvent]) -> None:
    for budget in budgets:
        assert budget.thresholds == (75, 90, 100)
        assert most_used(budget, events) >= budget.limit_units()


@pytest.mark.parametrize("name", ["recorded", "generated"])
def test_a_trace_crosses_a_month_and_a_day_of_two_teams_and_a_day_of_a_user(
    name: str, tmp_path: Path
) -> None:
    path = REAL_TRACE
    if name == "generated":
        path = tmp_path / "t.csv"
        generate_trace(path, rows=2_000)
    elif not path.exists():
        pytest.skip(WITHOUT_IT)
    events = list(read_trace(path, TraceOptions()))[:2_000]

    found = survey(events)

    assert found.events == 2_000
    assert [(budget.scope, budget.period, budget.unit) for budget in found.budgets] == [
        (Scope.TEAM, Period.MONTH, Unit.USD),
        (Scope.TEAM, Period.DAY, Unit.TOKENS),
        (Scope.USER, Period.DAY, Unit.USD),
    ]
    assert len({(budget.scope, budget.scope_id) for budget in found.budgets}) == 3
    assert_all_thresholds_are_crossed(found.budgets, events)


def test_a_limit_is_80_percent_of_the_use_with_two_digits(tmp_path: Path) -> None:
    events = [event(team_id="small", input_tokens=10), event(team_id="large", input_tokens=123_456)]

    month, day, _ = survey(events).budgets

    # 123,456 input tokens of gpt-4o at $2.50 a million are $0.30864; 80 % of that is $0.246912.
    assert (month.scope_id, month.limit) == ("large", Decimal("0.24"))
    assert (day.scope_id, day.limit) == ("small", Decimal(8))


def test_the_fullest_day_counts() -> None:
    events = [
        event(day=day, user_id="ada", input_tokens=tokens) for day, tokens in [(1, 400_000), (2, 1_000_000)]
    ]

    budget = survey(events).budgets[-1]

    assert (budget.budget_id, budget.scope_id, budget.limit) == ("demo-user-day", "ada", Decimal("2.00"))


def test_without_teams_and_users_models_are_limited() -> None:
    events = [event(), event(model="gpt-4o-mini")]

    budgets = survey(events).budgets

    assert [(budget.scope, budget.scope_id) for budget in budgets] == [
        (Scope.MODEL, "openai/gpt-4o"),
        (Scope.MODEL, "openai/gpt-4o-mini"),
        (Scope.MODEL, "openai/gpt-4o"),
    ]
    assert_all_thresholds_are_crossed(budgets, events)


def test_without_a_price_tokens_are_limited() -> None:
    events = [event(model="nobody-knows-it", team_id="search", user_id="ada")]

    budgets = survey(events).budgets

    assert {(budget.unit, budget.limit) for budget in budgets} == {(Unit.TOKENS, Decimal(800))}


def test_without_use_there_is_no_budget() -> None:
    assert survey([event(input_tokens=0, model="nobody-knows-it", team_id="search")]).budgets == ()
    assert survey([]).events == 0


@given(
    st.lists(
        st.builds(
            event,
            day=st.integers(1, 3),
            team_id=st.sampled_from([None, "a", "b"]),
            user_id=st.sampled_from([None, "ada", "bob"]),
            input_tokens=st.integers(0, 10**9),
            output_tokens=st.integers(0, 1000),
            model=st.sampled_from(["gpt-4o", "nobody-knows-it"]),
        ),
        max_size=8,
    )
)
def test_whatever_the_trace_every_budget_is_crossed(events: list[UsageEvent]) -> None:
    assert_all_thresholds_are_crossed(survey(events).budgets, events)
