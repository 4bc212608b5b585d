"""What came out of one run, and the median and spread of several."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Run:
    """One contender in one round; with a problem nothing else counts."""

    us_per_event: float = 0.0
    """CPU of all its processes, in microseconds."""
    events_per_second: float = 0.0
    rss_mb: float = 0.0
    """The most memory that all its processes held at once."""
    problem: str | None = None


@dataclass(frozen=True)
class Spread:
    """The middle of some numbers, and how far they lie apart."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """Raises ValueError for no numbers."""
        return cls(*(round(each(numbers), 1) for each in (statistics.median, min, max)))


@dataclass(frozen=True)
class Summary:
    """A contender over all rounds; without a run that was right there are no numbers."""

    us_per_event: Spread | None
    events_per_second: Spread | None
    rss_mb: Spread | None
    runs: int
    problems: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Summary":
        """Wrong runs give no numbers, only their problem."""
        right = [run for run in runs if run.problem is None]

        def spread(name: str) -> Spread | None:
            return Spread.of([getattr(run, name) for run in right]) if right else None

        return cls(
            spread("us_per_event"),
            spread("events_per_second"),
            spread("rss_mb"),
            len(right),
            tuple(run.problem for run in runs if run.problem is not None),
        )

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


def median(spread: Spread | None) -> float | None:
    """Return the median, None of nothing."""
    return None if spread is None else spread.median


def ratio(top: Spread | None, bottom: Spread | None) -> float | None:
    """Return how many times the second median the first one is; None when one is missing."""
    if top is None or bottom is None or not bottom.median:
        return None
    return float(f"{top.median / bottom.median:.3g}")


def percentiles(name: str, numbers: Sequence[float], digits: int = 0) -> dict[str, float]:
    """Return p50 and p99 under names that begin with this one."""
    cuts = statistics.quantiles(numbers, n=100, method="inclusive")
    return {f"{name}_p50": round(cuts[49], digits or None), f"{name}_p99": round(cuts[98], digits or None)}
