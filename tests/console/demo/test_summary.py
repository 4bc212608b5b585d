"""What a demo says at its end."""

import io
import json
from dataclasses import replace
from decimal import Decimal

import pytest
from rich.console import Console
from support.command_lines import command_lines, problem_with

from tokentide.console.audit import AuditReport, Difference, Source
from tokentide.console.audit.totals import Used
from tokentide.console.demo import Answers, DemoResult, Spend, print_summary, to_json, try_next
from tokentide.schemas import Budget, Period, Scope, Unit

USED = Used(
    requests=12, input_tokens=3400, output_tokens=560, cost_pico_usd=1_234_500_000_000, unpriced_requests=1
)
ALERT = {
    "alert_id": "a1",
    "kind": "threshold",
    "level": "warning",
    "scope": "team",
    "scope_id": "search",
    "period": "month",
    "period_start": "2025-03-01T00:00:00+00:00",
    "budget_id": "demo-team-month",
    "threshold_pct": 90,
    "unit": "usd",
    "budget_limit": "1.30",
    "used": "1.2345",
    "requests": None,
    "message": "...",
}
UNPRICED = {
    **ALERT,
    "kind": "unpriced_model",
    "scope": "model",
    "scope_id": "openai/nobody-knows-it",
    **dict.fromkeys(("budget_id", "threshold_pct", "unit", "budget_limit", "used")),
}


@pytest.fixture
def result() -> DemoResult:
    total = Spend(12, 3400, 560, Decimal("1.234500000000"))
    users = {f"user-{number:02d}": total for number in range(15)}
    return DemoResult(
        budgets=(
            Budget(budget_id="demo-team-month", scope=Scope.TEAM, scope_id="search", limit=Decimal("1.30")),
            Budget(
                budget_id="demo-user-day",
                scope=Scope.USER,
                scope_id="user-00",
                period=Period.DAY,
                unit=Unit.TOKENS,
                limit=Decimal(3200),
            ),
        ),
        answers=Answers(12, 1, total, {"search": total}, users, {"openai/gpt-4o": total}, (ALERT, UNPRICED)),
        audit=AuditReport(
            equal=True,
            records=14,
            events=12,
            base_events=0,
            duplicates=2,
            rejected=0,
            unpriced={"openai/nobody-knows-it": 1},
            totals=dict.fromkeys(Source, USED),
            cells=9,
            difference_count=0,
            differences=(),
            suspects=(),
            cross_partition_ids=(),
            cross_partition_count=0,
            late_duplicates=(),
            late_duplicate_pico_usd=0,
            late_row_count=0,
            late_row_pico_usd=0,
            differing=(),
            corrections=(),
            adjusted_version=0,
            late_duplicate_count=0,
            refused_rows=0,
            truncated=(),
            retired=0,
            has_grown=False,
            behind={},
            seconds=1.5,
        ),
        seconds=17.04,
        events_per_second=4321.56,
    )


def printed(result: DemoResult) -> str:
    output = io.StringIO()
    print_summary(result, Console(file=output, width=120))
    return output.getvalue()


def test_people_see_spend_budgets_alerts_and_the_verdict(result: DemoResult) -> None:
    text = printed(result)

    for words in (
        "Spend by team",
        "│ search │       12 │        3,400 │           560 │   1.2345 │",
        "Spend by user, top 10",
        "user-09",
        "openai/gpt-4o",
        "Budgets were set to 80 % of what the trace uses",
        "demo-team-month: team search, $1.30 a month",
        "demo-user-day: user user-00, 3,200 tokens a day",
        "│ warning │ threshold 90 %",
        "1.2345 usd │ 1.30 usd │",
        "Equal to the token and the pico-dollar: Kafka = Faust state = ClickHouse raw = ClickHouse aggregates.",
        "12 events, 3,400 input and 560 output tokens, $1.2345; 17 s with starting and auditing, 4,322 events/s",
    ):
        assert words in text
    assert "user-10" not in text


def test_people_see_what_differs(result: DemoResult) -> None:
    difference = Difference(Source.RAW, "user", "mallory", "month", 1740787200, "requests", 7, 8)
    unequal = replace(
        result.audit, equal=False, difference_count=1, differences=(difference,), suspects=(Source.RAW,)
    )

    text = printed(replace(result, audit=unequal))

    assert "NOT EQUAL" in text
    assert "mallory" in text


def test_scripts_see_one_object_with_money_as_strings(result: DemoResult) -> None:
    content = json.loads(to_json(result), parse_float=Decimal)

    spend = {"requests": 12, "input_tokens": 3400, "output_tokens": 560, "cost_usd": "1.2345"}
    audit = content.pop("audit")
    assert content == {
        "events": 12,
        "duplicates": 2,
        "rejected": 0,
        "unpriced": 1,
        "input_tokens": 3400,
        "output_tokens": 560,
        "cost_usd": "1.2345",
        "by_model": {"openai/gpt-4o": spend},
        "by_team": {"search": spend},
        "alerts": [ALERT, UNPRICED],
        "seconds": Decimal("17.0"),
        "events_per_second": Decimal("4321.6"),
    }
    assert audit["equal"] is True
    assert audit["totals"]["Kafka log"]["cost_pico_usd"] == "1234500000000"


@pytest.mark.parametrize("is_kept", [True, False])
def test_every_command_to_try_next_exists(is_kept: bool) -> None:
    lines = try_next("127.0.0.1:19092", "http://127.0.0.1:18123", is_kept=is_kept)

    commands = [line for each in lines for line in command_lines(each.replace("   ", " # "))]

    assert len(commands) == 3
    assert [problem_with(line) for line in commands] == [None] * 3
