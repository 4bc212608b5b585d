"""The truth: the records of the events topic, one by one, in the order of their offsets."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain

from pydantic import ValidationError

from tokentide.console.audit.identities import Identities, Identity, Place
from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.overrides import KnownPrices
from tokentide.console.audit.price import price_event
from tokentide.console.audit.rules import AuditRules
from tokentide.console.audit.totals import Hour, HourTotals, Used, entities
from tokentide.schemas import UsageEvent

__all__ = ["Fold"]

_DAY_MS = 86_400_000
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEPT_LATE = 20


class Fold:
    """Totals of the events topic.

    A record that is no valid event, or lies too far in the future of its own record, is rejected; of
    several with one id in one partition the first counts, however far apart they are. The meter forgets ids: what
    it counted once more, and what ClickHouse has a further row for, stands beside.
    """

    def __init__(
        self,
        identities: Identities,
        rules: AuditRules,
        prices: KnownPrices | None = None,
        *,
        now_ms: int | None = None,
    ) -> None:
        """`identities` knows which records were late; `prices` are the overrides, none when it is None.

        `now_ms` is the time of the machine when None.
        """
        self._identities = identities
        self._prices = KnownPrices() if prices is None else prices
        self._rules = rules
        self._today = (int(time.time() * 1000) if now_ms is None else now_ms) // _DAY_MS
        self._newest_day: dict[int, int] = {}
        self.hours = HourTotals()
        """Each event once."""
        self.again = HourTotals()
        """What the meter counted once more."""
        self.more_rows = HourTotals()
        """That part of `again` which has a row of its own: its event is of another day."""
        self.late = {1: HourTotals(), 2: HourTotals()}
        """What the meter counted when its day (1), or its month too (2), was closed; of both of these."""
        self.records = 0
        self.events = 0
        self.duplicates = 0
        self.rejected = 0
        self.unpriced: Counter[str] = Counter()
        """Events of unknown price, by `provider/model`."""
        self.late_duplicates: list[str] = []
        """The first ids that came again when the meter did not remember them any more."""
        self.late_duplicate_count = 0
        self.late_duplicate_pico_usd = 0
        self.more_row_count = 0
        self.more_row_pico_usd = 0

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
        # As for the meter, time goes forward, but not beyond now: an id is as old as the newest record before it.
        day = max(min(record.timestamp_ms // _DAY_MS, self._today), self._newest_day.get(record.partition, 0))
        self._newest_day[record.partition] = day
        identity = Identity(event.event_id, record.partition, record.offset)
        late = self._identities.late(Place(record.partition, record.offset))
        event_day = (event.timestamp - _EPOCH).days
        if self._identities.add(identity, event_day, day):
            self._count(identity, event, late)
        else:
            self._count_duplicate(identity, event, event_day, day, late)

    def add_base(self, identities: Iterable[tuple[Identity, int]]) -> int:
        """Take over the ids of events that retention removed, with the days of those events since 1970.

        Returns how many; their totals go to `hours`.
        """
        return sum(self._identities.add(identity, event_day) for identity, event_day in identities)

    def stored_hours(self) -> Iterator[tuple[Hour, Used]]:
        """Yield what ClickHouse must hold of each hour: `hours`, and the rows of what was counted once more."""
        return chain(self.hours, self.more_rows)

    def counted_hours(self) -> Iterator[tuple[Hour, Used]]:
        """Yield what the meter must have counted in each hour."""
        return chain(self.hours, self.again)

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

    def _count(self, identity: Identity, event: UsageEvent, late: int) -> None:
        used = self._used(identity, event)
        self.events += 1
        if used.unpriced_requests:
            self.unpriced[f"{event.provider}/{event.model}"] += 1
        _put(self.hours, identity.partition, event, used)
        if late:
            _put(self.late[late], identity.partition, event, used)

    def _count_duplicate(
        self, identity: Identity, event: UsageEvent, event_day: int, day: int, late: int
    ) -> None:
        """Leave a duplicate out, or note that the meter counted it: it had forgotten the id.

        A record that is marked late was counted, for only those are marked.
        """
        self.duplicates += 1
        known = self._identities.first(identity).day
        is_forgotten = known is not None and day - known > self._rules.dedupe_days
        if not is_forgotten and not late:
            return
        used = self._used(identity, event)
        self.late_duplicate_count += 1
        self.late_duplicate_pico_usd += used.cost_pico_usd
        if len(self.late_duplicates) < _KEPT_LATE:
            self.late_duplicates.append(identity.event_id)
        _put(self.again, identity.partition, event, used)
        if late:
            _put(self.late[late], identity.partition, event, used)
        if self._identities.count_again(identity, event_day, day):
            self.more_row_count += 1
            self.more_row_pico_usd += used.cost_pico_usd
            _put(self.more_rows, identity.partition, event, used)

    def _used(self, identity: Identity, event: UsageEvent) -> Used:
        price = price_event(event, self._prices.of(event, identity.partition, identity.offset))
        is_unpriced = price.cost_pico_usd is None
        return Used(
            event.requests,
            event.input_tokens,
            event.output_tokens,
            price.cost_pico_usd or 0,
            event.requests if is_unpriced else 0,
        )


def _put(hours: HourTotals, partition: int, event: UsageEvent, used: Used) -> None:
    hour = int(event.timestamp.replace(minute=0, second=0, microsecond=0).timestamp())
    for entity in entities(event):
        hours.add(partition, entity, hour, used)
