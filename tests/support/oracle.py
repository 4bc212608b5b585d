"""What the pipeline must have come to, from the Kafka log: slow, obvious, sharing nothing with the code under test.

Prices are written down here from the providers' price lists (USD per million tokens: input, cached input, output);
the traffic uses these models only.
"""

import calendar
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from support.traffic import POISON_HEADER

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PRICES = {
    ("openai", "gpt-4o"): (Decimal("2.50"), Decimal("1.25"), Decimal("10.00")),
    ("openai", "gpt-4o-mini"): (Decimal("0.15"), Decimal("0.075"), Decimal("0.60")),
    ("anthropic", "claude-sonnet-4-5"): (Decimal("3.00"), Decimal("0.30"), Decimal("15.00")),
    ("google", "gemini-2.5-flash"): (Decimal("0.30"), Decimal("0.03"), Decimal("2.50")),
}


class Total(NamedTuple):
    """What an entity used in a period."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    unpriced_requests: int


class AlertName(NamedTuple):
    """What makes it the same alert."""

    kind: str
    subject: str
    """The id of the budget, or the model."""
    revision: int | None
    start: int
    percent: int | None


@dataclass
class Expected:
    """Everything that can be said about the log."""

    rows: dict[tuple[str, int], tuple[int, int, int, Decimal | None]] = field(default_factory=dict)
    """(event id, partition) to offset, input tokens, output tokens, cost in USD."""
    rejected: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset."""
    duplicates: int = 0
    totals: dict[tuple[str, str, str, int], Total] = field(default_factory=dict)
    """(scope, scope id, period, start in Unix seconds) to total."""

    def alerts(self, budgets: list[dict[str, Any]]) -> set[AlertName]:
        """Return every alert that must have been raised about these budgets, and about models without a price."""
        return self.budget_alerts(budgets) | {
            AlertName("unpriced_model", scope_id, None, start, None)
            for (scope, scope_id, period, start), total in self.totals.items()
            if scope == "model" and period == "day" and total.unpriced_requests
        }

    def budget_alerts(self, budgets: list[dict[str, Any]]) -> set[AlertName]:
        """Return the alerts that these budgets amount to, had they held all the time."""
        found: set[AlertName] = set()
        for budget in budgets:
            for (scope, scope_id, period, start), total in self.totals.items():
                if (scope, scope_id, period) != (budget["scope"], budget["scope_id"], budget["period"]):
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


def read_topic(broker: str, topic: str) -> list[Message]:
    """Return every record of a topic, each partition's in order."""
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": "oracle", "enable.partition.eof": True, "log_level": 0}
    )
    unread = set(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
    messages = []
    while unread:
        message = consumer.poll(20)
        assert message is not None, f"{topic} cannot be read to its end"
        error = message.error()
        if error is None:
            messages.append(message)
        else:
            assert error.code() == KafkaError._PARTITION_EOF, error
            unread.discard(message.partition())
    consumer.close()
    return messages


def expect(events: list[Message]) -> Expected:
    """Fold the events topic."""
    expected = Expected()
    for message in events:
        partition, offset = int(message.partition() or 0), int(message.offset() or 0)
        event = _valid(message)
        if event is None:
            expected.rejected.add((partition, offset))
        elif (event["event_id"], partition) in expected.rows:
            expected.duplicates += 1
        else:
            cost = _cost(event)
            expected.rows[event["event_id"], partition] = (
                offset,
                event["input_tokens"],
                event["output_tokens"],
                cost,
            )
            _add(expected.totals, event, cost)
    return expected


def _valid(message: Message) -> dict[str, Any] | None:
    """Return the event; None for what the traffic calls poison, and for events too far ahead of their record."""
    if POISON_HEADER in dict(message.headers() or {}):
        return None
    event: dict[str, Any] = json.loads(message.value() or b"")
    ahead = (
        datetime.fromisoformat(event["timestamp"]) - _EPOCH - timedelta(milliseconds=message.timestamp()[1])
    )
    return event if ahead <= timedelta(hours=1) else None


def _cost(event: dict[str, Any]) -> Decimal | None:
    price = PRICES.get((event["provider"], event["model"]))
    if price is None:
        return None
    cached = event["cache_read_tokens"]
    per_input, per_cached, per_output = price
    dollars_times_million: Decimal = (
        (event["input_tokens"] - cached) * per_input
        + cached * per_cached
        + event["output_tokens"] * per_output
    )
    return dollars_times_million / 1_000_000


def _add(totals: dict[tuple[str, str, str, int], Total], event: dict[str, Any], cost: Decimal | None) -> None:
    moment = datetime.fromisoformat(event["timestamp"]).astimezone(UTC)
    starts = {
        "hour": (moment.year, moment.month, moment.day, moment.hour, 0, 0),
        "day": (moment.year, moment.month, moment.day, 0, 0, 0),
        "month": (moment.year, moment.month, 1, 0, 0, 0),
    }
    names = {
        "user": event.get("user_id"),
        "team": event.get("team_id"),
        "org": event.get("org_id"),
        "operation": event.get("operation"),
        "provider": event["provider"],
        "model": event["provider"] + "/" + event["model"],
    }
    for scope, name in names.items():
        if not name:
            continue
        for period, start in starts.items():
            key = (scope, name, period, calendar.timegm(start))
            before = totals.get(key, Total(0, 0, 0, Decimal(0), 0))
            totals[key] = Total(
                before.requests + 1,
                before.input_tokens + event["input_tokens"],
                before.output_tokens + event["output_tokens"],
                before.cost_usd + (cost or 0),
                before.unpriced_requests + (cost is None),
            )


def state_totals(changelog: list[Message]) -> dict[tuple[str, str, str, int], Total]:
    """Return what the spend changelog amounts to: the highest fence per key, added up over partitions."""
    best: dict[tuple[int, bytes], dict[str, Any]] = {}
    for message in changelog:
        key, value = message.key(), message.value()
        if not isinstance(key, bytes) or key.startswith(b"#") or value is None:
            continue
        record = json.loads(value)
        place = (int(message.partition() or 0), key)
        if place not in best or record["fence"] >= best[place]["fence"]:
            best[place] = record
    sums: dict[tuple[str, str, str, int], list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0), 0])
    for (_, raw), record in best.items():
        scope, _, rest = raw.decode().partition(":")
        scope_id = rest.rpartition("|")[0]
        for hour, (requests, input_tokens, output_tokens, pico, unpriced) in record["hours"].items():
            moment = datetime.fromtimestamp(int(hour), UTC)
            for period, start in (
                ("hour", int(hour)),
                ("day", calendar.timegm((moment.year, moment.month, moment.day, 0, 0, 0))),
                ("month", calendar.timegm((moment.year, moment.month, 1, 0, 0, 0))),
            ):
                total = sums[scope, scope_id, period, start]
                more = (requests, input_tokens, output_tokens, Decimal(pico) / 10**12, unpriced)
                sums[scope, scope_id, period, start] = [a + b for a, b in zip(total, more, strict=True)]
    return {key: Total(*total) for key, total in sums.items()}
