"""The events that are measured with, and a topic full of them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from answers import Answers

from tokentide.producers import UsageProducer
from tokentide.producers.cloud_event import Record, record_of
from tokentide.schemas import UsageEvent

MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-flash"),
)
_FLUSH_EVERY = 10_000


@dataclass(frozen=True)
class Course:
    """A topic to run over, and what is right at its end."""

    topic: str
    events: int
    warm: int
    """The clock starts when so many events were taken in."""
    want: Answers


def event(number: int, users: int) -> dict[str, Any]:
    """Some 20 fields, 450 bytes of JSON."""
    provider, model = MODELS[number % len(MODELS)]
    return {
        "user_id": f"user-{number * 7919 % users:06d}",
        "team_id": f"team-{number * 7919 % users % 50:02d}",
        "org_id": "acme",
        "session_id": f"session-{number % 5000}",
        "operation": ("search", "summary", "chat")[number % 3],
        "provider": provider,
        "model": model,
        "request_id": f"req_{number:024d}",
        "service": "gateway",
        "environment": "prod",
        "input_tokens": 200 + number % 4000,
        "output_tokens": 20 + number % 600,
        "cache_read_tokens": number % 150,
        "latency_ms": 812.0,
        "ttft_ms": 180.0,
        "finish_reason": "stop",
        "stream": True,
        "tags": {"env": "prod", "feature": "search"},
    }


def events(count: int, users: int) -> Iterator[dict[str, Any]]:
    """Yield the events of a topic, with their times: the totals depend on the day."""
    for number in range(count):
        yield {**event(number, users), "timestamp": datetime.now(UTC)}


def records(count: int, users: int) -> list[Record]:
    """Return the records of so many events, as the SDK writes them."""
    return [record_of(UsageEvent(**each), "benchmark") for each in events(count, users)]


def fill(broker: str, topic: str, count: int, warm: int, users: int) -> Course:
    """Write so many events into the topic, as a service does; return it with the answers."""
    answers = Answers()

    def counted() -> Iterator[dict[str, Any]]:
        for each in events(count, users):
            answers.add(each)
            yield each

    send(broker, topic, counted())
    return Course(topic, count, warm, answers)


def send(broker: str, topic: str, made: Iterator[dict[str, Any]]) -> None:
    """Write these events into the topic. Raises RuntimeError when Kafka does not take them all."""
    sent = 0
    with UsageProducer(broker=broker, topic=topic) as producer:
        # Less at once than the producer's queues hold, or it would drop some.
        for batch in batches(made, _FLUSH_EVERY):
            for each in batch:
                producer.track(**each)
            sent += len(batch)
            if producer.flush(120) != 0 or producer.counters.delivered != sent:
                raise RuntimeError(f"Kafka at {broker} did not take all events: {producer.counters}")


def batches(found: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Cut into lists of at most this size."""
    while batch := list(itertools.islice(found, size)):
        yield batch
