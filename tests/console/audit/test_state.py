"""The meter's totals of open periods, read from the changelog of its stage `spend`."""

import json
from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.state import State, read_state
from tokentide.console.audit.totals import Cell, Entity, HourTotals, Totals, Used
from tokentide.schemas import DataLossError, Period, Scope

MONTH, DAY, HOUR = 1_761_955_200, 1_762_128_000, 1_762_164_000
"""2025-11, 2025-11-03, and 10:00 on that day."""
KEY = "user:alice|2025-11-03"
ALICE = Entity(Scope.USER, "alice")


def record(key: str, fence: int, hours: dict[int, list[int | str]], partition: int = 0) -> LogRecord:
    value = {"fence": fence, "hours": {str(start): numbers for start, numbers in hours.items()}}
    return LogRecord(partition, 0, 0, key.encode(), json.dumps(value).encode())


def month(key: str, fence: int, through: int, requests: int, partition: int = 0) -> LogRecord:
    value = {"fence": fence, "through": through, "total": [requests, 0, 0, "0", 0]}
    return LogRecord(partition, 0, 0, key.encode(), json.dumps(value).encode())


def fence(source: int, days: int = 0, months: int = 0, partition: int = 0) -> LogRecord:
    value = {
        "source": source,
        "priced": source,
        "closed_days": days,
        "closed_months": months,
        "event_time": 1,
    }
    return LogRecord(partition, 0, 0, b"#fence", json.dumps(value).encode())


def requests(totals: Totals) -> dict[tuple[str, int], int]:
    """The requests by period and start, without those that are nothing."""
    return {(cell.period, cell.period_start): used.requests for cell, used in totals.items() if used.requests}


def hours_of(*hours: tuple[int, int, int]) -> HourTotals:
    """Totals of alice: partition, hour, requests."""
    totals = HourTotals()
    for partition, hour, count in hours:
        totals.add(partition, ALICE, hour, Used(count))
    return totals


def nothing_late() -> dict[int, HourTotals]:
    return {1: HourTotals(), 2: HourTotals()}


def test_hours_of_all_partitions_are_read() -> None:
    state = read_state(
        [
            record(KEY, 4, {HOUR: [1, 2, 3, "9" * 25, 0], HOUR + 3600: [1, 0, 0, "0", 1]}),
            record(KEY, 2, {HOUR: [5, 5, 5, "5", 0]}, partition=1),
            LogRecord(0, 0, 0, b"#fence", b'{"source":4,"priced":2}'),
        ]
    )

    both = Used(6, 7, 8, int("9" * 25) + 5, 0)
    all_day = Used(7, 7, 8, int("9" * 25) + 5, 1)
    assert state.totals() == {
        Cell(*ALICE, Period.HOUR, HOUR): both,
        Cell(*ALICE, Period.HOUR, HOUR + 3600): Used(1, 0, 0, 0, 1),
        Cell(*ALICE, Period.DAY, DAY): all_day,
        Cell(*ALICE, Period.MONTH, MONTH): all_day,
    }


@pytest.mark.parametrize(("name", "scope_id"), [("operation:a|b:c", "a|b:c"), ("model:p/m:1", "p/m:1")])
def test_names_may_hold_the_separators(name: str, scope_id: str) -> None:
    totals = read_state(
        [record(f"{name}|2025-11-03", 1, {HOUR: [1, 1, 1, "1", 0]}), month(f"{name}|2025-11", 1, -1, 4)]
    ).totals()

    assert {cell.scope_id for cell in totals} == {scope_id}
    assert requests(totals)["month", MONTH] == 5


VERSIONS = st.lists(
    st.tuples(st.sampled_from(["user:a", "user:b", "team:a"]), st.integers(0, 1), st.integers(1, 99)),
    unique=True,
    min_size=1,
    max_size=12,
)


