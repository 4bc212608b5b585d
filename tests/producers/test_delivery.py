"""What becomes of events when Kafka is slow, away or gone, and when many track at once."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka import Message
from support.closed_door import open_door

from tokentide.producers import Counters, ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings

Read = Callable[[], list[Message]]


def settings(broker: str, topic: str = "usage.events") -> ProducerSettings:
    return ProducerSettings(kafka=KafkaSettings(broker=broker), topic=topic)


def ids(records: list[Message]) -> list[str]:
    return [json.loads(record.value() or b"")["event_id"] for record in records]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 15 s"
        time.sleep(0.01)


def test_flush_waits_for_the_delivery_of_everything(broker: str, topic: str, read: Read) -> None:
    with UsageProducer(broker=broker, topic=topic) as producer:
        for _ in range(100):
            producer.track(provider="openai", model="m")

        left = producer.flush(10)

        assert left == 0
        assert producer.counters == Counters(tracked=100, delivered=100)
        assert len(read()) == 100


def test_delivery_is_counted_without_anybody_calling_flush(broker: str, topic: str) -> None:
    with UsageProducer(broker=broker, topic=topic) as producer:
        producer.track(provider="openai", model="m")

        until(lambda: producer.counters.delivered == 1)


def test_a_full_queue_overflows_into_the_fallback_and_keeps_the_order(
    broker: str, topic: str, read: Read
) -> None:
    slow = replace(settings(broker, topic), linger_ms=300, queue_events=5)
    with UsageProducer(slow) as producer:
        for number in range(500):
            producer.track(event_id=f"{number:03}", provider="openai", model="m", user_id="ann")
        overflowed = producer.counters.queued

        left = producer.flush(20)

    assert overflowed > 400
    assert left == 0
    assert ids(read()) == [f"{number:03}" for number in range(500)]


def test_the_fallback_drains_without_anybody_calling_flush(broker: str, topic: str) -> None:
    with UsageProducer(replace(settings(broker, topic), linger_ms=0, queue_events=5)) as producer:
        for _ in range(200):
            producer.track(provider="openai", model="m")

        until(lambda: producer.counters.delivered == 200)


def test_what_no_queue_can_hold_is_dropped_and_counted(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    full = replace(settings(nowhere), queue_events=5, fallback_events=3, spool_dir="off")
    producer = UsageProducer(full)

    for _ in range(10):
        producer.track(provider="openai", model="m")

    counters = producer.counters
    lost = producer.close(0)
    assert counters == Counters(tracked=10, dropped=2, in_flight=5, queued=3)
    assert lost == 8
    assert producer.counters == Counters(tracked=10, dropped=5, failed=5)
    assert sum("was dropped: all queues are full" in line for line in caplog.messages) == 1


def test_an_unreachable_broker_neither_blocks_nor_raises(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    producer = UsageProducer(broker=nowhere)
    construction_seconds = time.monotonic() - started

    durations = []
    for _ in range(2000):
        started = time.monotonic()
        producer.track(provider="openai", model="m")
        durations.append(time.monotonic() - started)

    counters = producer.counters
    until(lambda: any("does not answer" in line for line in caplog.messages))
    producer.close(0)
    assert construction_seconds < 0.5
    # Not the slowest: other processes may have the machine for a while.
    assert sorted(durations)[len(durations) // 2] < 0.005
    assert (counters.tracked, counters.waiting) == (2000, 2000)
    assert sum("does not answer" in line for line in caplog.messages) == 1


def test_an_event_that_cannot_be_delivered_in_time_is_counted_as_failed(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    with UsageProducer(replace(settings(nowhere), delivery_timeout_seconds=1, spool_dir="off")) as producer:
        producer.track(provider="openai", model="m")

        until(lambda: producer.counters.failed == 1)

        assert producer.flush(0) == 0
    assert any("a usage event was given up" in line for line in caplog.messages)


@pytest.mark.parametrize("extra", [{"message.max.bytes": "1000"}, {"message.timeout.ms": "200"}])
def test_a_log_handler_may_wait_for_a_thread_that_tracks(nowhere: str, extra: dict[str, str]) -> None:
    """Of an event that is refused at once, and of one that is given up."""
    came_back: list[bool] = []

    class Metered(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "usage event was" in record.getMessage():
                other = threading.Thread(target=producer.track, kwargs={"provider": "openai", "model": "m"})
                other.start()
                other.join(5)
                came_back.append(not other.is_alive())

    handler, logger = Metered(), logging.getLogger("tokentide.producers")
    logger.addHandler(handler)
    try:
        with UsageProducer(replace(settings(nowhere), spool_dir="off", extra=extra)) as producer:
            producer.track(provider="openai", model="m", error_message="x" * 2048)
            until(lambda: len(came_back) > 0)
            producer.close(0)
    finally:
        logger.removeHandler(handler)

    assert came_back == [True]


def test_who_tracks_without_a_pause_helps_to_send(nowhere: str) -> None:
    """Python gives the thread that sends little time then; librdkafka takes 100,000 events."""
    with UsageProducer(settings(nowhere)) as producer:
        behind = 0
        for number in range(30_000):
            producer.track(provider="openai", model="m", user_id="ann")
            if number % 100 == 0:
                behind = max(behind, producer.counters.queued)
        producer.close(0)

    assert behind <= 10_001


def test_an_event_that_kafka_would_refuse_is_counted_as_failed(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer = UsageProducer(replace(settings(nowhere), extra={"message.max.bytes": "1000"}))

    producer.track(provider="openai", model="m", error_message="x" * 2048)

    waiting, counters = producer.flush(5), producer.counters
    producer.close(0)
    assert (waiting, counters) == (0, Counters(tracked=1, failed=1))
    assert any("a usage event was refused" in line for line in caplog.messages)


def test_events_wait_for_a_broker_that_comes_back(broker: str, topic: str, read: Read) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        closed_door = replace(settings(f"127.0.0.1:{door.getsockname()[1]}", topic), queue_events=5)
        with UsageProducer(replace(closed_door, extra={"reconnect.backoff.max.ms": "200"})) as producer:
            for number in range(50):
                producer.track(event_id=f"{number:02}", provider="openai", model="m", user_id="ann")
            waiting = producer.flush(0.2)

            open_door(door, broker)

            assert waiting == 50
            assert producer.flush(20) == 0
    assert ids(read()) == [f"{number:02}" for number in range(50)]


def test_eight_threads_deliver_each_event_exactly_once(broker: str, topic: str, read: Read) -> None:
    with UsageProducer(replace(settings(broker, topic), queue_events=500)) as producer:

        def work(name: int) -> None:
            for number in range(1000):
                producer.track(
                    event_id=f"{name}-{number:03}", provider="openai", model="m", user_id=str(name)
                )

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert producer.flush(30) == 0
        assert producer.counters == Counters(tracked=8000, delivered=8000)

    found = ids(read())
    assert sorted(found) == [f"{name}-{number:03}" for name in range(8) for number in range(1000)]
    for name in range(8):
        own = [event_id for event_id in found if event_id.startswith(f"{name}-")]
        assert own == sorted(own)


def test_what_is_accepted_while_the_producer_closes_arrives(broker: str, topic: str, read: Read) -> None:
    accepted: list[str] = []

    def track_until_refused(producer: UsageProducer, name: str) -> None:
        number = 0
        while producer.track(event_id=f"{name}-{number}", provider="openai", model="m"):
            accepted.append(f"{name}-{number}")
            number += 1

    for attempt in range(10):
        producer = UsageProducer(broker=broker, topic=topic)
        threads = [
            threading.Thread(target=track_until_refused, args=(producer, f"{attempt}-{thread}"))
            for thread in range(4)
        ]
        for each in threads:
            each.start()
        time.sleep(0.01)
        producer.close()
        for each in threads:
            each.join()
    with UsageProducer(broker=broker, topic=topic) as heir:
        assert heir.recover(20)

    assert len(accepted) > 400
    assert set(ids(read())) == set(accepted)


def test_it_works_from_asyncio(broker: str, topic: str, read: Read) -> None:
    async def service() -> int:
        producer = UsageProducer(broker=broker, topic=topic)

        async def call(number: int) -> None:
            await asyncio.sleep(0)
            producer.track(event_id=str(number), provider="openai", model="m")

        await asyncio.gather(*(call(number) for number in range(300)))
        return await asyncio.to_thread(producer.close, 10)

    lost = asyncio.run(service())

    assert lost == 0
    assert sorted(ids(read()), key=int) == [str(number) for number in range(300)]


def test_a_closed_producer_drops_and_counts(broker: str, topic: str, read: Read) -> None:
    producer = UsageProducer(broker=broker, topic=topic)
    producer.track(provider="openai", model="m")
    first, second = producer.close(10), producer.close(10)

    producer.track(provider="openai", model="m")

    assert (first, second) == (0, 0)
    assert producer.counters == Counters(tracked=2, delivered=1, dropped=1)
    assert producer.flush(0) == 0
    assert len(read()) == 1


@pytest.mark.parametrize("spool", [None, "off"])
def test_the_counters_always_add_up(broker: str, topic: str, spool: str | None) -> None:
    with UsageProducer(
        replace(settings(broker, topic), linger_ms=0, queue_events=10, fallback_events=50, spool_dir=spool)
    ) as producer:
        for number in range(3000):
            producer.track(provider="openai", model="m" if number % 7 else "")
            counters = producer.counters
            assert counters.in_flight >= 0
            assert counters.in_flight <= 10
            assert counters.queued <= 50 or spool is None
        assert producer.flush(20) == 0

    counters = producer.counters
    assert counters.invalid == 429
    assert counters.tracked == counters.invalid + counters.dropped + counters.delivered == 3000
