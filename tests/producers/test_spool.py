"""Producers with a spool: outages, full disks, redaction; every event for which track() said True gets to Kafka."""

import errno
import json
import logging
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from support.closed_door import closed_door, open_door

from tokentide.producers import Counters, ProducerSettings, UsageProducer
from tokentide.schemas import Alert, AlertKind, AlertLevel, KafkaSettings, Scope, UsageEvent

Read = Callable[[], list[Message]]
QUICK = {"reconnect.backoff.max.ms": "200"}


def settings(broker: str, topic: str) -> ProducerSettings:
    return ProducerSettings(
        kafka=KafkaSettings(broker=broker), topic=topic, extra=QUICK, exit_timeout_seconds=0
    )


def track(producer: UsageProducer, count: int, name: str = "e") -> int:
    """Track so many events of one user; return how many were accepted."""
    return sum(
        producer.track(event_id=f"{name}-{number:05}", provider="openai", model="m", user_id="ann")
        for number in range(count)
    )


def expected(count: int, name: str = "e") -> list[str]:
    return [f"{name}-{number:05}" for number in range(count)]


def ids(records: list[Message]) -> list[str]:
    return [json.loads(record.value() or b"")["event_id"] for record in records]


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.01)


def files(state_home: Path, kind: str = "segment") -> list[Path]:
    return list(state_home.rglob(f"*.{kind}"))


def test_an_outage_delays_events_and_loses_none(
    topic: str, broker: str, read: Read, state_home: Path
) -> None:
    with closed_door() as (door, address):
        producer = UsageProducer(replace(settings(address, topic), queue_events=50))
        accepted = track(producer, 3000)
        until(lambda: producer.counters.in_flight == 50)
        waiting = producer.counters

        open_door(door, broker)

        assert producer.flush(60) == 0
        assert producer.close() == 0
    assert accepted == 3000
    assert waiting == Counters(tracked=3000, in_flight=50, queued=2950)
    assert producer.counters == Counters(tracked=3000, delivered=3000)
    assert ids(read()) == expected(3000)
    assert files(state_home) == []


