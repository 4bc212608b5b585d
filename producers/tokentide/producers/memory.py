"""Events that are kept in memory instead of being sent: for tests and dry runs of services."""

from collections.abc import Iterator
from contextlib import contextmanager

from tokentide.schemas import UsageEvent

__all__ = ["MEMORY", "captured", "capturing", "keep"]

MEMORY = "memory://"
"""The broker of producers that send nothing."""
_MOST_EVENTS = 100_000

_captures: list[list[UsageEvent]] = []


def keep(events: list[UsageEvent], event: UsageEvent) -> None:
    """Add the event; of more than 100,000 the oldest go, so that a dry run of a service does not grow for ever."""
    if len(events) >= _MOST_EVENTS:
        del events[0]
    events.append(event)


def captured() -> list[UsageEvent] | None:
    """Return where all producers of this process keep their events now; None when they send them."""
    return _captures[-1] if _captures else None


@contextmanager
def capturing() -> Iterator[list[UsageEvent]]:
    """Have every producer of this process, whatever its settings, keep its events in the list that is yielded."""
    events: list[UsageEvent] = []
    _captures.append(events)
    try:
        yield events
    finally:
        # By identity: an inner list may hold equal events.
        _captures[:] = [each for each in _captures if each is not events]
