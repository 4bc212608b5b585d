"""Traffic for end-to-end tests: events as services send them, with everything that goes wrong in the field."""

import json
import random
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
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


def _broken(**fields: Any) -> bytes:
    """An event that is whole but for these fields."""
    event = {
        "event_id": "broken",
        "timestamp": "2026-11-01T00:00:00Z",
        "provider": "openai",
        "model": "gpt-4o",
    }
    return json.dumps(event | fields).encode()


POISON: dict[str, bytes | None] = {
    "not json": b"not json",
    "empty": b"",
    "null": None,
    "a list": b"[]",
    "half an event": b'{"event_id":"x"}',
    "no utf-8": b"\xff\xfe\x00",
    "utf-8 that breaks off": _broken(model="gpt-4o")[:-2] + b'\xc3"}',
    "half a document": b'{"a":' * 2000,
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep metadata": _broken()[:-1] + b',"metadata":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
    "a megabyte": _broken(metadata={"text": "x" * 1_000_000}),
    "negative": _broken(input_tokens=-1),
    "absurd": _broken(input_tokens=10**30),
    "a fraction": _broken(output_tokens=0.5),
    "infinite": _broken()[:-1] + b',"latency_ms":1e999}',
    "not a number": _broken()[:-1] + b',"audio_seconds":NaN}',
    "a number as text": _broken(input_tokens="12"),
    "wrong sum": _broken(total_tokens=7),
    "more cached than read": _broken(input_tokens=1, cache_read_tokens=2),
    "no id": b'{"timestamp":"2026-11-01T00:00:00Z","provider":"openai","model":"gpt-4o"}',
    "a control character": _broken(event_id="a\x00b"),
    "no moment": _broken(timestamp="yesterday"),
    "no zone": _broken(timestamp="2026-11-01T00:00:00"),
    "the year 1970": _broken(timestamp="1970-01-01T00:00:00Z"),
}
"""What a meter must reject, by what is wrong with it."""
POISON_HEADER = "test-poison"
"""Marks such a record for the oracle, which then needs no rules of its own for what is an event."""
_LARGE = 50_000
_APART = (0.005, 3.0, 240.0, 3660.0)


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
    elsewhere: float = 0.0
    """Repeats under another key: on another partition they count again, by design."""
    closed_month: float = 0.0
    ahead: float = 0.0
    """By less than an hour: counted."""
    far_ahead: float = 0.0
    """By more than an hour: rejected."""
    whale: float = 0.0
    """Events of a billion tokens, the most that is accepted."""


HARD = Shares(elsewhere=0.01, closed_month=0.02, ahead=0.01, far_ahead=0.005, whale=0.002)


def traffic(
    events: int, *, seed: int, end: datetime, users: int = 300, teams: int = 12, shares: Shares | None = None
) -> Iterator[Sent]:
    """Yield `events` records in an order that is the same for the same arguments.

    `shares.duplicates` of them repeat an event sent up to 2,000 records before, with the same id and another
    timestamp, from milliseconds to an hour away; `shares.late` happened a day before `end`; the others within
    the three hours before it.
    """
    parts = shares or Shares()
    chance = random.Random(seed)
    recent: deque[dict[str, Any]] = deque(maxlen=2000)
    classes = sorted(POISON)
    for number in range(events):
        draw = chance.random()
        if draw < parts.invalid:
            value = POISON[chance.choice(classes)]
            if value is not None and len(value) > _LARGE and chance.random() < 0.7:
                value = POISON["not json"]  # a few large ones are enough
            yield Sent(f"user-{chance.randrange(users):04d}".encode(), value, True)
            continue
        key = None
        if recent and draw < parts.invalid + parts.duplicates + parts.elsewhere:
            event = dict(chance.choice(recent))
            apart = timedelta(seconds=chance.choice(_APART) * chance.choice((-1, 1)))
            event["timestamp"] = _text(datetime.fromisoformat(event["timestamp"]) + apart)
            if draw < parts.invalid + parts.elsewhere:
                key = f"elsewhere-{chance.randrange(100)}"
        else:
            event = _event(chance, number, seed, end, users, teams, parts)
            recent.append(event)
        key = key or event["user_id"] or event["event_id"]
        yield Sent(key.encode(), json.dumps(event).encode(), False)


def new_producer(broker: str) -> Producer:
    """Return a producer that is acked by all replicas, and waits for a broker that is away for five minutes."""
    return Producer(
        {
            "bootstrap.servers": broker,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": 300_000,
            "message.max.bytes": 4_000_000,
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )


def send(
    records: Iterable[Sent],
    broker: str,
    topic: str,
    *,
    per_second: float = 0.0,
    producer: Producer | None = None,
) -> int:
    """Publish the records, acked by all replicas, and return how many; waits as long as a broker is away."""
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = producer or new_producer(broker)
    started, count = time.monotonic(), 0
    for record in records:
        headers: dict[str, str | bytes | None] = {POISON_HEADER: b"1"} if record.is_poison else {}
        while True:
            try:
                producer.produce(topic, record.value, record.key, headers=headers, on_delivery=delivered)
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
    draw = chance.random()
    if draw < parts.late:
        moment -= timedelta(days=1)
    elif draw < parts.late + parts.closed_month:
        moment -= timedelta(days=chance.choice((33, 64)))
    elif draw < parts.late + parts.closed_month + parts.ahead:
        moment = end + timedelta(seconds=chance.uniform(0, 2700))
    elif draw < parts.late + parts.closed_month + parts.ahead + parts.far_ahead:
        moment = end + timedelta(hours=chance.uniform(3, 48))
    input_tokens = chance.randrange(1, 6000)
    if chance.random() < parts.whale:
        # Not one of those that the tests' budgets are about.
        user, provider, model, input_tokens = users, "google", "gemini-2.5-flash", 10**9
    event: dict[str, Any] = {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{number}")),
        "timestamp": _text(moment),
        # One in fifty belongs to nobody.
        "user_id": f"user-{user:04d}" if number % 50 else None,
        "team_id": f"team-{user % teams:02d}" if user < users else "whales",
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
