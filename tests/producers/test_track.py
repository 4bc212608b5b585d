"""From track() to a record in Kafka."""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Message

from tokentide.producers import UsageProducer
from tokentide.schemas import UsageEvent

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
Read = Callable[[], list[Message]]


def test_fields_become_a_small_json_record(broker: str, topic: str, read: Read) -> None:
    with UsageProducer(broker=broker, topic=topic, clock=lambda: NOON) as producer:
        producer.track(
            event_id="e-1", provider="openai", model="gpt-4o", user_id="ann", input_tokens=7, service=None
        )

    (record,) = read()
    assert record.value() == (
        b'{"event_id":"e-1","schema_version":1,"timestamp":"2026-03-01T12:00:00Z","user_id":"ann",'
        b'"provider":"openai","model":"gpt-4o","input_tokens":7,"total_tokens":7}'
    )


def test_a_record_is_a_cloud_event_in_binary_mode(broker: str, topic: str, read: Read) -> None:
    with UsageProducer(broker=broker, topic=topic, clock=lambda: NOON) as producer:
        producer.track(event_id="e-1", provider="openai", model="gpt-4o", user_id="ann", service="my chat")

    (record,) = read()
    assert dict(record.headers() or []) == {
        "ce_specversion": b"1.0",
        "ce_type": b"ai.usage.recorded.v1",
        "ce_id": b"e-1",
        "ce_source": b"my%20chat",
        "ce_time": b"2026-03-01T12:00:00Z",
        "ce_subject": b"ann",
        "content-type": b"application/json",
    }


def test_the_record_timestamp_is_the_produce_time(broker: str, topic: str, read: Read) -> None:
    before = time.time()

    with UsageProducer(broker=broker, topic=topic) as producer:
        producer.track(provider="openai", model="gpt-4o", timestamp=datetime(2020, 1, 1, tzinfo=UTC))

    (record,) = read()
    assert before - 1 <= record.timestamp()[1] / 1000 <= time.time() + 1


@pytest.mark.parametrize("user", [None, ""])
def test_the_key_is_the_event_id_when_there_is_no_user(
    broker: str, topic: str, read: Read, user: str | None
) -> None:
    with UsageProducer(broker=broker, topic=topic) as producer:
        producer.track(event_id="e-1", provider="openai", model="gpt-4o", user_id=user)

    (record,) = read()
    assert record.key() == b"e-1"
    assert "ce_subject" not in dict(record.headers() or [])


def test_events_of_a_user_stay_in_one_partition_in_order(broker: str, topic: str, read: Read) -> None:
    with UsageProducer(broker=broker, topic=topic) as producer:
        for number in range(200):
            producer.track(
                event_id=f"{number:03}", provider="openai", model="gpt-4o", user_id=f"user {number % 5}"
            )

    records = read()
    for user in range(5):
        own = [record for record in records if record.key() == f"user {user}".encode()]
        ids = [json.loads(record.value() or b"")["event_id"] for record in own]
        assert len({record.partition() for record in own}) == 1
        assert ids == sorted(ids)
        assert len(ids) == 40


def test_keys_are_placed_as_java_clients_place_them(broker: str, topic: str, read: Read) -> None:
    with UsageProducer(broker=broker, topic=topic) as producer:
        for number in range(30):
            producer.track(provider="openai", model="gpt-4o", user_id=f"user {number}")

    for record in read():
        assert record.partition() == (murmur2(record.key() or b"") & 0x7FFFFFFF) % 4


def murmur2(data: bytes) -> int:
    """The hash of org.apache.kafka.common.utils.Utils.murmur2, as an unsigned number."""
    mask, mixer = 0xFFFFFFFF, 0x5BD1E995
    value = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        part = int.from_bytes(data[start : start + 4], "little") * mixer & mask
        part = (part ^ part >> 24) * mixer & mask
        value = (value * mixer & mask) ^ part
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * mixer & mask
    value = (value ^ value >> 13) * mixer & mask
    return value ^ value >> 15


def test_a_ready_event_is_sent_as_it_is(broker: str, topic: str, read: Read) -> None:
    event = UsageEvent(timestamp=NOON, provider="openai", model="gpt-4o", output_tokens=5, tags={"a": "b"})

    with UsageProducer(broker=broker, topic=topic) as producer:
        producer.track(event)

    (record,) = read()
    assert UsageEvent.model_validate_json(record.value() or b"") == event


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"provider": "openai", "model": "m", "inputtokens": 1}, "UsageEvent has no field inputtokens"),
        ({"provider": "openai"}, "model: Field required"),
        ({"provider": "openai", "model": "m", "input_tokens": -1}, "input_tokens: Input should be greater"),
        ({"provider": "openai", "model": "m", "timestamp": "today"}, "timestamp: "),
        ({"provider": "openai", "model": "m", "total_tokens": 3}, "total_tokens = 3, but"),
        ({"provider": "openai", "model": "m", "user_id": "\ud800"}, "user_id: "),
        ({"event": {"provider": "openai"}}, "track() takes a UsageEvent, not a dict"),
        ({"event": UsageEvent(timestamp=NOON, provider="a", model="b"), "model": "c"}, "not both"),
        ({}, "provider: Field required"),
    ],
)
def test_an_invalid_event_is_counted_and_logged_but_never_raised(
    nowhere: str, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], complaint: str
) -> None:
    producer = UsageProducer(broker=nowhere)

    producer.track(**arguments)

    counters = producer.counters
    producer.close(0)
    assert (counters.tracked, counters.invalid, counters.in_flight) == (1, 1, 0)
    (line,) = (line for line in caplog.messages if line.startswith("a usage event was not sent: "))
    assert complaint in line
    assert "\n" not in line


def test_an_object_that_fights_back_is_only_an_invalid_event(nowhere: str) -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError("no")

    producer = UsageProducer(broker=nowhere)

    producer.track(provider="openai", model="m", metadata={"a": Hostile()})
    producer.track(provider="openai", model=Hostile())
    producer.track(Hostile())  # type: ignore[arg-type]

    counters = producer.counters
    producer.close(0)
    assert (counters.tracked, counters.invalid) == (3, 3)


def test_many_invalid_events_make_one_log_line_without_their_values(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer = UsageProducer(broker=nowhere)

    for _ in range(100):
        producer.track(provider="openai", model="m", user_id=["secret"])

    producer.close(0)
    lines = [line for line in caplog.messages if "not sent" in line]
    assert len(lines) == 1
    assert "secret" not in lines[0]


def test_librdkafkas_own_lines_are_only_debug_lines(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    producer = UsageProducer(broker=nowhere)
    deadline = time.monotonic() + 10
    while "tokentide.producers.librdkafka" not in {record.name for record in caplog.records}:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    producer.close(0)

    own = [record for record in caplog.records if record.name == "tokentide.producers.librdkafka"]
    assert {record.levelno for record in own} == {logging.DEBUG}
