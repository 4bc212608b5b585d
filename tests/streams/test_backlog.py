"""What waits in the backlog leaves once, in its order, and in turn."""

from typing import NamedTuple

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from tokentide.streams.backlog import Backlog

_TOPICS = ("usage.events", "usage.priced", "usage.spend")
_PLACES = [TP(topic, partition) for topic in _TOPICS for partition in (0, 1)]


class _Record(NamedTuple):
    offset: int


def _records(first: int, behind: int) -> list[_Record]:
    return [_Record(offset) for offset in range(first, behind)]


class _Clock:
    """Each look at it takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@given(
    st.lists(
        st.tuples(st.sampled_from(_PLACES), st.integers(1, 12), st.sampled_from([0, 0, 3])), max_size=30
    ),
    st.integers(1, 5),
    st.integers(0, 8),
)
def test_each_record_leaves_once_and_in_order_whatever_comes_when(
    fetches: list[tuple[TP, int, int]], chunk_records: int, seconds: int
) -> None:
    backlog = Backlog(_TOPICS, chunk_records, _Clock())
    sent: dict[TP, list[_Record]] = {place: [] for place in _PLACES}
    left: dict[TP, list[_Record]] = {place: [] for place in _PLACES}

    def round_of_chunks() -> None:
        for place, records in backlog.chunks(seconds):
            assert 0 < len(records) <= chunk_records
            assert records == _records(records[0].offset, records[-1].offset + 1)
            left[place] += records

    for place, count, missing in fetches:
        first = sent[place][-1].offset + 1 + missing if sent[place] else missing
        fetched = _records(first, first + count)
        backlog.add(place, fetched)
        sent[place] += fetched
        waiting = {place: len(sent[place]) - len(left[place]) for place in _PLACES}
        assert len(backlog) == sum(waiting.values())
        assert backlog.full() == {place for place, count in waiting.items() if count >= chunk_records}
        round_of_chunks()
    while backlog:
        round_of_chunks()

    assert left == sent


@pytest.mark.parametrize("first", [0, 3, 7, 9])
def test_what_is_read_again_takes_the_place_of_what_waits(first: int) -> None:
    backlog = Backlog(_TOPICS, 100, _Clock())
    for fetched in (_records(3, 6), _records(8, 10), _records(first, 20)):
        backlog.add(_PLACES[0], fetched)

    assert list(backlog.chunks(60)) == [(_PLACES[0], _records(first, 20))]
    assert len(backlog) == 0


def test_the_end_of_the_pipeline_comes_first_and_no_topic_goes_without() -> None:
    backlog = Backlog(_TOPICS, 10, _Clock())
    for place in _PLACES:
        backlog.add(place, _records(0, 1))

    assert [place for place, _ in backlog.chunks(0)] == [
        TP("usage.spend", 0),
        TP("usage.priced", 0),
        TP("usage.events", 0),
    ]


def test_partitions_take_turns_when_there_is_no_time_for_all() -> None:
    backlog = Backlog(_TOPICS[:1], 2, _Clock())
    for partition in (0, 1):
        backlog.add(TP("usage.events", partition), _records(0, 4))

    turns = [place.partition for _ in range(4) for place, _ in backlog.chunks(0)]

    assert turns == [0, 1, 0, 1]


def test_what_is_forgotten_while_chunks_leave_does_not_leave() -> None:
    backlog = Backlog(_TOPICS, 10)
    for place in _PLACES:
        backlog.add(place, _records(0, 1))

    chunks = backlog.chunks(60)
    next(chunks)
    backlog.clear()

    assert list(chunks) == []
    assert len(backlog) == 0
