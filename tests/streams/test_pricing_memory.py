"""What the pricing stage knows when it opens a partition: its own disk, and what the log says beyond it."""

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tokentide.schemas import DataLossError, KafkaSettings, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import read_chunk
from tokentide.streams.coverage import coverage
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.prices import Catalogue
from tokentide.streams.stages import PricingStage

NOW_MS = 1_793_534_400_000
NAMES = [f"id-{number % 30}" for number in range(60)]
"""Every id twice."""


class ReadingLog(Log):
    """Remembers from where it was read."""

    def __init__(self, kafka: KafkaSettings) -> None:
        super().__init__(kafka)
        self.starts: list[int] = []

    def read(self, topic: str, partition: int, start: int) -> Iterator[Record]:
        self.starts.append(start)
        return super().read(topic, partition, start)


class Worker:
    """A pricing stage with a disk of its own."""

    def __init__(self, kafka: KafkaSettings, topics: TopicNames, folder: Path) -> None:
        self.kafka, self.topics, self.folder = kafka, topics, folder
        self.failures: list[DataLossError] = []
        self.log = ReadingLog(kafka)

    async def open(self) -> PricingStage:
        outbox = Outbox(self.kafka, 30.0, self.failures.append)
        self.stage = PricingStage(
            self.topics,
            outbox,
            self.log,
            Catalogue(),
            committed=lambda _topic, _partition: None,
            seen_dir=self.folder,
            dedupe_days=7,
            max_future_seconds=3600,
            spilled_ids=5,
        )
        self.outbox = outbox
        self.position = await self.stage.open(0)
        return self.stage

    async def take(self, first: int, last: int) -> None:
        """Price these offsets, wait until they are delivered, and until the disk has what it should."""
        records = (Record(offset, NOW_MS, None, event(NAMES[offset])) for offset in range(first, last + 1))
        await self.stage.take(Chunk(self.topics.events, 0, tuple(records)))
        await self.stage.flush()
        await asyncio.sleep(0.05)
        await self.stage.flush()

    def close(self) -> None:
        self.stage.close(0)
        self.outbox.close()

    def work(self, *chunks: tuple[int, int]) -> int | None:
        """Open, take, close; returns where it began."""

        async def scenario() -> int | None:
            await self.open()
            for first, last in chunks:
                await self.take(first, last)
            self.close()
            return self.position

        position = asyncio.run(scenario())
        assert self.failures == []
        return position


def event(event_id: str) -> bytes:
    values = {
        "event_id": event_id,
        "timestamp": "2026-11-01T11:59:00Z",
        "provider": "openai",
        "model": "gpt-4o",
    }
    return json.dumps(values).encode()


def made(cluster: Producer, kafka: KafkaSettings, topics: TopicNames) -> None:
    """Make the topics, and put all events into the first."""
    for name in (topics.events, topics.priced, topics.rejected):
        cluster.list_topics(name, timeout=10)
    producer = Producer(kafka.librdkafka())
    for name in NAMES:
        producer.produce(topics.events, event(name), partition=0)
    assert producer.flush(10) == 0


def rows(kafka: KafkaSettings, topics: TopicNames) -> list[int]:
    """The source offsets that `usage.priced` holds, of records that continue what is before them."""
    found: list[int] = []
    fence = -1
    for record in Log(kafka).read(topics.priced, 0, 0):
        first, last = coverage(record, "priced")
        assert record.value is not None
        if first > fence + 1 or last <= fence:
            continue
        offsets: list[int] = read_chunk(record.value, ["source_offset"])["source_offset"].to_pylist()  # type: ignore[assignment]
        found += [offset for offset in offsets if offset > fence]
        fence = last
    return found


@pytest.fixture
def topics(cluster: Producer, kafka: KafkaSettings, topic: str) -> TopicNames:
    """Topics of their own for a test."""
    names = TopicNames(events=f"{topic}-e", priced=f"{topic}-p", rejected=f"{topic}-r")
    made(cluster, kafka, names)
    return names


def test_only_what_lies_behind_the_disk_is_read_from_the_log(
    kafka: KafkaSettings, topics: TopicNames, tmp_path: Path
) -> None:
    worker = Worker(kafka, topics, tmp_path)
    assert worker.work((0, 9), (10, 19), (20, 22)) is None
    worker.log.starts.clear()

    assert worker.work((23, 59)) == 23

    assert worker.log.starts == [1], "its mark stands behind the second record"
    assert rows(kafka, topics) == list(range(30))


