"""The spend stage where `usage.priced` has holes: it counts what is there, and nothing twice."""

import asyncio
import json

import pytest
from confluent_kafka import Producer
from support.priced import priced

from tokentide.schemas import KafkaSettings, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.stages import SpendStage


@pytest.fixture
def changelog(cluster: Producer, topic: str) -> str:
    """A second new topic."""
    name = f"{topic}-changelog"
    cluster.list_topics(name, timeout=10)
    return name


def requests_of_u1(kafka: KafkaSettings, spend: str, changelog: str, records: list[Record]) -> int:
    """What `usage.spend` says in the end, when each record comes as a chunk of its own."""
    log = Log(kafka)

    async def scenario() -> None:
        outbox = Outbox(kafka, 30.0, lambda error: None)
        stage = SpendStage(TopicNames(spend=spend), changelog, 1, outbox, log, committed=lambda *place: None)
        assert await stage.open(0) is None
        for record in records:
            await stage.take(Chunk("usage.priced", 0, (record,)))
        await stage.drain()
        outbox.close()

    asyncio.run(scenario())
    updates = [json.loads(record.value or b"") for record in log.read(spend, 0, 0)]
    (day,) = [
        total
        for total in next(update for update in updates if update["scope"] == "user")["totals"]
        if total["period"] == "day"
    ]
    return int(day["requests"])


def test_what_stands_behind_records_that_retention_took_is_counted(
    kafka: KafkaSettings, topic: str, changelog: str
) -> None:
    records = [priced(0, 0, 9), priced(5, 30, 39), priced(6, 40, 49)]

    assert requests_of_u1(kafka, topic, changelog, records) == 30


def test_what_a_worker_sent_after_a_record_that_it_lost_is_counted_when_it_comes_again(
    kafka: KafkaSettings, topic: str, changelog: str
) -> None:
    records = [priced(0, 0, 9), priced(1, 20, 29), priced(2, 10, 24), priced(3, 25, 34)]

    assert requests_of_u1(kafka, topic, changelog, records) == 35
