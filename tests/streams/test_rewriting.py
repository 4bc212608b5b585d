"""The round over all records: evenly spread, and never late."""

from hypothesis import given
from hypothesis import strategies as st

from tokentide.streams.rewriting import Rewriting


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 100_000), st.lists(st.floats(0.01, 5.0), min_size=50, max_size=200))
def test_after_a_round_every_record_was_due_once(records: int, waits: list[float]) -> None:
    clock = Clock()
    rewriting = Rewriting(60.0, clock)
    written = 0
    for wait in waits:
        clock.now += wait
        written += rewriting.due(records)

    share = (clock.now - 100.0) / 60.0
    assert abs(written - records * share) <= 1 + 1e-6 * records


def test_an_empty_state_owes_nothing_when_it_fills() -> None:
    clock = Clock()
    rewriting = Rewriting(60.0, clock)
    clock.now += 3600
    assert rewriting.due(0) == 0

    assert rewriting.due(1000) == 0
