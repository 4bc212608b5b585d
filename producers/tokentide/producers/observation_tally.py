"""How many calls were observed in this process, and what went wrong meanwhile."""

import threading
from dataclasses import dataclass

from tokentide.producers.complaints import Complaints
from tokentide.producers.process import Renewed

__all__ = ["ObservationCounters", "complain", "observation_counters", "tally"]


@dataclass(frozen=True, slots=True)
class ObservationCounters:
    """What was observed in this process since its start."""

    # Calls that gave an event.
    observed: int = 0
    # Calls that a guard refused: they gave no event.
    refused: int = 0
    # Failures inside the observation itself; each is logged, at most once a minute.
    failures: int = 0


_complaints = Complaints()


class _Tally(Renewed):
    """The counts behind `ObservationCounters`."""

    def after_fork(self) -> None:
        """Count anew in a child process, with a lock that no thread of the parent holds."""
        # Reentrant: a finalizer may end one observation while this thread ends another.
        self._lock = threading.RLock()
        self.counters = ObservationCounters()
        self.process = object()

    def add(self, *, observed: int = 0, refused: int = 0, failures: int = 0) -> None:
        """Count more."""
        with self._lock:
            was = self.counters
            self.counters = ObservationCounters(
                was.observed + observed, was.refused + refused, was.failures + failures
            )


tally = _Tally()
"""Of this process; `process` is another object in each."""


def observation_counters() -> ObservationCounters:
    """Return what was observed so far."""
    return tally.counters


def complain(kind: str, error: BaseException | str) -> None:
    """Count a failure of the observation and log it, at most once a minute for each kind; never raises."""
    tally.add(failures=1)
    reason = error if isinstance(error, str) else f"{type(error).__name__} in the observation of a call"
    _complaints.warn(kind, f"{kind}: {reason}")
