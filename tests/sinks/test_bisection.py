"""Finding refused rows by halves: as a function of the rows, whatever is refused and in whatever order."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import ServiceUnavailableError, StorageRefusedError
from tokentide.sinks import RowRefusedError
from tokentide.sinks.bisection import store_in_parts


class Table:
    """Takes parts without poison, and remembers them with their tokens."""

    def __init__(self, poison: set[int]) -> None:
        self.poison = poison
        self.tried: list[tuple[str, list[int]]] = []
        self.stored: list[int] = []

    def insert(self, rows: pa.Table, token: str) -> None:
        numbers = [int(number) for number in rows.column("number").to_numpy()]
        self.tried.append((token, numbers))
        if found := self.poison & set(numbers):
            raise RowRefusedError("no", f"refused for {min(found)}")
        self.stored += numbers


def rows(count: int) -> pa.Table:
    return pa.table({"number": list(range(count))})


@settings(deadline=None)
@given(count=st.integers(1, 200), data=st.data())
def test_every_row_is_stored_once_or_refused_once_with_its_own_reason(
    count: int, data: st.DataObject
) -> None:
    poison = data.draw(st.sets(st.integers(0, count - 1), max_size=20))
    table = Table(poison)

    refused = store_in_parts(table.insert, rows(count), "t", most=20)

    assert refused == [(number, f"refused for {number}") for number in sorted(poison)]
    assert table.stored == [number for number in range(count) if number not in poison]


@settings(deadline=None)
@given(count=st.integers(1, 100), poison=st.sets(st.integers(0, 99), max_size=10))
def test_tried_again_the_same_parts_have_the_same_tokens_and_no_two_parts_share_one(
    count: int, poison: set[int]
) -> None:
    first, second = Table(poison), Table(poison)

    for table in (first, second):
        store_in_parts(table.insert, rows(count), "t", most=10)

    assert first.tried == second.tried
    tokens = [token for token, _ in first.tried]
    assert len(set(tokens)) == len(tokens)


def test_a_good_batch_is_one_insert_under_its_own_token() -> None:
    table = Table(set())

    assert store_in_parts(table.insert, rows(1000), "t") == []
    assert [token for token, _ in table.tried] == ["t"]


def test_one_poison_row_of_ten_thousand_costs_two_inserts_a_halving() -> None:
    table = Table({7_777})

    store_in_parts(table.insert, rows(10_000), "t")

    assert len(table.tried) <= 1 + 2 * 14


def test_a_table_that_refuses_too_many_rows_stops_the_sink_and_says_why() -> None:
    table = Table(set(range(1000)))

    with pytest.raises(
        StorageRefusedError, match=r"more than 3 rows of one batch .* take away the constraint"
    ):
        store_in_parts(table.insert, rows(1000), "t", most=3)


def test_another_failure_ends_the_search() -> None:
    def insert(part: pa.Table, token: str) -> None:
        if token != "t":
            raise ServiceUnavailableError("gone")
        raise RowRefusedError("no", "no")

    with pytest.raises(ServiceUnavailableError):
        store_in_parts(insert, rows(4), "t")
