"""Log lines that cannot flood a log."""

import pytest

from tokentide.producers.complaints import Complaints


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_one_line_a_minute_counts_what_it_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints(clock)

    for _ in range(5):
        complaints.warn("full", "no room")
        clock.seconds += 15
    complaints.warn("full", "no room")

    assert caplog.messages == ["no room", "no room (3 more like this before)"]


def test_each_kind_has_its_own_minute(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(Clock())

    complaints.warn("full", "no room")
    complaints.warn("invalid", "wrong")

    assert caplog.messages == ["no room", "wrong"]


def test_what_is_said_later_is_logged_at_the_end_of_the_context(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(Clock())

    with complaints:
        complaints.later("full", "no room")
        complaints.later("full", "no room")
        assert caplog.messages == []

    assert caplog.messages == ["no room"]
