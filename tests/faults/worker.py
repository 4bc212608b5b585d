"""A worker as `tokentide worker` runs it, on a computer whose clock is wrong: `python -m faults.worker meter`.

Only the wall clock of Python is moved; monotonic clocks, and the clock of librdkafka, are true. The memory of event
ids goes to the disk in steps that are small enough for the traffic of a schedule; where compaction is quick, so is
the round in which all records of a changelog are written again.
"""

import argparse
import functools
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Self

_SPILLED_IDS = 300


def main() -> None:
    """Run the worker; `--ahead` may be negative."""
    options = argparse.ArgumentParser()
    options.add_argument("kind", choices=("meter", "sink"))
    options.add_argument("--ahead", type=int, default=0, help="seconds")
    options.add_argument("--round", type=float, help="seconds")
    chosen = options.parse_args()
    if chosen.ahead:
        _move_clock(chosen.ahead)
    # Only now: what they import may take hold of the clock.
    from tokentide.console.cli import main as run
    from tokentide.streams import meter, rewriting
    from tokentide.streams.stages import budgets, pricing, spend

    meter.__dict__["PricingStage"] = functools.partial(pricing.PricingStage, spilled_ids=_SPILLED_IDS)
    if chosen.round:
        for module in (budgets, spend):
            module.__dict__["Rewriting"] = functools.partial(rewriting.Rewriting, chosen.round)
    for module in (budgets, pricing):
        module.__dict__["datetime"] = _moved(chosen.ahead)
    sys.argv = ["tokentide", "worker", chosen.kind]
    run()


def _move_clock(seconds: int) -> None:
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_time_ns() + seconds * 10**9


def _moved(seconds: int) -> type[datetime]:
    """Return the class `datetime` with another idea of now."""

    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=seconds)

    return Moved


if __name__ == "__main__":
    main()
