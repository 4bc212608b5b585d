"""What a worker does that must give its partitions up while Kafka takes nothing, on a real Kafka."""

import asyncio
import json
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from faust.types import TP
from support.frozen import frozen
from support.priced import priced

from tokentide.console.kafka.cluster import KafkaCluster
from tokentide.schemas import KafkaSettings, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.stages import SpendStage
from tokentide.streams.worker import Worker
from tokentide.streams.worker_settings import WorkerSettings

PLACE = TP("priced", 0)


def requests_of_u1(updates: list[Record]) -> int:
    """What the last update of the user says of the day."""
    told = [json.loads(record.value or b"") for record in updates if record.key == b"user:u-1|0"]
    (day,) = [total for total in told[-1]["totals"] if total["period"] == "day"]
    return int(day["requests"])


@pytest.mark.slow
def test_a_flush_that_outlasts_a_revocation_loses_nothing_that_it_took(tmp_path: Path) -> None:
    """The next flush writes a fence: what the one before took must be below it."""
    with KafkaCluster(tmp_path / "kafka") as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        for made in admin.create_topics([NewTopic("spend", 1), NewTopic("changelog", 1)]).values():
            made.result(30)
        kafka = KafkaSettings(cluster.bootstrap)
        log = Log(kafka)

        def stage_on(outbox: Outbox) -> SpendStage:
            topics = TopicNames(priced=PLACE.topic, spend="spend")
            return SpendStage(topics, "changelog", 1, outbox, log, committed=lambda *place: None)

        async def take(stage: SpendStage, *records: Record) -> None:
            await stage.take(Chunk(PLACE.topic, PLACE.partition, records))

        async def work() -> None:
            outbox = Outbox(kafka, 30.0, lambda error: None)
            stage = stage_on(outbox)
            worker = Worker(
                WorkerSettings(
                    "meter", "meter-1", kafka, tmp_path, session_timeout_seconds=3, flush_seconds=1
                ),
                [stage],
            )
            worker.assigned({PLACE}, 1)
            while not list(stage.gauges()):
                await asyncio.sleep(0.05)
            await take(stage, priced(0, 0, 9))
            with frozen(cluster):
                await worker.revoked({PLACE})
            await take(stage, priced(1, 10, 19, "u-2"))
            await stage.flush()
            outbox.close()

        async def next_owner() -> None:
            outbox = Outbox(kafka, 30.0, lambda error: None)
            stage = stage_on(outbox)
            assert await stage.open(0) == 2
            await take(stage, priced(2, 20, 20))
            await stage.drain()
            outbox.close()

        asyncio.run(work())
        asyncio.run(next_owner())
        assert requests_of_u1(list(log.read("spend", 0, 0))) == 11
