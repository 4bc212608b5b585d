"""The oracle is code too: what it says of a few records that can be counted by hand."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from confluent_kafka import Message
from support.oracle import Closed, Said, Total, expect
from support.price_list import PriceList
from support.remembered import remembered

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp())
MONTH = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
HOUR = int(NOON.timestamp())
OLD = NOON - timedelta(days=20)
OLD_DAY = DAY - 20 * 86_400


def record(offset: int, moment: datetime = NOON, **fields: Any) -> Message:
    """An event of a million input tokens."""
    event = {
        "event_id": f"event-{offset}",
        "timestamp": moment.isoformat(),
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 10**6,
        "output_tokens": 0,
        "cache_read_tokens": 0,
        **fields,
    }
    stored_at = (1, int(NOON.timestamp() * 1000))
    return Message(partition=0, offset=offset, value=json.dumps(event).encode(), timestamp=stored_at)


def price(offset: int, usd: str, *, valid_from: datetime = OLD, withdrawn: bool = False) -> Message:
    """What a million tokens of gpt-4o cost."""
    override = {
        "provider": "openai",
        "model": "gpt-4o",
        "valid_from": valid_from.isoformat(),
        "input_usd_per_mtok": usd,
        "output_usd_per_mtok": usd,
        "cache_read_usd_per_mtok": None,
        "usd_per_request": "0.5",
        "withdrawn": withdrawn,
    }
    return Message(partition=0, offset=offset, value=json.dumps(override).encode())


def changelog(offset: int, key: str, value: dict[str, Any]) -> Message:
    return Message(partition=0, offset=offset, key=key.encode(), value=json.dumps(value).encode())


def fence(offset: int, *, source: int, **clock: int) -> Message:
    opened = {"closed_days": 0, "closed_months": 0, "event_time": 0}
    return changelog(offset, "#fence", {"source": source, "priced": source, **opened, **clock})


def total(requests: int, usd: str) -> Total:
    return Total(requests, requests * 10**6, 0, Decimal(usd), 0)


def cost(prices: PriceList, known: int, moment: datetime = NOON) -> Decimal | None:
    return prices.cost(json.loads(record(0, moment).value() or b""), known)


def test_an_event_costs_what_the_own_prices_say_that_its_row_knew() -> None:
    later = NOON - timedelta(hours=1)
    prices = PriceList(
        [price(0, "7"), price(1, "9", valid_from=later), price(2, "9", valid_from=later, withdrawn=True)]
    )

    assert [cost(prices, known) for known in range(4)] == [
        Decimal("2.5"),
        Decimal("7.5"),
        Decimal("9.5"),
        Decimal("7.5"),
    ]
    assert cost(prices, 2, later - timedelta(seconds=1)) == Decimal("7.5")
    assert cost(prices, 3, OLD - timedelta(seconds=1)) == Decimal("2.5")
    assert prices.end == 3


def test_a_late_event_counts_in_all_totals_but_not_in_the_day_that_is_remembered() -> None:
    said = {(0, 1): Said(late=1)}

    expected = expect([record(0), record(1, OLD)], said=said)

    assert expected.problems == []
    assert expected.totals["model", "openai/gpt-4o", "day", OLD_DAY] == total(1, "2.5")
    state = expected.state({0: Closed(DAY, 0, 0)})
    assert state[0, "model", "openai/gpt-4o", "month", MONTH] == total(2, "5")
    assert {key[4] for key in state if key[3] == "day"} == {DAY}
    assert not expected.state({0: Closed(DAY, DAY, 0)}).keys() & {
        (0, "model", "openai/gpt-4o", "month", MONTH)
    }


def test_a_row_that_says_late_of_an_open_day_or_knew_prices_that_nobody_wrote_is_told() -> None:
    said = {(0, 0): Said(late=1), (0, 1): Said(prices=3)}

    problems = expect([record(0, OLD), record(1)], said=said).problems

    assert len(problems) == 2
    assert "(0, 0) says late=1, but its day was open" in problems[0]
    assert "(0, 1) knew prices below 3 of 0" in problems[1]


def test_what_is_closed_must_be_closed_by_an_event_and_soon() -> None:
    expected = expect([record(0), record(1)])
    newest, right = int(NOON.timestamp() * 1000), DAY - 7 * 86_400

    assert list(expected.check_closed({0: Closed(right, 0, newest)})) == []
    assert list(expected.check_closed({0: Closed(right + 86_400, 0, newest)}))
    assert list(expected.check_closed({0: Closed(right - 2 * 86_400, 0, newest)}))
    assert list(expected.check_closed({0: Closed(right, MONTH, newest)}))


def test_alerts_are_demanded_of_periods_that_nobody_can_have_closed() -> None:
    budget = {
        "budget_id": "b",
        "scope": "model",
        "scope_id": "openai/gpt-4o",
        "period": "day",
        "unit": "usd",
        "limit": "2",
        "thresholds": (100,),
    }
    expected = expect([record(0, OLD), record(1)])

    assert {alert.start for alert in expected.alerts([budget])} == {OLD_DAY, DAY}
    assert {alert.start for alert in expected.alerts([budget], open_at=HOUR)} == {DAY}


def test_of_the_changelog_the_highest_fence_counts_and_what_is_folded_or_closed_does_not() -> None:
    hour, old_hour = {str(HOUR): [1, 10**6, 0, "2500000000000", 0]}, {str(HOUR - 86_400): [9, 9, 9, "9", 9]}
    records = [
        changelog(0, "team:a|b|2026-11-24", {"fence": 7, "hours": hour}),
        changelog(1, "team:a|b|2026-11-24", {"fence": 6, "hours": {}}),
        changelog(2, "team:a|b|2026-11-23", {"fence": 5, "hours": old_hour}),
        changelog(
            3, "team:a|b|2026-11", {"fence": 7, "through": DAY - 86_400, "total": [1, 10**6, 0, "1", 0]}
        ),
        changelog(4, "team:a|b|2026-09", {"fence": 9, "through": DAY, "total": [9, 9, 9, "9", 9]}),
        fence(5, source=8, closed_days=DAY, closed_months=MONTH, event_time=1),
        fence(6, source=7),
    ]

    state = remembered(records)

    assert state.closed == {0: Closed(DAY, MONTH, 1)}
    assert state.totals == {
        (0, "team", "a|b", "hour", HOUR): total(1, "2.5"),
        (0, "team", "a|b", "day", DAY): total(1, "2.5"),
        (0, "team", "a|b", "month", MONTH): total(2, "2.500000000001"),
    }
