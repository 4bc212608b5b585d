"""Marks rise with events, and with the clock where there are none; and are not told too often."""

import asyncio

import pytest

from tokentide.schemas import ServiceUnavailableError
from tokentide.streams.watermarks import Watermarks

DELAY = 60.0


class Time:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def wall(self) -> float:
        return self.now

    def ms(self, seconds: float = 0.0) -> int:
        return int((self.now + seconds) * 1000)


def looked(marks: Watermarks, fences: dict[int, int], then: dict[int, int] | None = None) -> None:
    """Begin a look, give it time, and take in what it found; then perhaps other partitions are owned."""

    async def look() -> None:
        marks.look_after(fences)
        await asyncio.sleep(0.05)
        if then is not None:
            for partition in fences.keys() - then.keys():
                marks.close(partition)
        marks.look_after(fences if then is None else then)

    asyncio.run(look())


def make(time: Time, unread: dict[int, int], partitions: int = 4) -> Watermarks:
    marks = Watermarks(
        lambda partition, position: max(0, unread[partition] - position),
        partitions,
        DELAY,
        clock=time.wall,
        monotonic=time.wall,
    )
    marks.open(0)
    return marks


def test_an_event_ahead_of_the_clock_leaves_the_mark_where_it_was_met_until_a_look() -> None:
    time = Time()
    marks = make(time, {0: 1})
    met = marks.of(0, time.ms(3000))

    time.now += 100

    assert marks.of(0, time.ms(2900)) == met, "told every second, a pipeline would never come to rest"
    looked(marks, {0: 0})
    assert marks.of(0, time.ms(2900)) == time.ms(-DELAY)


def test_a_mark_is_the_newest_event_less_the_delay_and_never_the_future() -> None:
    time = Time()
    marks = make(time, {})

    assert marks.of(0, 0) is None
    assert marks.of(0, time.ms(-500)) == time.ms(-500 - DELAY)
    assert marks.of(0, time.ms(-900)) == time.ms(-500 - DELAY), "an older event takes nothing back"
    assert marks.of(0, time.ms(3000)) == time.ms(-DELAY)


def test_an_idle_partition_advances_to_the_moment_at_which_nothing_was_unread() -> None:
    time = Time()
    marks = make(time, {0: 8})
    event = time.ms(-500)
    marks.of(0, event)
    looked(marks, {0: 7})
    assert marks.of(0, event) == event - DELAY * 1000, "it had an event a moment ago"
    time.now += 20
    looked_at = time.ms()

    looked(marks, {0: 7})
    time.now += 5

    assert marks.of(0, event) == looked_at - DELAY * 1000


def test_a_partition_with_unread_records_does_not_advance() -> None:
    time = Time()
    marks = make(time, {0: 9})
    event = time.ms(-500)
    marks.of(0, event)
    time.now += 20

    looked(marks, {0: 7})

    assert marks.of(0, event) == event - DELAY * 1000


def test_a_partition_that_never_had_an_event_is_looked_at_soon() -> None:
    time = Time()
    marks = make(time, {0: 0})
    time.now += 1.5

    looked(marks, {0: -1})

    assert marks.of(0, 0) == time.ms(-DELAY)


def test_a_broker_that_is_away_holds_the_mark_and_nothing_else() -> None:
    time = Time()

    def unread(_partition: int, _position: int) -> int:
        raise ServiceUnavailableError("away")

    marks = Watermarks(unread, 4, DELAY, clock=time.wall, monotonic=time.wall)
    marks.open(0)
    time.now += 20

    looked(marks, {0: 7})

    assert marks.of(0, 0) is None


def test_a_partition_that_went_while_it_was_looked_at_is_forgotten() -> None:
    time = Time()
    marks = make(time, {0: 0})
    time.now += 20

    looked(marks, {0: -1}, then={})

    marks.open(0)
    assert marks.of(0, 0) is None


def test_all_look_at_the_same_moments() -> None:
    time = Time()
    time.now += 3
    looks: list[tuple[int, float]] = []

    def unread(partition: int, _position: int) -> int:
        looks.append((partition, time.now - 1_800_000_000.0))
        return 0

    marks = Watermarks(unread, 4, DELAY, clock=time.wall)
    for partition in (0, 1):
        marks.open(partition)
        marks.of(partition, time.ms(partition))
        time.now += 4
    while time.now < 1_800_000_000.0 + 50:
        looked(marks, {0: 1, 1: 1})
        time.now += 1

    assert [moment for partition, moment in looks if partition == 0] == [15, 30, 45]
    assert [moment for partition, moment in looks if partition == 1] == [15, 30, 45]


@pytest.mark.parametrize(("partitions", "seconds"), [(4, 1.0), (100, 10.0)])
def test_a_mark_is_told_once_and_not_more_often_than_all_can_hear(partitions: int, seconds: float) -> None:
    time = Time()
    marks = make(time, {}, partitions)

    assert marks.is_due(0, 5)
    time.now += 1000
    marks.of(0, 4000)
    assert marks.is_due(0, 5), "an event came, though of a time long past"
    time.now += 1000
    assert not marks.is_due(0, 5), "nothing new"
    assert marks.is_due(0, 6)
    time.now += seconds * 0.9
    assert not marks.is_due(0, 7)
    time.now += seconds * 0.2
    assert marks.is_due(0, 7)
