"""Traffic for end-to-end tests: events as services send them, with everything that goes wrong in the field."""

import json
import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message, Producer

MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-flash"),
)
UNKNOWN_MODEL = ("openai", "gpt-that-nobody-knows")
POISON = (
    b"not json",
    b"",
    b"[]",
    b'{"event_id":"x"}',
    b"\xff\xfe\x00",
    b'{"a":' * 2000,
    b'{"event_id":"neg","timestamp":"2026-11-01T00:00:00Z","provider":"openai","model":"gpt-4o","input_tokens":-1}',
    b'{"event_id":"sum","timestamp":"2026-11-01T00:00:00Z","provider":"openai","model":"gpt-4o","total_tokens":7}',
    b'{"timestamp":"2026-11-01T00:00:00Z","provider":"openai","model":"gpt-4o"}',
    None,
)


class Sent(NamedTuple):
    """One record to send: its key, its value, and whether a meter must reject it."""

    key: bytes
    value: bytes | None
    is_poison: bool


class Shares(NamedTuple):
    """How much of the traffic is what."""

    duplicates: float = 0.05
    invalid: float = 0.01
    unknown_model: float = 0.02
    late: float = 0.05


def traffic(
    events: int, *, seed: int, end: datetime, users: int = 300, teams: int = 12, shares: Shares | None = None
) -> Iterator[Sent]:
    """Yield `events` records in an order that is the same for the same arguments.

    `shares.duplicates` of them repeat an event sent up to 2,000 records before, with the same id and another
    timestamp; `shares.late` happened a day before `end`; the others within the three hours before it.
    """
    parts = shares or Shares()
    chance = random.Random(seed)
    recent: list[dict[str, Any]] = []
    for number in range(events):
        draw = chance.random()
        if draw < parts.invalid:
            yield Sent(f"user-{chance.randrange(users):04d}".encode(), chance.choice(POISON), True)
            continue
        if recent and draw < parts.invalid + parts.duplicates:
            event = dict(chance.choice(recent))
            event["timestamp"] = _text(datetime.fromisoformat(event["timestamp"]) + timedelta(milliseconds=5))
        else:
            event = _event(chance, number, seed, end, users, teams, parts)
            recent = [*recent[-1999:], event]
        yield Sent((event["user_id"] or event["event_id"]).encode(), json.dumps(event).encode(), False)


def send(records: Iterator[Sent], broker: str, topic: str, *, per_second: float = 0.0) -> int:
    """Publish the records, acked by all replicas, and return how many; waits as long as a broker is away."""
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": broker,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": 300_000,
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )
    started, count = time.monotonic(), 0
    for record in records:
        while True:
            try:
                producer.produce(topic, record.value, record.key, on_delivery=delivered)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        count += 1
        if per_second and count % 100 == 0:
            ahead = count / per_second - (time.monotonic() - started)
            producer.poll(max(0.0, ahead))
    assert producer.flush(300) == 0
    assert failures == []
    return count


def _event(
    chance: random.Random, number: int, seed: int, end: datetime, users: int, teams: int, parts: Shares
) -> dict[str, Any]:
    user = chance.randrange(users)
    provider, model = UNKNOWN_MODEL if chance.random() < parts.unknown_model else chance.choice(MODELS)
    moment = end - timedelta(seconds=chance.uniform(0, 10_800))
    if chance.random() < parts.late:
        moment -= timedelta(days=1)
    input_tokens = chance.randrange(1, 6000)
    event: dict[str, Any] = {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{number}")),
        "timestamp": _text(moment),
        # One in fifty belongs to nobody.
        "user_id": f"user-{user:04d}" if number % 50 else None,
        "team_id": f"team-{user % teams:02d}",
        "provider": provider,
        "model": model,
        "input_tokens": input_tokens,
        "output_tokens": chance.randrange(0, 900),
        "cache_read_tokens": chance.choice((0, 0, input_tokens // 3)),
        "tags": {"env": "prod", "städte": "Köln"},
        "latency_ms": 812.5,
    }
    if chance.random() < 0.5:
        event["operation"] = chance.choice(("search", "summary"))
    if chance.random() < 0.3:
        event["org_id"] = "acme"
    return event


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
