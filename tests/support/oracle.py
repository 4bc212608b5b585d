"""What the pipeline must have come to, by the Kafka log: slow, obvious, sharing nothing with the code under test."""

import calendar
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from support.price_list import PriceList
from support.traffic import POISON_HEADER

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ_SECONDS = 20.0
_DAY = 86_400
_GRACE = {"day": 7 * _DAY, "month": 35 * _DAY}
"""How long after their end periods stay open, in seconds: the default settings."""


class Total(NamedTuple):
    """What an entity used in a period."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    unpriced_requests: int


class Said(NamedTuple):
    """What the row of an event says of the moment at which it was priced, which the log of events cannot know."""

    late: int = 0
    prices: int = 0
    """The offset of `usage.prices` up to which (exclusive) own prices were known."""


class Closed(NamedTuple):
    """What begins before these Unix seconds is closed in a partition, whose largest event time in ms follows."""

    days: int
    months: int
    event_time: int


class AlertName(NamedTuple):
    """What makes it the same alert."""

    kind: str
    subject: str
    """The id of the budget, or the model."""
    revision: int | None
    start: int
    percent: int | None


_Hour = tuple[str, str, int]
"""Scope, id, and the start of an hour in Unix seconds."""


@dataclass
class Expected:
    """Everything that can be said about the log."""

    rows: dict[tuple[str, int], tuple[int, int, int, Decimal | None]] = field(default_factory=dict)
    """(event id, partition) to offset, input tokens, output tokens, cost in USD."""
    rejected: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset."""
    duplicates: int = 0
    hours: dict[tuple[int, int], dict[_Hour, list[Any]]] = field(default_factory=dict)
    """(partition, late) to what was used in each hour."""
    moments: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Partition to the event times of its rows in their order, in Unix milliseconds."""
    totals: dict[tuple[str, str, str, int], Total] = field(default_factory=dict)
    """(scope, scope id, period, start in Unix seconds) to total: each event once, whenever it came."""
    problems: list[str] = field(default_factory=list)
    """What rows say of themselves and cannot be."""

    def alerts(self, budgets: list[dict[str, Any]], open_at: int = 0) -> set[AlertName]:
        """Return every alert that these budgets and models without a price amount to.

        With `open_at` those only whose periods are open still at this Unix second: an alert of another one depends
        on whether it was raised in time.
        """
        return self.budget_alerts(budgets, open_at) | {
            AlertName("unpriced_model", scope_id, None, start, None)
            for (scope, scope_id, period, start), total in self.totals.items()
            if scope == "model" and period == "day" and total.unpriced_requests
            if _closes(period, start) > open_at
        }

    def budget_alerts(self, budgets: list[dict[str, Any]], open_at: int = 0) -> set[AlertName]:
        """Return the alerts that these budgets amount to, had they held all the time."""
        found: set[AlertName] = set()
        for budget in budgets:
            for (scope, scope_id, period, start), total in self.totals.items():
                if (scope, scope_id, period) != (budget["scope"], budget["scope_id"], budget["period"]):
                    continue
                if _closes(period, start) <= open_at:
                    continue
                used = total.cost_usd
                if budget["unit"] == "tokens":
                    used = Decimal(total.input_tokens + total.output_tokens)
                for percent in budget.get("thresholds", (75, 90, 100)):
                    if used >= Decimal(budget["limit"]) * percent / 100:
                        kind = "budget_exceeded" if percent >= 100 else "threshold"
                        found.add(
                            AlertName(kind, budget["budget_id"], budget.get("revision", 1), start, percent)
                        )
        return found

    def state(self, closed: Mapping[int, Closed]) -> dict[tuple[int, str, str, str, int], Total]:
        """Return what each partition must remember: days that are open, without events that came too late for them;
        months that are open, with those.
        """
        sums: dict[Any, list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0), 0])
        for (partition, late), hours in self.hours.items():
            for (scope, name, hour), used in hours.items():
                for period, start in _periods(hour):
                    is_month = period == "month"
                    over = closed[partition].months if is_month else closed[partition].days
                    if start >= over and late <= is_month:
                        _add(sums[partition, scope, name, period, start], used)
        return {cell: Total(*used) for cell, used in sums.items()}

    def check_closed(self, closed: Mapping[int, Closed]) -> Iterator[str]:
        """Yield what is closed too soon, or stays open though half of the partition's events have closed it.

        A clock that is behind may take an hour off events that are ahead of it.
        """
        for partition, moments in self.moments.items():
            found, largest = closed[partition], max(moments)
            sure = max(moments[: len(moments) // 2], default=0) // 1000 - 3600
            latest = largest // 1000 - _GRACE["day"]
            if found.event_time > largest or found.days > latest:
                yield f"state: partition {partition} closed days before {found.days}, met {largest} ms at most"
            if found.days < sure - _GRACE["day"] - _DAY:
                yield f"state: partition {partition} closed days before {found.days} only, though it met {sure} s"
            if found.months and _closes("month", found.months - 1) > largest // 1000:
                yield f"state: partition {partition} closed months before {found.months}, met {largest} ms at most"


def read_topic(broker: str, topic: str) -> list[Message]:
    """Return every record of a topic, each partition's in order."""
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": "oracle", "enable.partition.eof": True, "log_level": 0}
    )
    unread = set(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
    messages = []
    deadline = time.monotonic() + _READ_SECONDS
    while unread:
        assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
        for message in consumer.consume(1000, 0.05):
            deadline = time.monotonic() + _READ_SECONDS
            error = message.error()
            if error is None:
                messages.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                unread.discard(message.partition())
    consumer.close()
    return messages


def expect(
    events: list[Message],
    prices: PriceList | None = None,
    said: Mapping[tuple[int, int], Said] | None = None,
) -> Expected:
    """Fold the events topic; `said` holds by partition and offset what the rows say."""
    prices, said = prices or PriceList(), said or {}
    expected = Expected()
    largest: dict[int, int] = {}
    for message in events:
        partition, offset = int(message.partition() or 0), int(message.offset() or 0)
        event = _valid(message)
        if event is None:
            expected.rejected.add((partition, offset))
        elif (event["event_id"], partition) in expected.rows:
            expected.duplicates += 1
        else:
            about = said.get((partition, offset), Said())
            moment = (datetime.fromisoformat(event["timestamp"]) - _EPOCH) // timedelta(milliseconds=1)
            _check(expected, (partition, offset), about, moment, largest.get(partition, 0), prices)
            cost = prices.cost(event, about.prices)
            expected.rows[event["event_id"], partition] = (
                offset,
                event["input_tokens"],
                event["output_tokens"],
                cost,
            )
            expected.moments[partition].append(moment)
            largest[partition] = max(moment, largest.get(partition, 0))
            _count(expected.hours.setdefault((partition, about.late), {}), event, moment // 1000, cost)
    sums: dict[Any, list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0), 0])
    for hours in expected.hours.values():
        for (scope, name, hour), used in hours.items():
            for period, start in _periods(hour):
                _add(sums[scope, name, period, start], used)
    expected.totals = {cell: Total(*used) for cell, used in sums.items()}
    return expected


