"""A record that Kafka refuses, here for its size: nothing else may be stored that speaks for it."""

import asyncio
import base64
import json
import random
from collections.abc import Awaitable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tokentide.console.kafka import KafkaCluster
from tokentide.schemas import DataLossError, KafkaSettings, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.coverage import coverage
from tokentide.streams.day import FENCE_KEY
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.prices import Catalogue
from tokentide.streams.stages import PricingStage
from tokentide.streams.stages.changelog import Changelog

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
            "user_id": f"user-{number}",
        }
    ).encode()


def noise() -> bytes:
    """An event whose priced row no compression brings below 16 kB; that of another one is 3 kB then."""
    text = base64.b64encode(random.Random(1).randbytes(1500)).decode()
    fields = json.loads(event(9)) | {"event_id": "noise", "error_message": text}
    tags = {f"t{at}": base64.b64encode(random.Random(at).randbytes(180)).decode() for at in range(32)}
    return json.dumps(fields | {"tags": tags, "metadata": {"m": "".join(tags.values())[:8000]}}).encode()


def chunk(*values: bytes, first: int = 0) -> Chunk:
    moment = int(NOW.timestamp() * 1000)
    records = (Record(at, moment, None, value) for at, value in enumerate(values, first))
    return Chunk("usage.events", 0, tuple(records))


def made(topics: TopicNames, outbox: Outbox, log: Log, folder: Path) -> PricingStage:
    return PricingStage(
        topics,
        outbox,
        log,
        Catalogue(),
        committed=lambda topic, partition: None,
        seen_dir=folder,
        dedupe_days=7,
        max_future_seconds=3600,
    )


async def take_all(stage: PricingStage, *chunks: Chunk, pause: float = 0.0) -> None:
    """Hand the chunks to the stage one after the other, as a worker does."""
    for work in chunks:
        await stage.take(work)
        await asyncio.sleep(pause)


async def until_refused(work: Awaitable[object], failures: list[DataLossError]) -> None:
    """Let a stage work until the process would end, and a second longer."""
    task = asyncio.ensure_future(work)
    async with asyncio.timeout(30):
        while not failures:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    task.cancel()


def test_an_event_is_not_covered_before_its_refusal_is_stored(kafka: str, tmp_path: Path) -> None:
    settings, failures = KafkaSettings(kafka), list[DataLossError]()
    log = Log(settings)
    topics = TopicNames(priced=create(kafka), rejected=create(kafka, largest_bytes=500))

    async def scenario() -> None:
        outbox = Outbox(settings, 10.0, failures.append)
        stage = made(topics, outbox, log, tmp_path)
        await stage.open(0)
        await until_refused(stage.take(chunk(event(1), random.Random(1).randbytes(1000))), failures)
        outbox.close()

    asyncio.run(scenario())

    assert topics.rejected in str(failures[0])
    assert list(log.read(topics.priced, 0, 0)) == []


def test_a_chunk_is_not_stored_behind_one_that_was_refused(kafka: str, tmp_path: Path) -> None:
    """Also not as the very first record of a partition, where Kafka takes a producer's records from anywhere on."""
    settings, failures = KafkaSettings(kafka), list[DataLossError]()
    topics = TopicNames(priced=create(kafka, largest_bytes=10_000), rejected=create(kafka))

    async def scenario() -> None:
        outbox = Outbox(settings, 10.0, failures.append)
        stage = made(topics, outbox, Log(settings), tmp_path)
        await stage.open(0)
        await until_refused(take_all(stage, chunk(noise()), chunk(event(1), first=1), pause=0.05), failures)
        outbox.close()

    asyncio.run(scenario())

    assert topics.priced in str(failures[0])
    assert list(Log(settings).read(topics.priced, 0, 0)) == []


def test_the_parts_of_a_chunk_are_stored_one_behind_the_other(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokentide.streams.stages.pricing._MAX_RECORD_BYTES", 16_000)
    settings, failures = KafkaSettings(kafka), list[DataLossError]()
    topics = TopicNames(priced=create(kafka, largest_bytes=10_000), rejected=create(kafka))
    work = chunk(event(0), event(1), noise(), event(3))

    async def scenario() -> None:
        outbox = Outbox(settings, 10.0, failures.append)
        stage = made(topics, outbox, Log(settings), tmp_path)
        await stage.open(0)
        await until_refused(stage.take(work), failures)
        outbox.close()

    asyncio.run(scenario())

    stored = [coverage(record, "priced") for record in Log(settings).read(topics.priced, 0, 0)]
    assert stored == [(0, 1)]


@pytest.mark.slow
def test_a_chunk_is_not_stored_behind_one_that_timed_out(jars: list[Path], tmp_path: Path) -> None:
    """The broker dies, comes back after the first record's time is over and before the second one's is."""
    failures = list[DataLossError]()

    async def scenario(cluster: KafkaCluster) -> list[tuple[int, int]]:
        settings = KafkaSettings(cluster.bootstrap)
        topics = TopicNames(priced=create(cluster.bootstrap), rejected=create(cluster.bootstrap))
        outbox = Outbox(settings, 10.0, failures.append)
        stage = made(topics, outbox, Log(settings), tmp_path / "seen")
        await stage.open(0)
        (node,) = cluster.pids
        cluster.kill(node)
        work = asyncio.ensure_future(take_all(stage, chunk(event(0)), chunk(event(1), first=1), pause=4.0))
        await asyncio.sleep(4.5)
        await asyncio.to_thread(cluster.restart, node)
        await until_refused(work, failures)
        await asyncio.sleep(5)
        outbox.close()
        return [coverage(record, "priced") for record in Log(settings).read(topics.priced, 0, 0)]

    with KafkaCluster(tmp_path / "kafka") as cluster:
        stored = asyncio.run(scenario(cluster))

    assert failures
    assert stored in ([], [(0, 0)])


def test_a_fence_is_not_stored_before_the_totals_that_it_speaks_for(kafka: str) -> None:
    """The totals fill a batch of librdkafka's of their own; the fence would go with the next."""
    settings, failures = KafkaSettings(kafka), list[DataLossError]()
    log, topic = Log(settings), create(kafka, largest_bytes=500_000)
    records = [(0, b"user:u-1|2026-11-01", random.Random(1).randbytes(1_100_000)), (0, FENCE_KEY, b"{}")]

    async def scenario() -> None:
        outbox = Outbox(settings, 10.0, failures.append)
        await until_refused(Changelog(topic, FENCE_KEY, outbox, log).remember(records), failures)
        outbox.close()

    asyncio.run(scenario())

    assert topic in str(failures[0])
    assert list(log.read(topic, 0, 0)) == []
