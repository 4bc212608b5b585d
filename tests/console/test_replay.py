"""`tokentide replay` against a real Kafka: what is stored, how fast, and what is refused."""

import json
import os
import pty
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tokentide.console.broker import reach
from tokentide.console.settings import ConsoleSettings
from tokentide.console.topics import ensure_topics
from tokentide.console.trace import Pacer, Rate, TraceOptions, generate_trace, read_trace, replay
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import (
    DataLossError,
    KafkaSettings,
    ServiceUnavailableError,
    TopicNames,
    UsageEvent,
)

ROWS = 300
_NUMBERS = count(1)


@pytest.fixture
def settings(kafka: str) -> ConsoleSettings:
    """A pipeline whose events topic is empty."""
    number = next(_NUMBERS)
    settings = ConsoleSettings(
        kafka=KafkaSettings(kafka),
        topics=replace(TopicNames(), events=f"replay-{number}.events"),
        meter_id=f"replay-{number}-meter",
    )
    ensure_topics(reach(settings.kafka), settings.topic_plans())
    return settings


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.csv"
    generate_trace(path, rows=ROWS)
    return path


def command(
    settings: ConsoleSettings, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tokentide.console.cli", "replay", *arguments],
        env={**os.environ, **settings.environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stored(settings: ConsoleSettings) -> dict[int, list[Message]]:
    """The records of the events topic, by partition."""
    reader = Consumer({**settings.kafka.librdkafka(), "group.id": "reader", "enable.partition.eof": True})
    found: dict[int, list[Message]] = {number: [] for number in range(settings.partitions)}
    reader.assign([TopicPartition(settings.topics.events, number, 0) for number in found])
    unread = len(found)
    while unread:
        message = reader.poll(20)
        assert message is not None, "Kafka fell silent"
        error = message.error()
        if error is None:
            found[message.partition() or 0].append(message)
        else:
            assert error.code() == KafkaError._PARTITION_EOF
            unread -= 1
    reader.close()
    return found


def events_of(records: dict[int, list[Message]]) -> dict[str, UsageEvent]:
    events = [UsageEvent.from_wire(record.value()) for messages in records.values() for record in messages]
    return {event.event_id: event for event in events}


def test_every_event_is_stored_as_it_was_read(settings: ConsoleSettings, trace: Path) -> None:
    expected = list(read_trace(trace, TraceOptions()))

    ran = command(settings, "--trace", str(trace), "--json")

    assert (ran.returncode, ran.stderr) == (0, "")
    result = json.loads(ran.stdout)
    assert result.keys() == {"events", "input_tokens", "output_tokens", "seconds", "events_per_second"}
    assert result["events"] == ROWS
    assert result["input_tokens"] == sum(event.input_tokens for event in expected)
    assert result["output_tokens"] == sum(event.output_tokens for event in expected)
    assert events_of(stored(settings)) == {event.event_id: event for event in expected}


def test_replayed_twice_each_partition_holds_the_same_ids_twice(
    settings: ConsoleSettings, trace: Path
) -> None:
    for _ in range(2):
        assert command(settings, "--trace", str(trace)).returncode == 0

    for records in stored(settings).values():
        ids = [UsageEvent.from_wire(record.value()).event_id for record in records]
        first, second = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        assert first
        assert sorted(first) == sorted(second)
        assert len(set(first)) == len(first)


def test_options_decide_models_users_teams_and_times(settings: ConsoleSettings, trace: Path) -> None:
    options = ["--models", "openai/o3,mistral/mistral-large-latest", "--users", "3", "--teams", "2"]
    before = time.time()

    ran = command(settings, "--trace", str(trace), *options, "--start", "now")

    assert ran.returncode == 0, ran.stderr
    events = events_of(stored(settings)).values()
    assert {(event.provider, event.model) for event in events} == {
        ("openai", "o3"),
        ("mistral", "mistral-large-latest"),
    }
    assert {(event.user_id, event.team_id) for event in events} == {
        ("user-0000", "team-00"),
        ("user-0001", "team-01"),
        ("user-0002", "team-00"),
    }
    assert before <= max(event.timestamp for event in events).timestamp() <= time.time()


def test_a_rate_is_kept(settings: ConsoleSettings, trace: Path) -> None:
    ran = command(settings, "--trace", str(trace), "--rate", "600", "--json")

    seconds = json.loads(ran.stdout)["seconds"]
    assert (ROWS - 1) / 600 <= seconds < (ROWS - 1) / 600 + 10


def test_a_producer_with_small_queues_loses_nothing(settings: ConsoleSettings, trace: Path) -> None:
    queues = {"TOKENTIDE_PRODUCER_QUEUE_EVENTS": "7", "TOKENTIDE_PRODUCER_FALLBACK_EVENTS": "0"}

    ran = command(settings, "--trace", str(trace), **queues)

    assert ran.returncode == 0, ran.stderr
    assert sum(map(len, stored(settings).values())) == ROWS


def test_a_terminal_sees_a_bar_and_a_pipe_does_not(settings: ConsoleSettings, trace: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tokentide.console.cli", "replay", "--trace", str(trace), "--rate", "300"],
        env={**os.environ, **settings.environment(), "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # Linux says so when the other end is closed.
        pass
    os.close(ours)
    printed, _ = process.communicate(timeout=30)

    assert "Publishing" in seen.decode()
    assert f"/{ROWS}" in seen.decode()
    assert printed.startswith(f"Kafka at {settings.kafka.broker} has stored {ROWS} events with ")


def test_of_a_trace_with_a_malformed_row_nothing_is_published(
    settings: ConsoleSettings, tmp_path: Path
) -> None:
    path = tmp_path / "broken.csv"
    generate_trace(path, rows=20)
    with path.open("a") as file:
        file.write("2023-11-16 19:15:47,lots,44\n")

    ran = command(settings, "--trace", str(path))

    assert ran.returncode == 2
    assert ran.stderr == f"{path}, line 22: ContextTokens 'lots' is not a whole number\n"
    assert not any(stored(settings).values())


def test_a_missing_topic_is_named_with_the_command_that_makes_it(
    settings: ConsoleSettings, trace: Path
) -> None:
    ran = command(settings, "--trace", str(trace), TOKENTIDE_TOPIC_EVENTS="usage.evnets")

    assert ran.returncode == 2
    assert ran.stderr == (
        f"The topic usage.evnets does not exist on {settings.kafka.broker}; create it with `tokentide topics init`.\n"
    )


def test_an_unreachable_broker_is_named_before_anything_is_sent(
    settings: ConsoleSettings, trace: Path
) -> None:
    ran = command(settings, "--trace", str(trace), "--broker", "127.0.0.1:1")

    assert ran.returncode == 1
    assert "127.0.0.1:1 does not answer" in ran.stderr
    assert "`tokentide up`" in ran.stderr


def test_events_that_kafka_refuses_are_an_error(settings: ConsoleSettings, trace: Path) -> None:
    quick = {"topic.metadata.propagation.max.ms": "100"}
    sender = ProducerSettings(kafka=settings.kafka, topic="usage.evnets", extra=quick, spool_dir="off")

    with (
        UsageProducer(sender) as producer,
        pytest.raises(
            DataLossError, match=rf"of {ROWS} events only 0 were stored: .* {ROWS} given up; replay"
        ),
    ):
        replay(read_trace(trace, TraceOptions()), producer, Pacer(Rate()))


def test_a_broker_that_stores_nothing_is_given_up_after_a_while(trace: Path) -> None:
    sender = ProducerSettings(kafka=KafkaSettings("127.0.0.1:1"), exit_timeout_seconds=0, spool_dir="off")

    with (
        UsageProducer(sender) as producer,
        pytest.raises(ServiceUnavailableError, match=rf"nothing for 0\.3 s and {ROWS} events wait; check"),
    ):
        replay(read_trace(trace, TraceOptions()), producer, Pacer(Rate()), patience_seconds=0.3)


def test_progress_is_told_a_few_times_a_second_and_at_the_end(settings: ConsoleSettings, trace: Path) -> None:
    sender = ProducerSettings(kafka=settings.kafka, topic=settings.topics.events)
    seconds = count(0.0, 0.01)
    told: list[int] = []

    with UsageProducer(sender) as producer:
        replay(
            read_trace(trace, TraceOptions()),
            producer,
            Pacer(Rate()),
            told.append,
            clock=lambda: next(seconds),
        )

    assert told[:3] == [1, 21, 41]
    assert told[-1] == ROWS
    assert told == sorted(told)