@given(versions=VERSIONS, data=st.data())
@settings(max_examples=50, deadline=None)
def test_the_highest_fence_wins_in_any_order_and_with_repeats(
    versions: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    written = data.draw(
        st.permutations(versions + data.draw(st.lists(st.sampled_from(versions), max_size=6)))
    )
    records = [
        record(f"{name}|2025-11-03", fence, {HOUR: [fence, fence, 0, str(fence), 0]}, partition)
        for name, partition, fence in written
    ]

    found = {
        f"{cell.scope}:{cell.scope_id}": used.requests
        for cell, used in read_state(records).totals().items()
        if cell.period is Period.HOUR
    }

    highest: dict[tuple[str, int], int] = {}
    for name, partition, version in versions:
        highest[name, partition] = max(version, highest.get((name, partition), 0))
    sums: dict[str, int] = defaultdict(int)
    for (name, _), version in highest.items():
        sums[name] += version
    assert found == sums


def test_of_a_day_that_is_closed_only_the_month_is_known_and_expected() -> None:
    state = read_state(
        [
            record(KEY, 9, {HOUR: [3, 0, 0, "0", 0]}),
            LogRecord(0, 1, 0, KEY.encode(), None),
            month("user:alice|2025-11", 9, DAY, 3),
            record("user:alice|2025-11-05", 7, {HOUR + 2 * 86400: [4, 0, 0, "0", 0]}),
            fence(9, DAY + 86400),
            fence(8),
        ]
    )

    expected = state.expected(hours_of((0, HOUR, 3), (0, HOUR + 2 * 86400, 4)), nothing_late())

    assert requests(state.totals()) == {
        ("month", MONTH): 7,
        ("day", DAY + 2 * 86400): 4,
        ("hour", HOUR + 2 * 86400): 4,
    }
    assert (requests(expected.totals), expected.closed) == (requests(state.totals()), 1)


def test_a_day_that_is_closed_and_not_folded_yet_counts_in_its_month() -> None:
    state = read_state([record(KEY, 9, {HOUR: [3, 0, 0, "0", 0]}), fence(9, DAY + 86400)])

    assert requests(state.totals()) == {("month", MONTH): 3}


@pytest.mark.parametrize("through", [DAY, DAY + 86400])
def test_a_day_that_somebody_wrote_after_it_was_folded_is_ignored(through: int) -> None:
    state = read_state(
        [
            month("user:alice|2025-11", 9, through, 3),
            record(KEY, 9, {HOUR: [3, 0, 0, "0", 0]}),
            month("user:alice|2025-11", 9, DAY - 86400, 1),
            fence(9, DAY + 86400),
        ]
    )

    assert requests(state.totals()) == {("month", MONTH): 3}


def test_nothing_is_known_and_expected_of_a_closed_month() -> None:
    state = read_state(
        [month("user:alice|2025-11", 9, DAY, 3), fence(9, DAY + 80 * 86400, MONTH + 30 * 86400)]
    )

    expected = state.expected(hours_of((0, HOUR, 3)), nothing_late())

    assert requests(state.totals()) == requests(expected.totals) == {}
    assert expected.closed == 2


def test_a_period_is_closed_for_one_partition_and_open_for_another() -> None:
    state = read_state(
        [
            record(KEY, 5, {HOUR: [5, 0, 0, "0", 0]}, partition=1),
            month("user:alice|2025-11", 9, DAY, 3),
            fence(9, DAY + 86400),
        ]
    )

    expected = state.expected(hours_of((0, HOUR, 3), (1, HOUR, 5)), nothing_late())

    assert requests(expected.totals) == requests(state.totals())
    assert requests(state.totals()) == {("hour", HOUR): 5, ("day", DAY): 5, ("month", MONTH): 8}


@pytest.mark.parametrize(("late", "in_month"), [(1, 7), (2, 3)])
def test_a_late_event_counts_in_its_month_only_or_in_nothing(late: int, in_month: int) -> None:
    counted = hours_of((0, HOUR, 7))

    expected = State().expected(counted, {**nothing_late(), late: hours_of((0, HOUR, 4))})

    assert requests(expected.totals) == {("hour", HOUR): 3, ("day", DAY): 3, ("month", MONTH): in_month}


def _start_of_month(second: int) -> int:
    return int(datetime.fromtimestamp(second, UTC).replace(day=1, hour=0, minute=0, second=0).timestamp())


def _name(second: int, form: str) -> str:
    return datetime.fromtimestamp(second, UTC).strftime(form)


# Event by event: partition, hours since the start of October, requests.
EVENTS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 24 * 70), st.integers(1, 1000)), min_size=1, max_size=40
)


