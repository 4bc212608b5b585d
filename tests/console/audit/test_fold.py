"""What counts, and how much: the fold of the log as a function of its records."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.console.audit.fold import Fold
from tokentide.console.audit.identities import Identities, Identity, Place
from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.rules import AuditRules
from tokentide.console.audit.totals import Cell, Entity, Hour, Used, overall, roll_up
from tokentide.schemas import Period, Scope, SettingsError

NOW_MS = 1_762_164_000_000
"""2025-11-03 10:00 UTC."""
DAY_MS = 86_400_000
TODAY = NOW_MS // DAY_MS


def record(
    offset: int, event_id: str | None = "e", *, partition: int = 0, ms: int = NOW_MS, **fields: Any
) -> LogRecord:
    event = {
        "timestamp": "2025-11-03T10:00:00Z",
        "provider": "openai",
        "model": "gpt-4o",
        "user_id": "alice",
        "input_tokens": 1,
        **fields,
    }
    if event_id is not None:
        event["event_id"] = event_id
    return LogRecord(partition, offset, ms, None, json.dumps(event).encode())


def folded(records: Sequence[LogRecord], rules: AuditRules | None = None) -> Fold:
    with tempfile.TemporaryDirectory() as folder, Identities(Path(folder)) as identities:
        fold = Fold(identities, rules or AuditRules())
        fold.add_all(records)
        return fold


def test_one_event_counts_for_everybody_it_names() -> None:
    fold = folded([record(0, team_id="search", org_id="acme", operation="chat", output_tokens=2)])

    used = Used(1, 1, 2, 22_500_000, 0)
    names = {
        (Scope.USER, "alice"),
        (Scope.TEAM, "search"),
        (Scope.ORG, "acme"),
        (Scope.PROVIDER, "openai"),
        (Scope.MODEL, "openai/gpt-4o"),
        (Scope.OPERATION, "chat"),
    }
    assert dict(fold.hours) == {(0, Entity(*name), NOW_MS // 1000): used for name in names}


def test_the_first_record_of_an_id_counts_once_in_each_partition() -> None:
    fold = folded(
        [record(0, input_tokens=5), record(1, input_tokens=7), record(0, partition=1), record(2, "f")]
    )

    assert (fold.events, fold.duplicates) == (3, 1)
    assert overall(roll_up(fold.hours)).input_tokens == 5 + 1 + 1


def test_requests_are_what_the_event_says() -> None:
    fold = folded([record(0, "a", requests=3), record(1, "b", requests=4, model="gpt-99")])

    assert overall(roll_up(fold.hours)) == Used(7, 2, 0, 2_500_000, 4)
    assert fold.unpriced == {"openai/gpt-99": 1}


@pytest.mark.parametrize(
    "bad",
    [
        record(0, None),
        record(0, input_tokens=-1),
        record(0, timestamp="2025-11-03T10:00:00"),
        record(0)._replace(value=None),
        record(0)._replace(value=b""),
        record(0)._replace(value=b"\xff{}"),
        record(0)._replace(value=b"[]"),
        record(0, timestamp="2025-11-03T11:00:00.000001Z"),
        record(0, ms=-(2**62)),
    ],
)
def test_what_is_no_event_is_rejected(bad: LogRecord) -> None:
    fold = folded([bad])

    assert (fold.records, fold.rejected, fold.events) == (1, 1, 0)
    assert dict(fold.hours) == {}


@pytest.mark.parametrize("ms", [NOW_MS - 3_600_000, NOW_MS, 2**62])
def test_an_event_may_be_an_hour_ahead_of_its_record_and_any_time_behind(ms: int) -> None:
    assert folded([record(0, ms=ms)]).events == 1


def test_how_far_ahead_is_a_rule() -> None:
    late = record(0, ms=NOW_MS - 1)

    assert folded([late], AuditRules(max_future_seconds=0)).rejected == 1
    assert folded([late], AuditRules(max_future_seconds=1)).events == 1


@pytest.mark.parametrize(("days", "late"), [(7, []), (8, ["e"])])
def test_a_duplicate_that_comes_too_late_for_the_meter_is_named(days: int, late: list[str]) -> None:
    fold = folded([record(0), record(1, ms=NOW_MS + days * DAY_MS)])

    assert fold.late_duplicates == late
    assert fold.late_duplicate_count == len(late)
    assert (fold.events, fold.duplicates) == (1, 1)


def requests(hours: Iterable[tuple[Hour, Used]]) -> int:
    return overall(roll_up(hours)).requests


def test_a_duplicate_that_came_too_late_is_counted_once_more_by_the_meter_and_has_a_row_on_another_day() -> (
    None
):
    late = NOW_MS + 8 * DAY_MS
    fold = folded(
        [
            record(0),
            record(1, ms=late, requests=2),
            record(2, ms=late + 1, requests=4),
            record(3, ms=late + 8 * DAY_MS, requests=8, timestamp="2025-11-04T00:00:00Z"),
            record(4, ms=late + 16 * DAY_MS, requests=16, timestamp="2025-11-04T23:59:59Z"),
        ]
    )

    assert requests(fold.hours) == 1
    assert requests(fold.counted_hours()) == 1 + 2 + 8 + 16
    assert requests(fold.stored_hours()) == 1 + 8
    assert (fold.events, fold.duplicates, fold.late_duplicate_count, fold.more_row_count) == (1, 4, 3, 1)
    assert (fold.late_duplicate_pico_usd, fold.more_row_pico_usd) == (3 * 2_500_000, 2_500_000)


def test_what_the_meter_marked_as_late_stands_beside(identities: Identities) -> None:
    identities.add_late(
        [(Place(0, 0), 1), (Place(0, 1), 2), (Place(0, 1), 1), (Place(0, 3), 1), (Place(1, 2), 1)]
    )
    fold = Fold(identities, AuditRules(), now_ms=NOW_MS)

    # The last one repeats an id, and was counted all the same, or it would not be marked.
    fold.add_all(
        [record(0, "a"), record(1, "b", requests=2), record(2, "c", requests=4), record(3, "c", requests=8)]
    )

    assert [requests(fold.late[late]) for late in (1, 2)] == [1 + 8, 2]
    assert (requests(fold.hours), requests(fold.counted_hours())) == (7, 15)


def test_a_record_from_the_future_makes_no_id_look_old(identities: Identities) -> None:
    fold = Fold(identities, AuditRules(), now_ms=NOW_MS)

    fold.add_all([record(0), record(1, "f", ms=NOW_MS + 400 * DAY_MS), record(2)])

    assert (fold.duplicates, fold.late_duplicate_count) == (1, 0)


@given(
    repeats=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(0, 2), st.integers(1, 9)), max_size=25
    ),
    window=st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_what_is_counted_and_stored_is_what_a_slow_meter_counts_and_stores(
    repeats: list[tuple[str, int, int, int]], window: int
) -> None:
    records, today = [], 0
    remembered: dict[str, int] = {}
    first: dict[str, int] = {}
    stored: dict[tuple[str, int], int] = {}
    counted = 0
    for offset, (event_id, later, day_of_event, count) in enumerate(repeats):
        today += later
        moment = f"2025-11-0{day_of_event + 1}T10:00:00Z"
        records.append(record(offset, event_id, ms=NOW_MS + today * DAY_MS, timestamp=moment, requests=count))
        if event_id in remembered and today - remembered[event_id] <= window:
            continue
        remembered[event_id] = today
        counted += count
        first.setdefault(event_id, count)
        stored.setdefault((event_id, day_of_event), count)

    fold = folded(records, AuditRules(dedupe_days=window))

    assert requests(fold.hours) == sum(first.values())
    assert requests(fold.counted_hours()) == counted
    assert requests(fold.stored_hours()) == sum(stored.values())


def test_an_id_is_as_old_as_the_newest_record_before_it() -> None:
    fold = folded(
        [record(0, "new"), record(1, ms=NOW_MS - 30 * DAY_MS, timestamp="2025-10-01T00:00:00Z"), record(2)]
    )

    assert (fold.duplicates, fold.late_duplicate_count) == (1, 0)


def test_a_duplicate_of_an_event_that_retention_removed_is_a_duplicate(identities: Identities) -> None:
    fold = Fold(identities, AuditRules())

    taken = fold.add_base([(Identity("e", 0, 3), TODAY), (Identity("f", 0, 4), TODAY)])
    fold.add_all([record(5), record(6, "g")])

    assert (taken, fold.events, fold.duplicates, fold.late_duplicate_count) == (2, 1, 1, 0)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from("abcdefgh"),
        st.sampled_from(["alice", "bob", None, ""]),
        st.sampled_from(["gpt-4o", "gpt-99"]),
        st.integers(0, 10**9),
        st.integers(1, 10**6),
        st.sampled_from(["2025-10-31T23:59:59Z", "2025-11-01T00:00:00Z", "2025-11-03T10:59:59.999999Z"]),
    ),
    max_size=25,
)


@given(events=EVENTS, data=st.data())
@settings(max_examples=50, deadline=None)
def test_totals_do_not_depend_on_how_partitions_come_together(
    events: list[tuple[int, str, str | None, str, int, int, str]], data: st.DataObject
) -> None:
    logs: dict[int, list[LogRecord]] = {0: [], 1: [], 2: []}
    for partition, event_id, user, model, tokens, requests, at in events:
        fields: dict[str, Any] = {
            "user_id": user,
            "model": model,
            "input_tokens": tokens,
            "requests": requests,
            "timestamp": at,
        }
        logs[partition].append(record(len(logs[partition]), event_id, partition=partition, **fields))
    turns = data.draw(st.permutations([partition for partition, *_ in events]))
    readers = {partition: iter(log) for partition, log in logs.items()}

    in_order = folded([each for log in logs.values() for each in log])
    mixed = folded([next(readers[partition]) for partition in turns])

    assert dict(mixed.hours) == dict(in_order.hours)
    first = {
        (partition, event_id): (tokens, requests)
        for partition, event_id, _, _, tokens, requests, _ in reversed(events)
    }
    total = overall(roll_up(mixed.hours))
    assert (total.input_tokens, total.requests) == (
        sum(tokens for tokens, _ in first.values()),
        sum(requests for _, requests in first.values()),
    )


@given(events=EVENTS)
@settings(max_examples=50, deadline=None)
def test_hours_add_up_to_days_and_months(
    events: list[tuple[int, str, str | None, str, int, int, str]],
) -> None:
    records = [
        record(offset, f"{offset}", partition=partition, model=model, input_tokens=tokens, timestamp=at)
        for offset, (partition, _, _, model, tokens, _, at) in enumerate(events)
    ]

    totals = roll_up(folded(records).hours)

    for scope in (Scope.PROVIDER, Scope.MODEL, Scope.USER):
        by_period = [_sum(totals, scope, period) for period in Period]
        assert by_period == [by_period[0]] * 3


def _sum(totals: dict[Cell, Used], scope: Scope, period: Period) -> Used:
    found = Used()
    for cell, used in totals.items():
        if (cell.scope, cell.period) == (scope, period):
            found = found.plus(used)
    return found


def test_the_rules_are_those_of_the_meter() -> None:
    rules = AuditRules.from_env({"TOKENTIDE_MAX_FUTURE_SECONDS": "60", "TOKENTIDE_DEDUPE_DAYS": "2"})

    assert rules == AuditRules(60, 2)
    with pytest.raises(SettingsError, match="TOKENTIDE_DEDUPE_DAYS='0' must be at least 1"):
        AuditRules.from_env({"TOKENTIDE_DEDUPE_DAYS": "0"})
