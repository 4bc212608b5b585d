"""The truth: the records of the events topic, one by one, in the order of their offsets."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pydantic import ValidationError

from tokentide.console.audit.identities import Identities, Identity
from tokentide.console.audit.price import price_event
from tokentide.console.audit.totals import HourTotals, Used, entities
from tokentide.schemas import UsageEvent

__all__ = ["Fold", "LogRecord", "Rejections"]

MAX_FUTURE_SECONDS = 3600


class LogRecord(NamedTuple):
    """One record of the events topic; `timestamp_ms` is Kafka's, in Unix milliseconds."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


class Rejections(NamedTuple):
    """How many records of a partition were refused; the sum of their offsets tells other ones apart."""

    records: int = 0
    offset_sum: int = 0


class Fold:
    """Totals of the events topic.

    A record that is no valid event, or lies too far in the future of its own record, is rejected; of
    several with one id in one partition the first counts.
    """

    def __init__(self, identities: Identities, max_future_seconds: int = MAX_FUTURE_SECONDS) -> None:
        self._identities = identities
        self._max_future = timedelta(seconds=max_future_seconds)
        self.hours = HourTotals()
        self.records = 0
        self.events = 0
        self.duplicates = 0
        self.unpriced: Counter[str] = Counter()
        self.rejections: dict[int, Rejections] = {}

    def add_all(self, records: Iterable[LogRecord]) -> None:
        """Fold the records; each partition's must come in the order of their offsets."""
        for record in records:
            self.add(record)

    def add(self, record: LogRecord) -> None:
        """Fold one record."""
        self.records += 1
        event = self._accepted(record)
        if event is None:
            records, offset_sum = self.rejections.get(record.partition, Rejections())
            self.rejections[record.partition] = Rejections(records + 1, offset_sum + record.offset)
        elif not self._identities.add(Identity(event.event_id, record.partition, record.offset)):
            self.duplicates += 1
        else:
            self._count(record.partition, event)

    def add_base(self, identities: Iterable[Identity]) -> None:
        """Take over the ids of events that retention removed; their totals go to `hours` directly."""
        for identity in identities:
            self.events += self._identities.add(identity)

    def _accepted(self, record: LogRecord) -> UsageEvent | None:
        if record.value is None:
            return None
        try:
            event = UsageEvent.model_validate_json(record.value)
        except ValidationError:
            return None
        produced = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=record.timestamp_ms)
        return event if event.timestamp <= produced + self._max_future else None

    def _count(self, partition: int, event: UsageEvent) -> None:
        price = price_event(event)
        self.events += 1
        if price.cost_pico_usd is None:
            self.unpriced[f"{event.provider}/{event.model}"] += 1
        used = Used(
            1,
            event.input_tokens,
            event.output_tokens,
            price.cost_pico_usd or 0,
            int(price.cost_pico_usd is None),
        )
        hour = int(event.timestamp.replace(minute=0, second=0, microsecond=0).timestamp())
        for entity in entities(event):
            self.hours.add(partition, entity, hour, used)