def test_what_a_closed_producer_left_is_sent_by_the_next_one(
    topic: str, broker: str, read: Read, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closed_door() as (door, address):
        first = UsageProducer(settings(address, topic))
        track(first, 300)
        lost = first.close(0)
        open_door(door, broker)

        with UsageProducer(settings(address, topic)) as second:
            assert second.recover(30)
            counters = second.counters

    assert lost == 0
    assert first.counters == Counters(tracked=300, queued=300)
    assert counters == Counters(recovered=300)
    assert ids(read()) == expected(300)
    assert any(
        "300 usage events were not delivered before the close; they wait in" in s for s in caplog.messages
    )
    assert files(state_home) == []


def test_what_cannot_be_read_for_a_while_is_sent_later(
    topic: str,
    broker: str,
    read: Read,
    state_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A service that has no file descriptor to spare when it looks for what was left."""
    monkeypatch.setattr("tokentide.producers.spool_inheritance._AGAIN_SECONDS", 0.1)
    with closed_door() as (door, address):
        first = UsageProducer(settings(address, topic))
        track(first, 30)
        first.close(0)
        open_door(door, broker)
        (segment, *_), open_file = sorted(files(state_home)), os.open

        def open_no_segment(path: Any, *flags: Any) -> int:
            if path == segment:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
            return open_file(path, *flags)

        monkeypatch.setattr(os, "open", open_no_segment)
        with UsageProducer(settings(address, topic)) as second:
            until(lambda: any("cannot be read: [Errno 24]" in line for line in caplog.messages))
            assert not second.recover(0.3)
            monkeypatch.setattr(os, "open", open_file)

            assert second.recover(30)

    assert ids(read()) == expected(30)


def test_recovery_ends_at_its_deadline_and_at_once_without_a_spool(nowhere: str, topic: str) -> None:
    first = UsageProducer(settings(nowhere, topic))
    track(first, 5)
    first.close()

    with UsageProducer(settings(nowhere, topic)) as second:
        until(lambda: second.counters.spooled == 5)
        assert not second.recover(0.1)
    assert not second.recover(0.1)
    with UsageProducer(replace(settings(nowhere, topic), spool_dir="off")) as third:
        assert third.recover(0)
    assert UsageProducer(broker="memory://").recover(0)


def test_an_event_that_kafka_did_not_take_in_time_is_sent_again(topic: str, broker: str, read: Read) -> None:
    impatient = {**QUICK, "message.timeout.ms": "500"}
    with closed_door() as (door, address):
        producer = UsageProducer(replace(settings(address, topic), extra=impatient))
        track(producer, 20)
        until(lambda: producer.counters.queued == 20)
        open_door(door, broker)

        assert producer.flush(60) == 0
        producer.close()

    assert producer.counters == Counters(tracked=20, delivered=20)
    assert sorted(ids(read())) == expected(20)


def test_an_event_that_kafka_refuses_for_good_stops_no_other(
    broker: str, topic: str, read: Read, state_home: Path
) -> None:
    small = replace(settings(broker, topic), extra={"message.max.bytes": "1000"})
    with UsageProducer(small) as producer:
        producer.track(provider="openai", model="m", error_message="x" * 2048)
        track(producer, 10)

        assert producer.flush(30) == 0

    assert producer.counters == Counters(tracked=11, delivered=10, failed=1)
    assert ids(read()) == expected(10)
    assert files(state_home) == []


def test_a_full_spool_refuses_new_events_and_says_when_it_has_room(
    topic: str, broker: str, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    with closed_door() as (door, address):
        producer = UsageProducer(replace(settings(address, topic), spool_bytes=0))
        accepted = 0
        while producer.track(
            event_id=f"{accepted}", provider="openai", model="m", metadata={"text": "x" * 8000}
        ):
            accepted += 1
        refused = producer.counters
        open_door(door, broker)

        assert producer.flush(60) == 0
        until(lambda: any("the spool has room again; 1 usage events" in line for line in caplog.messages))
        assert track(producer, 1) == 1
        producer.flush(10)
        producer.close()

    assert 800 < accepted < 1100
    assert (refused.tracked, refused.dropped) == (accepted + 1, 1)
    assert producer.counters == Counters(tracked=accepted + 2, delivered=accepted + 1, dropped=1)
    assert any("the spool in" in line and "is full" in line for line in caplog.messages)
    assert len(set(ids(read()))) == accepted + 1


def test_dropped_events_are_told_to_those_whose_totals_miss_them(topic: str, broker: str, read: Read) -> None:
    """The topic of alerts is the one that is read here; events go to another one."""
    chosen = replace(settings(broker, "events-" + topic), spool_bytes=0, alerts_topic=topic)
    hour = datetime(2026, 3, 1, 12, tzinfo=UTC)
    large: dict[str, Any] = {
        "provider": "openai",
        "model": "m",
        "timestamp": hour,
        "metadata": {"text": "x" * 8000},
    }
    with closed_door() as (door, address):
        producer = UsageProducer(replace(chosen, kafka=KafkaSettings(broker=address)))
        while producer.track(**large):
            pass
        for more in ({"team_id": "red", "user_id": "ann"}, {"team_id": "red"}, {"user_id": "bob"}):
            assert not producer.track(**{**large, **more})
        open_door(door, broker)
        assert producer.flush(60) == 0
        until(lambda: len(read()) == 3)
        producer.close()

    alerts = [Alert.model_validate_json(record.value() or b"") for record in read()]
    missing = {(alert.scope, alert.scope_id): alert.requests for alert in alerts}
    assert missing == {(Scope.TEAM, "red"): 2, (Scope.USER, "bob"): 1, (Scope.USER, ""): 1}
    assert {(alert.kind, alert.level) for alert in alerts} == {
        (AlertKind.EVENTS_DROPPED, AlertLevel.CRITICAL)
    }
    assert {(alert.period_start, alert.period_end) for alert in alerts} == {(hour, hour + timedelta(hours=1))}
    assert len({alert.alert_id for alert in alerts}) == 3


@pytest.mark.parametrize("folder", ["/dev/full", "/proc/nowhere"])
def test_without_a_writable_disk_events_are_kept_in_memory(
    broker: str, topic: str, read: Read, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    with UsageProducer(replace(settings(broker, topic), spool_dir=folder, queue_events=5)) as producer:
        accepted = track(producer, 100)

        assert producer.flush(30) == 0

    assert accepted == 100
    assert producer.counters == Counters(tracked=100, delivered=100)
    assert ids(read()) == expected(100)
    assert sum("kept in memory only" in line for line in caplog.messages) == 1


def test_a_disk_that_becomes_full_and_has_room_again_loses_nothing(
    topic: str, broker: str, read: Read, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tokentide.producers.spool_writer._AGAIN_SECONDS", 0.2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = {"text": "x" * 8000}
    with closed_door() as (door, address):
        producer = UsageProducer(replace(settings(address, topic), queue_events=100))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
        try:
            for number in range(1500):
                assert producer.track(event_id=str(number), provider="openai", model="m", metadata=large)
            until(lambda: any("kept in memory only" in line for line in caplog.messages))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        until(lambda: any("kept on disk again" in line for line in caplog.messages))
        assert producer.track(event_id="last", provider="openai", model="m", metadata=large)
        open_door(door, broker)

        assert producer.flush(60) == 0
        producer.close()

    assert producer.counters == Counters(tracked=1501, delivered=1501)
    assert Counter(ids(read())) == Counter([*map(str, range(1500)), "last"])


def test_a_spool_that_is_synced_delivers_as_well(broker: str, topic: str, read: Read) -> None:
    with UsageProducer(replace(settings(broker, topic), spool_fsync_seconds=0.001)) as producer:
        track(producer, 100)
        assert producer.flush(30) == 0

    assert ids(read()) == expected(100)


def test_a_mistake_of_ours_is_no_exception_in_the_service(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: object, frame: bytes) -> bool:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("tokentide.producers.spool_writer.SpoolWriter.append", broken)
    with UsageProducer(settings(broker, topic)) as producer:
        assert track(producer, 2) == 0

        assert producer.counters == Counters(tracked=2, dropped=2)
    assert sum("was dropped: ZeroDivisionError" in line for line in caplog.messages) == 1


def test_an_interrupt_inside_track_leaves_no_event_that_is_waited_for(broker: str, topic: str) -> None:
    def interrupted(event: UsageEvent) -> UsageEvent:
        raise SystemExit(3)

    with UsageProducer(replace(settings(broker, topic), redact=interrupted)) as producer:
        with pytest.raises(SystemExit):
            track(producer, 1)
        began = time.monotonic()

        assert producer.flush(20) == 0
        assert producer.counters == Counters(tracked=1, invalid=1)
    assert time.monotonic() - began < 10


def test_a_disk_that_comes_back_while_a_producer_closes_gets_nothing(
    nowhere: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokentide.producers.spool_backlog._AGAIN_SECONDS", 0.1)
    place = tmp_path / "spool"
    place.write_text("a file is no folder")
    producer = UsageProducer(replace(settings(nowhere, topic), spool_dir=str(place)))
    assert track(producer, 1) == 1
    closing = threading.Thread(target=producer.close, args=(1.5,))
    closing.start()
    until(lambda: track(producer, 1) == 0)
    place.unlink()

    closing.join()

    assert not place.exists()
    assert producer.counters.queued == 0


def test_who_floods_a_broker_that_keeps_up_fills_no_spool(broker: str, topic: str) -> None:
    with UsageProducer(replace(settings(broker, topic), queue_events=5_000, linger_ms=1)) as producer:
        most = 0
        for number in range(60_000):
            producer.track(provider="openai", model="m", user_id="ann")
            if number % 500 == 0:
                most = max(most, producer.counters.queued)
        assert producer.flush(60) == 0

    assert most < 20_000


def strip_user(event: UsageEvent) -> UsageEvent:
    return event.model_copy(update={"user_id": "somebody"})


def forgets_to_return(event: UsageEvent) -> UsageEvent:
    return None  # type: ignore[return-value]


def raises(event: UsageEvent) -> UsageEvent:
    raise ValueError(f"secret {event.metadata}")


def test_redaction_comes_before_everything_that_stores(nowhere: str, topic: str, state_home: Path) -> None:
    producer = UsageProducer(replace(settings(nowhere, topic), redact=strip_user))

    track(producer, 1)

    stored = files(state_home)[0].read_bytes()
    producer.close()
    assert b"somebody" in stored
    assert b"ann" not in stored
    assert producer.counters.stripped == 0


@pytest.mark.parametrize("hook", [forgets_to_return, raises])
def test_a_hook_that_fails_takes_the_private_fields_along(
    hook: Callable[[UsageEvent], UsageEvent], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    producer = UsageProducer(ProducerSettings(kafka=KafkaSettings("memory://"), redact=hook))

    assert producer.track(
        provider="openai",
        model="m",
        input_tokens=4,
        metadata={"a": 1},
        tags={"b": "c"},
        error_message="secret",
    )

    (event,) = producer.recorded
    assert (event.input_tokens, event.metadata, event.tags, event.error_message) == (4, {}, {}, None)
    assert producer.counters.stripped == 1
    assert any("the redaction hook failed" in line for line in caplog.messages)
    assert "secret" not in caplog.text
