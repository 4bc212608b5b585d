"""Lanes: every record once, in order, without a hole, and nothing committed that is not durable."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tokentide.schemas import DataLossError, KafkaSettings, ServiceUnavailableError
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.gauge import Gauge
from tokentide.streams.lanes import Lanes
from tokentide.streams.log import Log

Write = Callable[[int, int], None]


class Memory:
    """A stage that keeps what it gets; durable is what was flushed."""

    def __init__(self, topic: str, position: int | None = None, delay: float = 0.0) -> None:
        self.topic = topic
        self.position = position
        self.delay = delay
        self.got: list[int] = []
        self.closed: list[int] = []

    async def open(self, partition: int) -> int | None:
        await asyncio.sleep(self.delay)
        return self.position

    def close(self, partition: int) -> None:
        self.closed.append(partition)

    async def take(self, chunk: Chunk) -> None:
        self.got.extend(record.offset for record in chunk.records)

    async def flush(self) -> Mapping[int, int]:
        return {0: self.got[-1] + 1} if self.got else {}

    drain = flush


def chunk(topic: str, *offsets: int) -> Chunk:
    return Chunk(topic, 0, tuple(Record(offset, 0, None, b"") for offset in offsets))


def lanes_of(stage: Memory, kafka: KafkaSettings, seconds: float = 5.0) -> tuple[Lanes, list[BaseException]]:
    failures: list[BaseException] = []
    return Lanes(stage, Log(kafka), seconds, failures.append), failures


def test_repeats_are_trimmed_and_the_rest_is_handed_on(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> list[int]:
        stage = Memory(topic, position=3)
        lanes, _ = lanes_of(stage, kafka)
        lanes.assign({0}, 1)
        for offsets in ((0, 1, 2), (1, 2, 3, 4), (4, 5)):
            await lanes.take(chunk(topic, *offsets), 1)
        return stage.got

    assert asyncio.run(scenario()) == [3, 4, 5]


def test_a_hole_that_the_log_does_not_have_stops(kafka: KafkaSettings, topic: str, write: Write) -> None:
    write(0, 10)

    async def scenario() -> None:
        lanes, _ = lanes_of(Memory(topic, position=3), kafka)
        lanes.assign({0}, 1)
        await lanes.take(chunk(topic, 5, 6), 1)

    with pytest.raises(
        DataLossError, match=r"records from offset 3 were not delivered to this worker, which got 5"
    ):
        asyncio.run(scenario())


def test_the_start_of_the_log_is_no_hole_but_a_later_start_is(
    kafka: KafkaSettings, topic: str, write: Write
) -> None:
    write(0, 10)

    async def begin_at(offset: int) -> list[int]:
        stage = Memory(topic)
        lanes, _ = lanes_of(stage, kafka)
        lanes.assign({0}, 1)
        await lanes.take(chunk(topic, offset), 1)
        return stage.got

    assert asyncio.run(begin_at(0)) == [0]
    with pytest.raises(DataLossError):
        asyncio.run(begin_at(4))


def test_a_chunk_of_an_earlier_generation_is_left_alone(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> list[int]:
        stage = Memory(topic, position=0)
        lanes, _ = lanes_of(stage, kafka)
        lanes.assign({0}, 1)
        lanes.assign({0}, 2)
        await lanes.take(chunk(topic, 0, 1), 1)
        return stage.got

    assert asyncio.run(scenario()) == []


def test_a_partition_that_changed_hands_commits_nothing_of_before(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> dict[int, int]:
        stage = Memory(topic, position=0)
        lanes, _ = lanes_of(stage, kafka)
        lanes.assign({0}, 1)
        await lanes.take(chunk(topic, 0, 1), 1)
        await lanes.flush()
        assert lanes.committable == {0: 2}
        lanes.assign(set(), 2)
        assert stage.closed == [0]
        await lanes.flush()
        return lanes.committable

    assert asyncio.run(scenario()) == {}


def test_what_was_durable_before_a_crash_may_be_committed_at_once(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> dict[int, int]:
        lanes, _ = lanes_of(Memory(topic, position=7), kafka)
        lanes.assign({0}, 1)
        await lanes.opened()
        return lanes.committable

    assert asyncio.run(scenario()) == {0: 7}


def test_a_recovery_that_takes_too_long_stops(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> list[BaseException]:
        lanes, failures = lanes_of(Memory(topic, delay=5), kafka, seconds=0.05)
        lanes.assign({0}, 1)
        await lanes.opened()
        return failures

    [failure] = asyncio.run(scenario())
    assert isinstance(failure, ServiceUnavailableError)
    assert "TOKENTIDE_RECOVERY_SECONDS" in str(failure)


def test_a_chunk_waits_for_the_recovery_of_its_partition(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> list[int]:
        stage = Memory(topic, position=1, delay=0.1)
        lanes, _ = lanes_of(stage, kafka)
        lanes.assign({0}, 1)
        await lanes.take(chunk(topic, 0, 1, 2), 1)
        return stage.got

    assert asyncio.run(scenario()) == [1, 2]


def test_a_chunk_that_waited_for_a_recovery_that_was_cut_off_is_left_alone(
    kafka: KafkaSettings, topic: str, write: Write
) -> None:
    write(0, 10)

    async def scenario() -> list[int]:
        stage = Memory(topic, position=3, delay=5)
        lanes, _ = lanes_of(stage, kafka)
        lanes.assign({0}, 1)
        waiting = asyncio.create_task(lanes.take(chunk(topic, 5, 6), 1))
        await asyncio.sleep(0)
        lanes.assign({0}, 2)
        await waiting
        return stage.got

    assert asyncio.run(scenario()) == []


def test_gauges_tell_where_each_partition_stands_and_how_long_flushes_take(
    kafka: KafkaSettings, topic: str
) -> None:
    moments = iter(range(100))

    async def scenario() -> tuple[list[Gauge], list[Gauge]]:
        stage = Memory(topic, position=3)
        lanes = Lanes(
            stage,
            Log(kafka),
            5.0,
            lambda error: None,
            clock=lambda: float(next(moments)),
            wall=lambda: 6.0,
        )
        lanes.assign({0, 1}, 1)
        recovering = list(lanes.gauges(lambda partition: None))
        await lanes.opened()
        await lanes.take(chunk(topic, 3, 4), 1)
        await lanes.flush()
        await lanes.flush()
        return recovering, list(lanes.gauges({0: 9}.get))

    recovering, flushed = asyncio.run(scenario())
    lane = {"topic": topic, "partition": "0"}
    assert Gauge("tokentide_partitions_recovering", {"topic": topic}, 2) in recovering
    assert not any("partition" in gauge.labels for gauge in recovering)
    assert [gauge for gauge in flushed if gauge.labels == lane] == [
        Gauge("tokentide_position", lane, 5),
        Gauge("tokentide_committable", lane, 5),
        Gauge("tokentide_end_offset", lane, 9),
        Gauge("tokentide_consumer_lag", lane, 4),
    ]
    assert {name: value for name, labels, value in flushed if labels == {"topic": topic}} == {
        "tokentide_partitions": 2,
        "tokentide_partitions_recovering": 0,
        "tokentide_records_taken_total": 2,
        "tokentide_flushes_total": 1,
        "tokentide_flush_seconds_total": 1,
        "tokentide_delay_seconds": 6.0,
        "tokentide_flush_running_seconds": 0,
    }


def test_a_flush_that_does_not_end_shows_how_long_it_runs(kafka: KafkaSettings, topic: str) -> None:
    class Stuck(Memory):
        async def flush(self) -> Mapping[int, int]:
            await asyncio.sleep(3600)
            return {}

    moments = iter((10.0, 52.0))

    async def scenario() -> list[Gauge]:
        lanes = Lanes(Stuck(topic), Log(kafka), 5.0, lambda error: None, clock=lambda: next(moments))
        flush = asyncio.create_task(lanes.flush())
        await asyncio.sleep(0)
        gauges = list(lanes.gauges(lambda partition: None))
        flush.cancel()
        return gauges

    assert Gauge("tokentide_flush_running_seconds", {"topic": topic}, 42.0) in asyncio.run(scenario())


def test_a_gauge_tells_how_old_a_record_was_when_it_became_durable(kafka: KafkaSettings, topic: str) -> None:
    def aged(offset: int, seconds: int) -> Chunk:
        return Chunk(
            topic, 0, (Record(offset, seconds * 1000, None, b""), Record(offset + 1, 99_000, None, b""))
        )

    failures: list[BaseException] = []

    async def scenario() -> list[float]:
        stage = Memory(topic, position=0)
        lanes = Lanes(stage, Log(kafka), 5.0, failures.append, wall=lambda: 100.0)
        lanes.assign({0}, 1)
        await lanes.opened()
        seen = [_delay(lanes)]
        await lanes.take(aged(0, 90), 1)
        await lanes.take(aged(2, 95), 1)
        stage.got = stage.got[:2]
        await lanes.flush()
        stage.got += [2, 3]
        seen += [_delay(lanes), _delay(lanes)]
        await lanes.flush()
        return [*seen, _delay(lanes)]

    assert asyncio.run(scenario()) == [0.0, 10.0, 0.0, 5.0]
    assert not failures


def _delay(lanes: Lanes) -> float:
    """Return the gauge; who reads it begins anew."""
    (delay,) = (
        gauge.value for gauge in lanes.gauges(lambda _: None) if gauge.name == "tokentide_delay_seconds"
    )
    return delay
