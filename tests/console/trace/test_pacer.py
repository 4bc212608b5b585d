"""Rates, by a clock that only moves when somebody sleeps."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from tokentide.console.trace import Pacer, Rate

START = datetime(2023, 11, 16, 18, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def moments(rate: Rate, recorded: Iterable[float], work_seconds: float = 0.0) -> list[float]:
    """When events that were recorded at these seconds leave, each after so much work."""
    clock = Clock()
    pacer = Pacer(rate, clock, clock.sleep)
    left = []
    for second in recorded:
        pacer.wait(START + timedelta(seconds=second))
        left.append(clock.now - 100)
        clock.now += work_seconds
    return left


def test_without_a_rate_nobody_waits() -> None:
    assert moments(Rate(), [0, 60, 3600]) == [0, 0, 0]


def test_a_number_is_events_a_second_whatever_was_recorded() -> None:
    assert moments(Rate(events_per_second=4), [0, 60, 60, 3600]) == [0, 0.25, 0.5, 0.75]


def test_a_multiple_keeps_the_recorded_rhythm() -> None:
    assert moments(Rate(speed=10), [5, 6, 6, 25]) == pytest.approx([0, 0.1, 0.1, 2])


def test_time_spent_working_is_no_time_to_sleep() -> None:
    assert moments(Rate(events_per_second=10), [0, 0, 0], work_seconds=0.04) == pytest.approx([0, 0.1, 0.2])


def test_a_delay_is_caught_up_at_once() -> None:
    clock = Clock()
    pacer = Pacer(Rate(events_per_second=1), clock, clock.sleep)
    pacer.wait(START)
    clock.now += 2.5

    left = []
    for _ in range(4):
        pacer.wait(START)
        left.append(clock.now - 100)

    assert left == [2.5, 2.5, 3, 4]


def test_an_event_recorded_before_its_predecessors_leaves_at_once() -> None:
    assert moments(Rate(speed=1), [10, 12, 4, 13]) == [0, 2, 2, 3]