def test_a_lost_folder_is_read_back_from_the_log(
    kafka: KafkaSettings, topics: TopicNames, tmp_path: Path
) -> None:
    worker = Worker(kafka, topics, tmp_path)
    worker.work((0, 9), (10, 34))
    shutil.rmtree(tmp_path)

    assert worker.work((35, 59)) == 35

    assert worker.log.starts == [0, 0]
    assert rows(kafka, topics) == list(range(30))


def test_a_partition_that_was_elsewhere_meanwhile_is_caught_up(
    kafka: KafkaSettings, topics: TopicNames, tmp_path: Path
) -> None:
    first, second = Worker(kafka, topics, tmp_path / "1"), Worker(kafka, topics, tmp_path / "2")
    first.work((0, 9))
    assert second.work((10, 29)) == 10

    assert first.work((30, 39)) == 30
    assert second.work((40, 59)) == 40

    assert rows(kafka, topics) == list(range(30))
    assert first.log.starts == [0, 0]
    assert second.log.starts == [0, 1], "the record behind which its mark stands, and those after it"


def test_a_log_that_was_made_anew_is_not_taken_for_the_old_one(
    kafka: KafkaSettings, topics: TopicNames, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Worker(kafka, topics, tmp_path).work((0, 29))
    host = Producer({"test.mock.num.brokers": 1, "logger": logging.getLogger("mock")})
    (node,) = host.list_topics(timeout=10).brokers.values()
    other = KafkaSettings(f"{node.host}:{node.port}")
    made(host, other, topics)
    elsewhere = Worker(other, topics, tmp_path / "elsewhere")
    elsewhere.work((0, 19))

    again = Worker(other, topics, tmp_path)

    assert again.work((20, 59)) == 20, "not 30, as the disk says"
    assert rows(other, topics) == list(range(30))
    assert "are not those of" in caplog.text
    del host


def test_an_emptied_log_is_not_taken_for_the_old_one(
    kafka: KafkaSettings, topics: TopicNames, tmp_path: Path
) -> None:
    Worker(kafka, topics, tmp_path).work((0, 29))
    host = Producer({"test.mock.num.brokers": 1, "logger": logging.getLogger("mock")})
    (node,) = host.list_topics(timeout=10).brokers.values()
    other = KafkaSettings(f"{node.host}:{node.port}")
    made(host, other, topics)

    assert Worker(other, topics, tmp_path).work((0, 59)) is None

    assert rows(other, topics) == list(range(30))
    del host


def test_the_disk_of_a_worker_that_woke_up_too_late_is_read_again_from_the_log(
    kafka: KafkaSettings, topics: TopicNames, tmp_path: Path
) -> None:
    late, owner = Worker(kafka, topics, tmp_path / "late"), Worker(kafka, topics, tmp_path / "owner")

    async def scenario() -> None:
        await late.open()
        await late.take(0, 9)
        await owner.open()
        await owner.take(10, 24)
        # The frozen one goes on for a moment: its mark stands behind records that it never saw.
        await late.take(10, 19)
        await owner.take(25, 29)
        late.close()
        owner.close()

    asyncio.run(scenario())

    assert late.work((30, 59)) == 30
    assert late.log.starts[1:] == [2, 0]
    assert rows(kafka, topics) == list(range(30))


def test_an_events_topic_that_ends_before_what_was_read_of_it_stops(
    cluster: Producer, kafka: KafkaSettings, topics: TopicNames, tmp_path: Path
) -> None:
    Worker(kafka, topics, tmp_path).work((0, 29))
    anew = TopicNames(events=f"{topics.events}-anew", priced=topics.priced, rejected=topics.rejected)
    cluster.list_topics(anew.events, timeout=10)

    with pytest.raises(DataLossError, match=r"ends at offset 0, but .* rows up to 29: .*TOKENTIDE_METER_ID"):
        Worker(kafka, anew, tmp_path).work()


def test_a_recovery_that_is_cancelled_leaves_the_folder_free(
    kafka: KafkaSettings, topics: TopicNames, tmp_path: Path
) -> None:
    worker = Worker(kafka, topics, tmp_path)
    worker.work((0, 29))

    async def scenario() -> None:
        opening = asyncio.create_task(worker.open())
        await asyncio.sleep(0.01)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)

    asyncio.run(scenario())

    assert worker.work((30, 59)) == 30
    assert rows(kafka, topics) == list(range(30))
