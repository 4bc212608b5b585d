"""The four places where spend stands, written by slow code of their own: they agree until a test tampers with one."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import KafkaSettings, changelog_name
from tokentide.sinks import connect

__all__ = ["Key", "Sources", "commit"]

# Whole pico-USD a token, input and output; what is not here is unpriced.
PRICES = {("openai", "gpt-4o"): (2_500_000, 10_000_000), ("ollama", "llama3"): (0, 0)}
_NO_COORDINATOR = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
_SCOPES = ("user", "team", "org", "provider", "model", "operation")


class Key(NamedTuple):
    """What a total of one partition is about; the start in Unix seconds."""

    scope: str
    scope_id: str
    period: str
    start: int
    partition: int


class Sent(NamedTuple):
    """A record of the log."""

    value: bytes | None
    timestamp_ms: int


@dataclass
class Sources:
    """What each of the four holds; tests change it before `write`."""

    log: dict[int, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[int, int]] = field(default_factory=list)
    totals: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0, 0]))
    state: dict[tuple[int, str], dict[str, list[int]]] = field(default_factory=lambda: defaultdict(dict))
    months: dict[tuple[int, str], tuple[int, list[int]]] = field(default_factory=dict)
    """Of an entity's month: the last day that is folded into it, and the total."""
    closed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of a partition: before which days and which months all is closed."""
    adjustments: list[tuple[Key, str, list[int]]] = field(default_factory=list)

    def event(
        self,
        partition: int,
        event_id: str,
        *,
        sent_ms: int | None = None,
        cost: int | None = None,
        known_prices: int = 0,
        **fields: Any,
    ) -> None:
        """An event that every source knows; `cost` is of an override, in pico-USD, and so many were known."""
        offset = self.log_event(partition, event_id, sent_ms=sent_ms, **fields)
        event = _complete(event_id, fields)
        cost = _cost(event) if cost is None else cost
        version = "genai-prices/0.2.1" + (f"+prices@{known_prices}" if known_prices else "")
        placed = {"cost": cost, "price_version": version, "partition": partition, "offset": offset}
        self.rows.append({**event, **placed})
        numbers = [
            event["requests"],
            event["input_tokens"],
            event["output_tokens"],
            cost or 0,
            event["requests"] if cost is None else 0,
        ]
        moment = datetime.fromisoformat(event["timestamp"]).astimezone(UTC)
        for scope, scope_id in _entities(event):
            for period, start in _starts(moment):
                key = Key(scope, scope_id, period, start, partition)
                self.totals[key] = [
                    known + more for known, more in zip(self.totals[key], numbers, strict=True)
                ]
                if period == "hour":
                    name = f"{scope}:{scope_id}|{moment:%Y-%m-%d}"
                    self.state[partition, name][str(start)] = list(self.totals[key])

    def log_event(self, partition: int, event_id: str, *, sent_ms: int | None = None, **fields: Any) -> int:
        """An event in the log alone, as a duplicate is; returns its offset."""
        return self.log_record(partition, json.dumps(_complete(event_id, fields)).encode(), sent_ms=sent_ms)

    def reject(self, partition: int, value: bytes | None) -> None:
        """A record that is no event, as all sources know."""
        self.rejected.append((partition, self.log_record(partition, value)))

    def log_record(self, partition: int, value: bytes | None, *, sent_ms: int | None = None) -> int:
        """A record in the log alone; returns its offset."""
        self.log[partition].append(Sent(value, int(time.time() * 1000) if sent_ms is None else sent_ms))
        return len(self.log[partition]) - 1

    def write(self, settings: ConsoleSettings) -> None:
        """Publish and insert everything, with replays and leftovers as crashes make them; the meter has no lag."""
        self._write_log(settings)
        self._write_changelog(settings)
        self._write_tables(settings)

    def _write_log(self, settings: ConsoleSettings) -> None:
        producer = _producer(settings.kafka)
        for partition, records in self.log.items():
            for record in records:
                producer.produce(
                    settings.topics.events,
                    record.value,
                    partition=partition,
                    timestamp=record.timestamp_ms,
                )
                producer.poll(0)
        assert producer.flush(30) == 0
        commit(
            settings,
            settings.meter_id,
            settings.topics.events,
            {partition: len(records) for partition, records in self.log.items()},
        )

    def _write_changelog(self, settings: ConsoleSettings) -> None:
        producer = _producer(settings.kafka)
        topic = changelog_name(settings.meter_id, "spend")
        for (partition, key), hours in self.state.items():
            texts = {start: [*numbers[:3], str(numbers[3]), numbers[4]] for start, numbers in hours.items()}
            early = {start: [1, 1, 1, "1", 1] for start in hours}
            # A worker that woke up wrote the last one; its fence is lower.
            for fence, written in ((3, early), (9, texts), (4, early)):
                value = json.dumps({"fence": fence, "hours": written})
                producer.produce(topic, value, key, partition=partition)
            producer.produce(topic, b'{"source":9,"priced":2}', "#fence", partition=partition)
        for (partition, key), (through, numbers) in self.months.items():
            text = [*numbers[:3], str(numbers[3]), numbers[4]]
            for fence, last, total in ((9, through, text), (9, through - 86400, [1, 1, 1, "1", 1])):
                value = json.dumps({"fence": fence, "through": last, "total": total})
                producer.produce(topic, value, key, partition=partition)
        for partition, (days, months) in self.closed.items():
            fence_of = {"source": 10, "priced": 3, "closed_days": days, "closed_months": months}
            producer.produce(topic, json.dumps(fence_of), "#fence", partition=partition)
            producer.produce(topic, b'{"source":9,"priced":2}', "#fence", partition=partition)
        assert producer.flush(30) == 0

    def _write_tables(self, settings: ConsoleSettings) -> None:
        client = connect(settings.clickhouse)
        for table, rows in (
            ("usage_events", list(map(_usage_row, self.rows)) * 2),
            ("spend_totals", [row for total in self.totals.items() for row in _total_rows(*total)]),
            ("spend_totals", [_adjustment_row(*adjustment) for adjustment in self.adjustments]),
            ("rejected_events", [_rejected_row(settings.topics.events, *place) for place in self.rejected]),
        ):
            if rows:
                client.insert(table, [list(row.values()) for row in rows], column_names=list(rows[0]))
        client.close()


def commit(settings: ConsoleSettings, group: str, topic: str, ends: Mapping[int, int]) -> None:
    """Commit for a group that it has dealt with each partition up to its end."""
    member = Consumer({**settings.kafka.librdkafka(), "group.id": group})
    offsets = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
    deadline = time.monotonic() + 30
    while True:
        try:
            member.commit(offsets=offsets, asynchronous=False)
            break
        except KafkaException as error:  # a cluster that has just started has no coordinator yet
            if error.args[0].code() not in _NO_COORDINATOR or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    member.close()


@cache
def _producer(kafka: KafkaSettings) -> Producer:
    """One for all tests on a Kafka: each new one waits half a second for its id."""
    return Producer({**kafka.librdkafka(), "enable.idempotence": True, "log_level": 0})


def _complete(event_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "timestamp": "2025-11-03T10:15:00+00:00",
        "user_id": "alice",
        "team_id": "search",
        "org_id": None,
        "operation": None,
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1000,
        "output_tokens": 10,
        "requests": 1,
        **fields,
    }


def _cost(event: dict[str, Any]) -> int | None:
    prices = PRICES.get((event["provider"], event["model"]))
    if prices is None:
        return None
    return int(event["input_tokens"] * prices[0] + event["output_tokens"] * prices[1])


def _entities(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    names = (
        event["user_id"],
        event["team_id"],
        event["org_id"],
        event["provider"],
        f"{event['provider']}/{event['model']}",
        event["operation"],
    )
    return ((scope, name) for scope, name in zip(_SCOPES, names, strict=True) if name)


def _starts(moment: datetime) -> Iterator[tuple[str, int]]:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    yield "hour", int(hour.timestamp())
    yield "day", int(hour.replace(hour=0).timestamp())
    yield "month", int(hour.replace(hour=0, day=1).timestamp())


def _usage_row(row: dict[str, Any]) -> dict[str, Any]:
    names = ("event_id", "user_id", "team_id", "org_id", "operation", "provider", "model")
    counts = ("input_tokens", "output_tokens", "requests")
    return {
        **{name: row[name] for name in names},
        "timestamp": datetime.fromisoformat(row["timestamp"]).astimezone(UTC),
        **{name: row[name] for name in counts},
        "cost_usd": None if row["cost"] is None else Decimal(row["cost"]).scaleb(-12),
        "price_version": row["price_version"],
        "source_partition": row["partition"],
        "source_offset": row["offset"],
        "version": 2**64 - 1,
        "late": row.get("late", 0),
    }


def _total_rows(key: Key, numbers: list[int]) -> Iterator[dict[str, Any]]:
    """The total, and an older one that came late."""
    for version, values in ((9, numbers), (5, [1, 1, 1, 1, 1])):
        requests, input_tokens, output_tokens, cost, unpriced = values
        yield {
            "scope": key.scope,
            "scope_id": key.scope_id,
            "period": key.period,
            "period_start": datetime.fromtimestamp(0, UTC) + timedelta(seconds=key.start),
            "source_partition": key.partition,
            "version": version,
            "requests": requests,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost_usd": Decimal(cost).scaleb(-12),
            "unpriced_requests": unpriced,
        }


def _adjustment_row(key: Key, adjustment: str, numbers: list[int]) -> dict[str, Any]:
    [row, _] = _total_rows(key, numbers)
    return {**row, "adjustment": adjustment}


def _rejected_row(topic: str, partition: int, offset: int) -> dict[str, Any]:
    return {
        "source_topic": topic,
        "source_partition": partition,
        "source_offset": offset,
        "timestamp": datetime.now(UTC),
        "reason": "no event",
    }
