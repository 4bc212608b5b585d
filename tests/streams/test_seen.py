"""Ids are remembered for a window of days, whatever the clocks of producers say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.streams.seen import SeenIds

DAY = 86_400_000
START = 20_000 * DAY


def test_the_first_offset_of_an_id_stays_its_offset() -> None:
    seen = SeenIds(7)

    assert seen.first_offset("a", 5, START) == 5
    assert seen.first_offset("a", 9, START) == 5
    assert seen.first_offset("a", 5, START + DAY) == 5
    assert seen.first_offset("b", 10, START) == 10


@pytest.mark.parametrize(
    ("later", "first"),
    [
        (7 * DAY + DAY - 1, 1),  # the last millisecond of the window
        (8 * DAY, 2),
        (400 * DAY, 2),
    ],
)
def test_an_id_is_forgotten_when_its_day_leaves_the_window(later: int, first: int) -> None:
    seen = SeenIds(7)
    seen.first_offset("a", 1, START)

    assert seen.first_offset("a", 2, START + later) == first


def test_an_id_of_the_end_of_a_day_is_known_for_the_whole_window() -> None:
    seen = SeenIds(1)
    seen.first_offset("a", 1, START + DAY - 1)

    assert seen.first_offset("a", 2, START + DAY - 1 + DAY) == 1


def test_a_duplicate_does_not_keep_its_id_alive() -> None:
    seen = SeenIds(1)
    seen.first_offset("a", 1, START)
    seen.first_offset("a", 2, START + DAY)

    assert seen.first_offset("a", 3, START + 2 * DAY) == 3


@pytest.mark.parametrize("back", [1, DAY, 30 * DAY, START])
def test_an_id_from_a_clock_that_went_back_is_remembered_all_the_same(back: int) -> None:
    seen = SeenIds(7)
    seen.first_offset("new", 1, START)

    assert seen.first_offset("old", 2, START - back) == 2
    assert seen.first_offset("old", 3, START - back) == 2
    assert seen.first_offset("old", 4, START + 7 * DAY) == 2


def test_memory_holds_no_more_than_the_window() -> None:
    seen = SeenIds(3)
    for number in range(100):
        seen.first_offset(f"id-{number}", number, START + number * DAY)

    assert len(seen) == 4


def test_ids_of_rows_priced_earlier_are_known() -> None:
    seen = SeenIds(7)
    seen.remember([("a", 3), ("b", 4)], START)

    assert seen.first_offset("a", 9, START + DAY) == 3
    assert seen.first_offset("b", 4, START) == 4
    assert len(seen) == 2


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-2 * DAY, 12 * DAY)), max_size=60),
    st.integers(1, 4),
)
def test_an_id_is_never_forgotten_inside_the_window(records: list[tuple[str, int]], window: int) -> None:
    seen = SeenIds(window)
    firsts: dict[str, tuple[int, int]] = {}
    newest = 0
    for offset, (name, moment) in enumerate(records):
        newest = max(newest, START + moment)
        first = seen.first_offset(name, offset, START + moment)
        known = firsts.get(name)
        if known is not None and newest - known[1] < window * DAY:
            assert first == known[0]
        if first == offset:
            firsts[name] = (offset, newest)
