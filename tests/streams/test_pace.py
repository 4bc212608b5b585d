"""Pace: an idle process flushes at once, a busy one lets work gather."""

import pytest

from tokentide.streams.pace import Pace


class Machine:
    """A clock, and the CPU that the process has used."""

    def __init__(self) -> None:
        self.now = self.used = 100.0

    def work(self, seconds: float, busy: float) -> None:
        self.now += seconds
        self.used += seconds * busy

    def pace(self, least: float = 0.0) -> Pace:
        return Pace(0.2, least, lambda: self.now, lambda: self.used)


@pytest.mark.parametrize(("busy", "pause"), [(1.0, 0.18), (0.5, 0.005), (0.4, 0.0), (0.0, 0.0), (3.0, 0.18)])
def test_a_pause_is_long_only_in_a_busy_process(busy: float, pause: float) -> None:
    machine = Machine()
    pace = machine.pace()
    machine.work(0.5, busy)

    pace.begin()
    machine.work(0.02, busy)

    assert pace.pause() == pytest.approx(pause)


def test_what_was_long_ago_does_not_count() -> None:
    machine = Machine()
    pace = machine.pace()
    machine.work(5.0, 1.0)
    pace.begin()
    assert pace.pause() == pytest.approx(0.2)

    machine.work(5.0, 0.0)
    pace.begin()

    assert pace.pause() == 0.0


def test_a_flush_that_took_longer_is_followed_at_once() -> None:
    machine = Machine()
    pace = machine.pace()

    pace.begin()
    machine.work(0.3, 1.0)

    assert pace.pause() == 0.0


def test_a_moment_of_work_makes_no_busy_process() -> None:
    machine = Machine()
    pace = machine.pace()
    machine.work(5.0, 0.1)
    pace.pause()

    pace.begin()
    machine.work(0.005, 1.0)

    assert pace.pause() == 0.0


def test_rounds_can_be_kept_apart_however_idle_it_is() -> None:
    machine = Machine()
    pace = machine.pace(least=0.1)

    pace.begin()
    machine.work(0.04, 0.0)

    assert pace.pause() == pytest.approx(0.06)


def test_two_looks_at_one_moment_divide_nothing_by_zero() -> None:
    pace = Machine().pace()

    pace.begin()

    assert pace.pause() == pace.pause() == 0.0
