"""Ids are remembered for a window of days, whatever the clocks of producers say, in memory and on disk."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.streams.seen import SeenIds
from tokentide.streams.seen_store import Mark, SeenStore

DAY = 86_400_000
START = 20_000 * DAY


class Memory:
    """Takes one record at a time; with a folder, everything goes to the disk at once."""

    def __init__(self, window: int, folder: Path | None) -> None:
        self.seen = SeenIds(window, SeenStore(folder) if folder is not None else None, spilled_ids=1)

    def first_offset(self, event_id: str, offset: int, timestamp: int) -> int:
        (first,) = self.seen.first_offsets([event_id], [offset], [timestamp])
        if self.seen.set_aside(Mark(offset, offset + 1, "nonce")):
            self.seen.write()
        return first


@pytest.fixture(params=["memory", "disk"])
def remembers(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Memory]:
    """Returns a function that makes a memory for so many days."""
    return lambda window: Memory(window, tmp_path if request.param == "disk" else None)


def test_the_first_offset_of_an_id_stays_its_offset(remembers: Callable[[int], Memory]) -> None:
    seen = remembers(7)

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
def test_an_id_is_forgotten_when_its_day_leaves_the_window(
    later: int, first: int, remembers: Callable[[int], Memory]
) -> None:
    seen = remembers(7)
    seen.first_offset("a", 1, START)

    assert seen.first_offset("a", 2, START + later) == first


def test_an_id_of_the_end_of_a_day_is_known_for_the_whole_window(remembers: Callable[[int], Memory]) -> None:
    seen = remembers(1)
    seen.first_offset("a", 1, START + DAY - 1)

    assert seen.first_offset("a", 2, START + DAY - 1 + DAY) == 1


def test_a_duplicate_does_not_keep_its_id_alive(remembers: Callable[[int], Memory]) -> None:
    seen = remembers(1)
    seen.first_offset("a", 1, START)
    seen.first_offset("a", 2, START + DAY)

    assert seen.first_offset("a", 3, START + 2 * DAY) == 3


@pytest.mark.parametrize("back", [1, DAY, 30 * DAY, START])
def test_an_id_from_a_clock_that_went_back_is_remembered_all_the_same(
    back: int, remembers: Callable[[int], Memory]
) -> None:
    seen = remembers(7)
    seen.first_offset("new", 1, START)

    assert seen.first_offset("old", 2, START - back) == 2
    assert seen.first_offset("old", 3, START - back) == 2
    assert seen.first_offset("old", 4, START + 7 * DAY) == 2


def test_memory_holds_no_more_than_the_window(remembers: Callable[[int], Memory]) -> None:
    seen = remembers(3)
    for number in range(100):
        seen.first_offset(f"id-{number}", number, START + number * DAY)

    assert len(seen.seen) == 4


def test_ids_of_rows_priced_earlier_are_known() -> None:
    seen = SeenIds(7)
    seen.remember(["a", "b"], [3, 4], START // DAY)

    assert seen.first_offsets(["a", "b", "c"], [9, 4, 10], [START + DAY] * 3) == [3, 4, 10]
    assert len(seen) == 3


def test_records_of_several_days_in_one_chunk_are_all_remembered_for_the_window() -> None:
    seen = SeenIds(1)
    seen.first_offsets(["a"], [0], [START])

    firsts = seen.first_offsets(["a", "b", "b"], [1, 2, 3], [START + DAY, START + 9 * DAY, START + 9 * DAY])

    assert firsts == [0, 2, 2]
    assert seen.first_offsets(["b", "a"], [4, 5], [START + 9 * DAY] * 2) == [2, 5]


@pytest.mark.parametrize("pair", [("a", "b"), ("\ud800", "?"), ("", "\x00"), ("é", "e\u0301")])
def test_different_ids_are_told_apart(pair: tuple[str, str], remembers: Callable[[int], Memory]) -> None:
    seen = remembers(7)
    for place, event_id in enumerate(pair):
        assert seen.first_offset(event_id, place, START) == place

    assert [seen.first_offset(event_id, 9, START) for event_id in pair] == [0, 1]


def test_what_is_not_delivered_stays_off_the_disk(tmp_path: Path) -> None:
    store = SeenStore(tmp_path)
    seen = SeenIds(7, store, spilled_ids=1)
    seen.first_offsets(["a", "b"], [0, 1], [START] * 2)
    seen.first_offsets(["c"], [2], [START + DAY])

    assert seen.set_aside(Mark(0, 1, "nonce"))
    seen.write()

    assert (sum(run.count for run in store.runs), seen.in_memory) == (1, 2)
    assert seen.first_offsets(["a", "b", "c"], [7, 8, 9], [START] * 3) == [0, 1, 2]


def test_ids_are_known_while_they_are_on_their_way_to_the_disk(tmp_path: Path) -> None:
    seen = SeenIds(7, SeenStore(tmp_path), spilled_ids=1)
    seen.first_offsets(["a"], [0], [START])
    assert seen.set_aside(Mark(0, 1, "nonce"))

    assert seen.first_offsets(["a", "b"], [1, 2], [START] * 2) == [0, 2]
    assert not seen.set_aside(Mark(2, 3, "nonce")), "one write at a time"
    seen.write()

    assert seen.first_offsets(["a", "b"], [3, 4], [START] * 2) == [0, 2]


def test_a_memory_is_full_only_where_a_disk_could_relieve_it(tmp_path: Path) -> None:
    names = [str(number) for number in range(5)]
    for store, is_full in ((None, False), (SeenStore(tmp_path), True)):
        seen = SeenIds(7, store, spilled_ids=1)
        seen.first_offsets(names[:4], range(4), [START] * 4)
        assert not seen.is_full

        seen.first_offsets(names[4:], [4], [START])

        assert seen.is_full == is_full


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-2 * DAY, 12 * DAY)), max_size=30),
    st.integers(1, 4),
    st.booleans(),
)
def test_an_id_is_never_forgotten_inside_the_window(
    records: list[tuple[str, int]], window: int, is_on_disk: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="dedupe-") as folder:
        seen = Memory(window, Path(folder) if is_on_disk else None)
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