@given(events=EVENTS, day_grace=st.integers(0, 10), more=st.integers(0, 40), data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_state_of_a_slow_meter_is_what_is_expected_of_the_log(
    events: list[tuple[int, int, int]], day_grace: int, more: int, data: st.DataObject
) -> None:
    """A meter without any wit: it recounts everything for every event, and keeps all records it ever wrote."""
    october = MONTH - 31 * 86400
    written: list[LogRecord] = []
    counted, late = HourTotals(), nothing_late()
    newest, closed_days, closed_months = [0, 0], [0, 0], [0, 0]
    plain: list[dict[int, int]] = [defaultdict(int), defaultdict(int)]
    rest: list[dict[int, int]] = [defaultdict(int), defaultdict(int)]
    through: list[dict[int, int]] = [defaultdict(lambda: -1), defaultdict(lambda: -1)]
    for offset, (partition, hours, count) in enumerate(events):
        hour = october + 3600 * hours
        day = hour - hour % 86400
        first = _start_of_month(hour)
        counted.add(partition, ALICE, hour, Used(count))
        if day < closed_days[partition]:
            lateness = 2 if first < closed_months[partition] else 1
            late[lateness].add(partition, ALICE, hour, Used(count))
            if lateness == 1:
                rest[partition][first] += count
        else:
            plain[partition][hour] += count
            of_day: dict[int, list[int | str]] = {
                each: [total, 0, 0, "0", 0]
                for each, total in plain[partition].items()
                if each - each % 86400 == day
            }
            written.append(record(f"user:alice|{_name(day, '%Y-%m-%d')}", offset, of_day, partition))
        newest[partition] = max(newest[partition], hour)
        limit = newest[partition] - day_grace * 86400
        closed_days[partition] = max(closed_days[partition], limit - limit % 86400)
        closed_months[partition] = max(
            closed_months[partition], _start_of_month(newest[partition] - (day_grace + more) * 86400)
        )
        folds = data.draw(st.booleans())
        for each in sorted(plain[partition]):
            start, its_month = each - each % 86400, _start_of_month(each)
            if folds and start < closed_days[partition]:
                rest[partition][its_month] += plain[partition].pop(each)
                through[partition][its_month] = max(through[partition][its_month], start)
        for start, total in rest[partition].items():
            name = f"user:alice|{_name(start, '%Y-%m')}"
            written.append(month(name, offset, through[partition][start], total, partition))
        written.append(fence(offset, closed_days[partition], closed_months[partition], partition))

    state = read_state(data.draw(st.permutations(written)))

    expected = state.expected(counted, late)
    assert requests(state.totals()) == requests(expected.totals)
    by_hand: dict[tuple[str, int], int] = defaultdict(int)
    for partition, hours_left in enumerate(plain):
        for hour, total in hours_left.items():
            day, first = hour - hour % 86400, _start_of_month(hour)
            if day >= closed_days[partition]:
                by_hand["hour", hour] += total
                by_hand["day", day] += total
            if first >= closed_months[partition]:
                by_hand["month", first] += total
        for first, total in rest[partition].items():
            if first >= closed_months[partition]:
                by_hand["month", first] += total
    assert requests(expected.totals) == by_hand


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("user:alice", b'{"fence":1,"hours":{}}'),
        ("galaxy:alice|2025-11-03", b'{"fence":1,"hours":{}}'),
        ("user:alice|yesterday", b'{"fence":1,"hours":{}}'),
        (KEY, b"\x80\x04"),
        (KEY, b"[]"),
        (KEY, b'{"hours":{}}'),
        (KEY, b'{"fence":1,"hours":[1]}'),
        (KEY, b'{"fence":1,"hours":{"1762164000":[1,2,3]}}'),
        (KEY, b'{"fence":1,"hours":{"ten":[1,2,3,"4",5]}}'),
        ("user:alice|2025-11", b'{"fence":1,"total":[1,2,3,"4",5]}'),
        ("user:alice|2025-11", b'{"fence":1,"hours":{}}'),
        ("#fence", b'{"source":1}'),
    ],
)
def test_a_record_that_no_meter_writes_stops_the_audit(key: str, value: bytes) -> None:
    with pytest.raises(DataLossError, match="no meter of this version writes"):
        read_state([LogRecord(0, 0, 0, key.encode(), value)])
