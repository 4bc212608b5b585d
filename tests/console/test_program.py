"""How long to wait after a crash, and the last words of a log, as functions of values."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tokentide.console.program import Backoff, last_lines


def test_delays_double_up_to_the_limit() -> None:
    backoff = Backoff(first_seconds=0.5, most_seconds=3.0)

    assert [backoff.delay(1.0) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_stable_run_starts_afresh() -> None:
    backoff = Backoff(stable_seconds=60)
    for _ in range(10):
        backoff.delay(1.0)

    assert backoff.delay(60.0) == 0.5
    assert backoff.delay(59.9) == 1.0


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=300))
def test_a_delay_is_never_below_the_first_nor_above_the_limit(runs: list[float]) -> None:
    backoff = Backoff()

    delays = [backoff.delay(seconds) for seconds in runs]

    assert all(0.5 <= delay <= 30.0 for delay in delays)


def test_last_lines_skip_empty_ones_and_say_when_there_are_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    silence = last_lines(log, 2)
    log.write_bytes(b"x" * 100_000 + b"\none\n\n  \ntwo \xff\nthree\n\n")

    assert silence == "it printed nothing"
    assert last_lines(log, 2) == "two \ufffd\nthree"