def _check(
    expected: Expected, place: tuple[int, int], about: Said, moment: int, largest: int, prices: PriceList
) -> None:
    """Note what a row says of itself and cannot be: late though nothing closed it, prices that nobody wrote."""
    late_for = [period for period, least in (("day", 1), ("month", 2)) if about.late >= least]
    for period in late_for:
        if _closes(period, dict(_periods(moment // 1000))[period]) * 1000 > largest:
            expected.problems.append(f"rows: {place} says late={about.late}, but its {period} was open")
    if about.prices > prices.end:
        expected.problems.append(f"rows: {place} knew prices below {about.prices} of {prices.end}")


def _valid(message: Message) -> dict[str, Any] | None:
    """Return the event; None for what the traffic calls poison, and for events too far ahead of their record."""
    if POISON_HEADER in dict(message.headers() or {}):
        return None
    event: dict[str, Any] = json.loads(message.value() or b"")
    ahead = (
        datetime.fromisoformat(event["timestamp"]) - _EPOCH - timedelta(milliseconds=message.timestamp()[1])
    )
    return event if ahead <= timedelta(hours=1) else None


def _count(hours: dict[_Hour, list[Any]], event: dict[str, Any], second: int, cost: Decimal | None) -> None:
    names = {
        "user": event.get("user_id"),
        "team": event.get("team_id"),
        "org": event.get("org_id"),
        "operation": event.get("operation"),
        "provider": event["provider"],
        "model": event["provider"] + "/" + event["model"],
    }
    more = (1, event["input_tokens"], event["output_tokens"], cost or Decimal(0), int(cost is None))
    for scope, name in names.items():
        if name:
            _add(hours.setdefault((scope, name, second - second % 3600), [0, 0, 0, Decimal(0), 0]), more)


def _add(total: list[Any], more: Any) -> None:
    total[:] = [before + used for before, used in zip(total, more, strict=True)]


def _periods(second: int) -> list[tuple[str, int]]:
    """Return the hour, the day and the month that hold a Unix second, by their starts."""
    moment = datetime.fromtimestamp(second, UTC)
    day = calendar.timegm((moment.year, moment.month, moment.day, 0, 0, 0))
    month = calendar.timegm((moment.year, moment.month, 1, 0, 0, 0))
    return [("hour", second - second % 3600), ("day", day), ("month", month)]


def _closes(period: str, start: int) -> int:
    """Return the Unix second at which a day or month and its grace are over; any second of a month stands for it."""
    if period == "month":
        moment = datetime.fromtimestamp(start, UTC)
        days = calendar.monthrange(moment.year, moment.month)[1]
        return calendar.timegm((moment.year, moment.month, 1, 0, 0, 0)) + days * _DAY + _GRACE["month"]
    return start + _DAY + _GRACE["day"]
