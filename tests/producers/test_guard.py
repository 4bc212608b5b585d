"""The guard on a Kafka cluster: it reads what the meter's stage `budgets` publishes, whatever happens to it."""

import logging
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Producer

from tokentide.producers.decision import BudgetExceeded
from tokentide.producers.guard import Guard
from tokentide.producers.guard_settings import GuardSettings
from tokentide.schemas import BudgetLimit, KafkaSettings, Limits, Period, Scope, SettingsError, Unit

PARTITIONS = 4
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
TOMORROW = NOW + timedelta(days=1)

Publish = Callable[..., None]


def limits(scope_id: str, used: int, version: int = 1, **fields: Any) -> Limits:
    """A user's budget of 100 USD."""
    limit = BudgetLimit(
        budget_id=f"of-{scope_id}",
        unit=Unit.USD,
        limit=Decimal(100),
        used=Decimal(used),
        left=Decimal(max(0, 100 - used)),
        exceeded=used >= 100,
        period=Period.DAY,
        period_start=TODAY,
        until=TOMORROW,
    )
    values: dict[str, Any] = {
        "scope": Scope.USER,
        "budgets_version": 0,
        "exceeded": limit.exceeded,
        "limits": (limit,),
    } | fields
    return Limits(scope_id=scope_id, version=version, **values)


@pytest.fixture
def publish(broker: str, topic: str) -> Publish:
    """Publishes records as the stage does: JSON, key scope:scope_id, partition by CRC-32 of the key."""
    producer = Producer({"bootstrap.servers": broker, "logger": logging.getLogger("test")})

    def send(*records: Limits, delete: str | None = None) -> None:
        for record in records:
            key = f"{record.scope}:{record.scope_id}".encode()
            producer.produce(
                topic, record.model_dump_json().encode(), key, partition=zlib.crc32(key) % PARTITIONS
            )
        if delete is not None:
            producer.produce(topic, None, delete.encode(), partition=zlib.crc32(delete.encode()) % PARTITIONS)
        assert not producer.flush(10)

    return send


@pytest.fixture
def guard(broker: str, topic: str) -> Iterator[Guard]:
    with Guard(GuardSettings(kafka=KafkaSettings(broker=broker), topic=topic)) as guard:
        yield guard


def eventually(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_knows_all_limits_that_were_published_before_it_started(publish: Publish, guard: Guard) -> None:
    publish(*(limits(f"user-{number}", used=number) for number in range(0, 200, 10)))
    eventually(lambda: guard.entities == 20)

    assert guard.ready(10)
    assert not guard.check("user-100").allowed
    decision = guard.check("user-90")
    assert (decision.allowed, decision.remaining_usd, decision.resets_at) == (True, Decimal(10), TOMORROW)
    assert decision.as_of is not None
    assert guard.check("nobody").cause == "ok"


def test_an_empty_topic_is_known_too(topic: str, guard: Guard) -> None:
    assert guard.ready(10)
    assert guard.check("ada") == (True, "", None, None, None, guard.check("ada").as_of, "ok", None)


def test_it_follows_the_topic(publish: Publish, guard: Guard) -> None:
    assert guard.ready(10)
    publish(limits("ada", used=50))
    eventually(lambda: guard.check("ada").remaining_usd == Decimal(50))

    began = time.monotonic()
    publish(limits("ada", used=100, version=2))
    eventually(lambda: not guard.check("ada").allowed)

    assert time.monotonic() - began < 5
    with pytest.raises(BudgetExceeded, match=r"the budget of user ada, 100 USD a day, is used up"):
        guard.require("ada")
    assert guard.refused == 1
    publish(limits("ada", used=0, version=3, limits=()))
    eventually(lambda: guard.check("ada").allowed)


def test_the_highest_version_wins_and_a_null_deletes(publish: Publish, guard: Guard) -> None:
    publish(limits("ada", used=100, version=5), limits("ada", used=1, version=4), limits("bob", used=100))
    publish(limits("cleo", used=100, version=9), limits("cleo", used=7, version=1, budgets_version=1))
    publish(delete="user:bob")
    assert guard.ready(10)

    eventually(lambda: guard.entities == 2 and guard.check("bob").allowed)
    assert not guard.check("ada").allowed
    assert guard.check("cleo").remaining_usd == Decimal(93)


def test_a_record_that_is_no_limit_is_left_out(
    broker: str, topic: str, publish: Publish, guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    producer = Producer({"bootstrap.servers": broker, "logger": logging.getLogger("test")})
    producer.produce(topic, b'{"schema_version": 2}', b"user:ada", partition=0)
    producer.flush(10)
    publish(limits("bob", used=100))

    eventually(lambda: not guard.check("bob").allowed)

    # It stands in another partition perhaps, and is read a moment later.
    eventually(lambda: "a record of limits was left out" in caplog.text)
    assert guard.check("ada").allowed


def test_an_unreachable_broker_delays_and_raises_nothing(nowhere: str) -> None:
    settings = GuardSettings(kafka=KafkaSettings(broker=nowhere))
    began = time.monotonic()
    with Guard(settings) as open_guard, Guard(settings, fail_closed={"strict"}) as closed_guard:
        opened, closed = open_guard.check("ada"), closed_guard.check("ada")
        assert time.monotonic() - began < 1
        assert not open_guard.ready(0.5)

    assert (opened.allowed, opened.cause, opened.as_of) == (True, "unknown", None)
    assert opened.reason == "limits are not known yet"
    assert (closed.allowed, closed.cause) == (False, "unknown")


def test_what_librdkafka_refuses_is_refused_at_construction() -> None:
    with pytest.raises(SettingsError, match=r'librdkafka refuses the settings: .*"TELNET"'):
        Guard(GuardSettings(kafka=KafkaSettings(security_protocol="TELNET")))


def test_a_topic_that_comes_later_is_found(broker: str, cluster: Producer, topic: str) -> None:
    later = f"{topic}-later"
    with Guard(GuardSettings(kafka=KafkaSettings(broker=broker), topic=later)) as guard:
        time.sleep(0.5)
        cluster.list_topics(later, timeout=10)

        assert guard.ready(20)


def test_a_closed_guard_still_answers_and_closing_twice_is_harmless(publish: Publish, guard: Guard) -> None:
    publish(limits("ada", used=100))
    eventually(lambda: not guard.check("ada").allowed)

    guard.close()
    guard.close()

    assert not guard.check("ada").allowed


FORK = """
import os, sys, time, warnings
from tokentide.producers.guard import Guard
from tokentide.producers.guard_settings import GuardSettings
from tokentide.schemas import KafkaSettings

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
guard = Guard(GuardSettings(kafka=KafkaSettings(broker=sys.argv[1]), topic=sys.argv[2]))
assert guard.ready(30)
child = os.fork()
if child == 0:
    assert not guard.check("before").allowed, "what the parent knew"
    print("ready", flush=True)
    deadline = time.monotonic() + 30
    while guard.check("after").allowed:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert not guard.check("before").allowed
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_knows_what_its_parent_knew_and_reads_on(
    broker: str, topic: str, publish: Publish
) -> None:
    publish(limits("before", used=100))
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", FORK, broker, topic],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        publish(limits("after", used=100))
        # communicate() would read past what readline() holds in its buffer.
        output, errors = process.stdout.read(), process.stderr.read()

    assert (process.returncode, output, errors) == (0, "", "")
