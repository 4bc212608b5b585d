"""Events that Kafka's client gave back, until they are sent again."""

from collections import deque
from collections.abc import Callable

from tokentide.producers.spool_ticket import Ticket

__all__ = ["Retries"]

_LEAST_SECONDS = 1.0
_MOST_SECONDS = 10.0


class Retries:
    """Each is due a second after it came back; while Kafka answers none the second becomes two, four, at most ten.

    The caller holds a lock around each call.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tickets: deque[tuple[float, Ticket]] = deque()
        self._pause = _LEAST_SECONDS
        self._paused_at: float | None = None

    def put(self, ticket: Ticket) -> None:
        """Keep an event that came back."""
        now = self._monotonic()
        if self._paused_at is None:
            self._paused_at = now
        elif now >= self._paused_at + self._pause:
            self._pause, self._paused_at = min(2 * self._pause, _MOST_SECONDS), now
        self._tickets.append((now, ticket))

    def answered(self) -> None:
        """Say that Kafka decides on events."""
        self._pause, self._paused_at = _LEAST_SECONDS, None

    def due(self) -> Ticket | None:
        """Return the event that waits longest, if it is to be sent now; it stays until `remove_first`."""
        if not self._tickets:
            return None
        came, ticket = self._tickets[0]
        return ticket if self._monotonic() >= came + self._pause else None

    def remove_first(self) -> None:
        """Forget the event that waits longest."""
        self._tickets.popleft()
