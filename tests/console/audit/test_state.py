"""Faust's totals, read from the changelog of their table."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.state import read_state
from tokentide.console.audit.totals import Entity, HourTotals, Used
from tokentide.schemas import DataLossError, Scope

DAY, HOUR = 1_762_128_000, 1_762_164_000
"""2025-11-03, and 10:00 on that day."""
KEY = "user:alice|2025-11-03"


def record(key: str, fence: int, hours: dict[int, list[int | str]], partition: int = 0) -> LogRecord:
    value = {"fence": fence, "hours": {str(start): numbers for start, numbers in hours.items()}}
    return LogRecord(partition, 0, 0, key.encode(), json.dumps(value).encode())


def test_hours_of_all_partitions_are_read() -> None:
    state = read_state(
        [
            record(KEY, 4, {HOUR: [1, 2, 3, "9" * 25, 0], HOUR + 3600: [1, 0, 0, "0", 1]}),
            record(KEY, 2, {HOUR: [5, 5, 5, "5", 0]}, partition=1),
            LogRecord(0, 0, 0, b"#fence", b'{"source":4,"priced":2}'),
        ]
    )

    alice = Entity(Scope.USER, "alice")
    assert dict(state.hours()) == {
        (0, alice, HOUR): Used(1, 2, 3, int("9" * 25), 0),
        (0, alice, HOUR + 3600): Used(1, 0, 0, 0, 1),
        (1, alice, HOUR): Used(5, 5, 5, 5, 0),
    }


@pytest.mark.parametrize(("name", "scope_id"), [("operation:a|b:c", "a|b:c"), ("model:p/m:1", "p/m:1")])
def test_names_may_hold_the_separators(name: str, scope_id: str) -> None:
    [(place, _)] = read_state([record(f"{name}|2025-11-03", 1, {HOUR: [1, 1, 1, "1", 0]})]).hours()

    assert place[1].scope_id == scope_id


VERSIONS = st.lists(
    st.tuples(st.sampled_from(["user:a", "user:b", "team:a"]), st.integers(0, 1), st.integers(0, 99)),
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
        (place[1].scope_id, place[1].scope, place[0]): used.requests
        for place, used in read_state(records).hours()
    }

    highest: dict[tuple[str, str, int], int] = {}
    for name, partition, fence in versions:
        scope, _, scope_id = name.partition(":")
        place = (scope_id, scope, partition)
        highest[place] = max(fence, highest.get(place, 0))
    assert found == highest


def test_a_day_that_was_deleted_is_not_expected() -> None:
    state = read_state([record(KEY, 1, {HOUR: [1, 1, 1, "1", 0]}), LogRecord(0, 1, 0, KEY.encode(), None)])
    alice, expected = Entity(Scope.USER, "alice"), HourTotals()
    for partition, hour in ((0, HOUR), (0, HOUR + 86_400), (1, HOUR)):
        expected.add(partition, alice, hour, Used(1))

    kept = {place for place, _ in state.remembered(expected)}

    assert dict(state.hours()) == {}
    assert kept == {(0, alice, HOUR + 86_400), (1, alice, HOUR)}


def test_a_day_that_is_written_again_is_expected_again() -> None:
    state = read_state([LogRecord(0, 0, 0, KEY.encode(), None), record(KEY, 1, {HOUR: [1, 1, 1, "1", 0]})])

    assert state.retired == set()
    assert len(dict(state.hours())) == 1


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
    ],
)
def test_a_record_that_no_meter_writes_stops_the_audit(key: str, value: bytes) -> None:
    with pytest.raises(DataLossError, match="no meter of this version writes"):
        read_state([LogRecord(0, 0, 0, key.encode(), value)])
