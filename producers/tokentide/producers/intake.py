"""From what a service passes to track() to the event that is kept, and its frame for the spool."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tokentide.producers.cloud_event import json_of, source_of
from tokentide.producers.complaints import Complaints
from tokentide.producers.counters import Tally
from tokentide.producers.frame import pack
from tokentide.producers.quick_event import QuickEvent, quick_event
from tokentide.schemas import InvalidEventError, UsageEvent, new_event_id
from tokentide.schemas.usage_struct import FIELDS

__all__ = ["Intake", "now"]

_NAMES = frozenset(FIELDS)
_STRIPPED: dict[str, Any] = {"metadata": {}, "tags": {}, "error_message": None}


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class Intake:
    """Makes events, and has them redacted before anything else sees them.

    `source` is the CloudEvents source of an event that names no service.
    """

    def __init__(
        self,
        source: str,
        redact: Callable[[UsageEvent], UsageEvent] | None,
        clock: Callable[[], datetime],
        tally: Tally,
        complaints: Complaints,
    ) -> None:
        self._source = source
        self._redact = redact
        self._clock = clock
        self._tally = tally
        self._complaints = complaints

    def frame(
        self, event: UsageEvent | None, fields: dict[str, Any]
    ) -> tuple[UsageEvent | QuickEvent, bytes]:
        """Return the same as `event`, and its frame for the spool. Raises what `event` raises."""
        if event is None and self._redact is None:
            if fields.get("timestamp") is None:
                fields["timestamp"] = self._clock()
            if "event_id" not in fields:
                fields["event_id"] = new_event_id()
            fields.setdefault("schema_version", 1)
            quick = quick_event(fields)
            if quick is not None:
                made, value = quick
                return made, pack(value, source_of(made.service or self._source))
        full = self.event(event, fields)
        return full, pack(json_of(full), source_of(full.service or self._source))

    def event(self, event: UsageEvent | None, fields: dict[str, Any]) -> UsageEvent:
        """Return the event, or the one that the fields make; its time is now unless given.

        Raises InvalidEventError or pydantic.ValidationError.
        """
        made = self._made(event, fields)
        return made if self._redact is None else self._redacted(self._redact, made)

    def _made(self, event: UsageEvent | None, fields: dict[str, Any]) -> UsageEvent:
        if event is None:
            if not _NAMES.issuperset(fields):
                unknown = ", ".join(sorted(fields.keys() - _NAMES))
                raise InvalidEventError(f"UsageEvent has no field {unknown}")
            if fields.get("timestamp") is None:
                fields["timestamp"] = self._clock()
            return UsageEvent(**fields)
        if fields:
            raise InvalidEventError("track() takes an event or fields, not both")
        if not isinstance(event, UsageEvent):
            raise InvalidEventError(f"track() takes a UsageEvent, not a {type(event).__name__}")
        return event

    def _redacted(self, redact: Callable[[UsageEvent], UsageEvent], event: UsageEvent) -> UsageEvent:
        try:
            redacted = redact(event)
            if isinstance(redacted, UsageEvent):
                return redacted
            reason = f"it returned a {type(redacted).__name__}, not a UsageEvent"
        except Exception as error:  # the hook is the service's code; its message may hold what it was to hide
            reason = f"it raised {type(error).__name__}"
        self._tally.count_stripped()
        self._complaints.warn(
            "redact",
            f"the redaction hook failed ({reason}); the event is sent without metadata, tags and error_message",
        )
        return event.model_copy(update=_STRIPPED)
