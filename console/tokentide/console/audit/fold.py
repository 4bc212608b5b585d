"""The truth: the records of the events topic, one by one, in the order of their offsets."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from tokentide.console.audit.identities import Identities, Identity, Place
from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.overrides import KnownPrices
from tokentide.console.audit.price import price_event
from tokentide.console.audit.rules import AuditRules
from tokentide.console.audit.totals import HourTotals, Used, entities
from tokentide.schemas import UsageEvent

__all__ = ["Fold"]

_DAY_MS = 86_400_000
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEPT_LATE = 20


class Fold:
    """Totals of the events topic.

    A record that is no valid event, or lies too far in the future of its own record, is rejected; of
    several with one id in one partition the first counts, however far apart they are.
    """

    def __init__(self, identities: Identities, rules: AuditRules, prices: KnownPrices | None = None) -> None:
        """`prices` are the overrides; none when it is None."""
        self._identities = identities
        self._prices = KnownPrices() if prices is None else prices
        self._rules = rules
        self._newest_day: dict[int, int] = {}
        self.hours = HourTotals()
        self.records = 0
        self.events = 0
        self.duplicates = 0
        self.rejected = 0
        self.unpriced: Counter[str] = Counter()
        """Events of unknown price, by `provider/model`."""
        self.late_duplicates: list[str] = []
        """The first ids that came again when the meter did not remember them any more."""
        self.late_duplicate_count = 0

    def add_all(self, records: Iterable[LogRecord]) -> None:
        """Fold the records; each partition's must come in the order of their offsets."""
        for record in records:
            self.add(record)

    def add(self, record: LogRecord) -> None:
        """Fold one record."""
        self.records += 1
        event = self._accepted(record)
        if event is None:
            self.rejected += 1
            self._identities.add_rejected(Place(record.partition, record.offset))
            return
        # As for the meter, time only goes forward: an id is as old as the newest record before it.
        day = max(record.timestamp_ms // _DAY_MS, self._newest_day.get(record.partition, 0))
        self._newest_day[record.partition] = day
        identity = Identity(event.event_id, record.partition, record.offset)
        if self._identities.add(identity, day):
            self._count(record.partition, record.offset, event)
        else:
            self._count_duplicate(identity, day)

    def add_base(self, identities: Iterable[Identity]) -> int:
        """Take over the ids of events that retention removed, and return how many; their totals go to `hours`."""
        return sum(self._identities.add(identity) for identity in identities)

    def _accepted(self, record: LogRecord) -> UsageEvent | None:
        if record.value is None:
            return None
        try:
            event = UsageEvent.model_validate_json(record.value)
        except ValidationError:
            return None
        # The model makes an id up where none was sent; such a record would be another event at each reading.
        if "event_id" not in event.model_fields_set:
            return None
        # In integers: the timestamp of a record may lie beyond what datetime can hold.
        latest = record.timestamp_ms * 1000 + self._rules.max_future_seconds * 1_000_000
        return event if (event.timestamp - _EPOCH) // _MICROSECOND <= latest else None

    def _count(self, partition: int, offset: int, event: UsageEvent) -> None:
        price = price_event(event, self._prices.of(event, partition, offset))
        is_unpriced = price.cost_pico_usd is None
        self.events += 1
        if is_unpriced:
            self.unpriced[f"{event.provider}/{event.model}"] += 1
        used = Used(
            event.requests,
            event.input_tokens,
            event.output_tokens,
            price.cost_pico_usd or 0,
            event.requests if is_unpriced else 0,
        )
        hour = int(event.timestamp.replace(minute=0, second=0, microsecond=0).timestamp())
        for entity in entities(event):
            self.hours.add(partition, entity, hour, used)

    def _count_duplicate(self, identity: Identity, day: int) -> None:
        self.duplicates += 1
        first = self._identities.first_day(identity)
        if first is not None and day - first > self._rules.dedupe_days:
            self.late_duplicate_count += 1
            if len(self.late_duplicates) < _KEPT_LATE:
                self.late_duplicates.append(identity.event_id)
