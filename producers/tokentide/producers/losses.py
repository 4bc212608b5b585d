"""Events that found no room: alerts to those whose totals miss them."""

import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tokentide.producers.quick_event import QuickEvent
from tokentide.schemas import UsageEvent

__all__ = ["Losses"]

_MOST_OWNERS = 1000
_PAUSE_SECONDS = 10.0

# Whose totals, of which hour (Unix seconds, UTC): a scope and its id.
_Owner = tuple[int, str, str]


class Losses:
    """Counts dropped events by team (by user without one) and hour, until the topic of alerts has taken the counts.

    One alert for each owner and hour, of kind `events_dropped`. Thread-safe; raises nothing but what is a mistake of
    ours.
    """

    def __init__(self, topic: str, source: str) -> None:
        self._topic = topic
        self._source = source
        self._lock = threading.RLock()
        self._dropped: dict[_Owner, int] = {}

        self._is_reached = False
        self._tell_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._dropped)

    @property
    def is_due(self) -> bool:
        """Whether there is something to tell, Kafka is back, and the last time is a while ago."""
        return bool(self._dropped) and self._is_reached and time.monotonic() >= self._tell_at

    def reached(self) -> None:
        """Say that Kafka stored an event: it is there again."""
        if self._dropped:
            self._is_reached = True

    def note(self, event: UsageEvent | QuickEvent) -> None:
        """Count a dropped event. Beyond a thousand owners they are counted under no name."""
        hour = int(event.timestamp.timestamp()) // 3600 * 3600
        owner = (hour, "team", event.team_id) if event.team_id else (hour, "user", event.user_id or "")
        self._add(owner, 1)

    def tell(self, client: Producer) -> None:
        """Publish what was counted; what Kafka does not take is counted again."""
        self._is_reached = False
        self._tell_at = time.monotonic() + _PAUSE_SECONDS
        with self._lock:
            told, self._dropped = self._dropped, {}
        for owner, events in told.items():
            name, value = self._alert(owner, events)
            try:
                client.produce(self._topic, value, name, on_delivery=self._on_delivery(owner, events))
            except (BufferError, KafkaException):
                self._add(owner, events)

    def _add(self, owner: _Owner, events: int) -> None:
        with self._lock:
            if owner not in self._dropped and len(self._dropped) >= _MOST_OWNERS:
                owner = (owner[0], "user", "")
            self._dropped[owner] = self._dropped.get(owner, 0) + events

    def _on_delivery(self, owner: _Owner, events: int) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._add(owner, events)

        return report

    def _alert(self, owner: _Owner, events: int) -> tuple[bytes, bytes]:
        """Return the id and the JSON of the alert."""
        from tokentide.schemas.alert import Alert, AlertKind, AlertLevel, alert_id
        from tokentide.schemas.spend import Period, Scope

        hour, scope, scope_id = owner
        host = socket.gethostname()
        begin = datetime.fromtimestamp(hour, UTC)
        alert = Alert(
            alert_id=alert_id(
                AlertKind.EVENTS_DROPPED,
                f"{self._source}@{host}/{os.getpid()}/{time.time_ns()}/{scope}:{scope_id}",
                hour,
                None,
            ),
            timestamp=datetime.now(UTC),
            kind=AlertKind.EVENTS_DROPPED,
            level=AlertLevel.CRITICAL,
            scope=Scope(scope),
            scope_id=scope_id,
            period=Period.HOUR,
            period_start=begin,
            period_end=begin + timedelta(hours=1),
            requests=events,
            message=f"{events} usage events of {scope} {scope_id or '(nobody)'} found no room in {self._source} "
            f"on {host} while Kafka was away; they are missing in all totals of this hour",
        )
        return alert.alert_id.encode(), alert.model_dump_json().encode()
