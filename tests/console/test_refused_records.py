"""A record that Kafka refuses, here for its size: nothing else may be stored that speaks for it."""

import asyncio
import json
import random
from collections.abc import Awaitable
from datetime import UTC, datetime
from itertools import count

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tokentide.schemas import DataLossError, KafkaSettings, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import write_chunk
from tokentide.streams.coverage import coverage_headers
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.prices import Catalogue
from tokentide.streams.pricing import price_chunk
from tokentide.streams.seen import SeenIds
from tokentide.streams.spend import FENCE_KEY
from tokentide.streams.stages import PricingStage, SpendStage

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
_NUMBERS = count(1)


def create(kafka: str, largest_bytes: int = 4_000_000) -> str:
    """Make a topic of one partition, and return its name."""
    name = f"refusing-{next(_NUMBERS)}"
    topic = NewTopic(name, 1, 1, config={"max.message.bytes": str(largest_bytes)})
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([topic])[name].result(20)
    return name


def event(number: int) -> bytes:
    return json.dumps(
        {
            "event_id": f"e-{number}",
            "timestamp": NOW.isoformat(),
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": 10,
            "output_tokens": 1,
            "user_id": random.Random(number).randbytes(30).hex(),
        }
    ).encode()


def chunk(*values: bytes) -> Chunk:
    moment = int(NOW.timestamp() * 1000)
    return Chunk("usage.events", 0, tuple(Record(at, moment, None, value) for at, value in enumerate(values)))


async def until_refused(work: Awaitable[object], failures: list[DataLossError]) -> None:
    """Let a stage work until the process would end, and a second longer."""
    task = asyncio.ensure_future(work)
    async with asyncio.timeout(30):
        while not failures:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    task.cancel()


def test_an_event_is_not_covered_before_its_refusal_is_stored(kafka: str) -> None:
    settings, failures = KafkaSettings(kafka), list[DataLossError]()
    log = Log(settings)
    topics = TopicNames(priced=create(kafka), rejected=create(kafka, largest_bytes=500))

    async def scenario() -> None:
        outbox = Outbox(settings, 10.0, failures.append)
        stage = PricingStage(
            topics,
            outbox,
            log,
            Catalogue(),
            committed=lambda topic, partition: None,
            dedupe_days=7,
            max_future_seconds=3600,
        )
        await stage.open(0)
        await until_refused(stage.take(chunk(event(1), random.Random(1).randbytes(1000))), failures)
        outbox.close()

    asyncio.run(scenario())

    assert topics.rejected in str(failures[0])
    assert list(log.read(topics.priced, 0, 0)) == []


def test_a_fence_is_not_stored_before_the_totals_that_it_speaks_for(kafka: str) -> None:
    """More totals than one batch of librdkafka takes: those are too large for the topic, the last may not be."""
    settings, failures = KafkaSettings(kafka), list[DataLossError]()
    log = Log(settings)
    topics, changelog = TopicNames(spend=create(kafka)), create(kafka, largest_bytes=20_000)
    events = chunk(*map(event, range(12_000)))
    rows = price_chunk(events, SeenIds(7), Catalogue(), NOW, 3600).rows
    priced = Record(0, 0, None, write_chunk(rows), tuple(coverage_headers(events.first, events.last)))

    async def scenario() -> None:
        outbox = Outbox(settings, 10.0, failures.append)
        stage = SpendStage(topics, changelog, 1, outbox, log)
        await stage.open(0)
        await stage.take(Chunk("usage.priced", 0, (priced,)))
        await until_refused(stage.flush(), failures)
        outbox.close()

    asyncio.run(scenario())

    assert changelog in str(failures[0])
    assert FENCE_KEY not in {record.key for record in log.read(changelog, 0, 0)}
