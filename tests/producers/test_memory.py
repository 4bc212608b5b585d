"""Producers that keep their events in memory, and the fixture that tests of services use."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tokentide.producers import (
    Counters,
    CreditLedger,
    Guard,
    GuardSettings,
    ProducerSettings,
    UsageProducer,
)
from tokentide.producers.memory import capturing
from tokentide.schemas import KafkaSettings


def test_a_memory_producer_keeps_events_and_starts_nothing() -> None:
    before = threading.active_count()

    with UsageProducer(broker="memory://") as producer:
        kept = producer.track(provider="openai", model="m", input_tokens=3)
        refused = producer.track(provider="openai")

        assert (kept, refused) == (True, False)
        assert [event.input_tokens for event in producer.recorded] == [3]
        assert producer.counters == Counters(tracked=2, invalid=1, delivered=1)
        assert producer.flush(1) == 0
        assert threading.active_count() == before
    assert producer.track(provider="openai", model="m") is False
    assert producer.counters.dropped == 1


def test_a_dry_run_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokentide.producers.memory._MOST_EVENTS", 3)
    producer = UsageProducer(broker="memory://")

    for number in range(5):
        producer.track(provider="openai", model="m", input_tokens=number)

    assert [event.input_tokens for event in producer.recorded] == [2, 3, 4]


def test_what_is_captured_is_not_sent(nowhere: str) -> None:
    with UsageProducer(ProducerSettings(exit_timeout_seconds=0), broker=nowhere) as producer:
        with capturing() as outer, capturing() as inner:
            producer.track(provider="openai", model="m")

        assert (len(outer), len(inner)) == (0, 1)
        assert producer.counters == Counters(tracked=1, delivered=1)
        assert producer.recorded == []


def test_the_guard_and_the_ledger_need_no_kafka_either() -> None:
    memory = KafkaSettings(broker="memory://")
    before = threading.active_count()
    began = time.monotonic()

    with Guard(GuardSettings(memory, max_tokens_per_request=10, when_stale="closed")) as guard:
        assert guard.ready(5)
        assert guard.check("ann", estimated_tokens=10).cause == "ok"
        assert guard.check("ann", estimated_tokens=11).cause == "too_large"
        assert threading.active_count() == before
    ledger = CreditLedger(ProducerSettings(memory))
    assert ledger.grant(5, user_id="ann", reference="trial")
    assert not ledger.grant(0, user_id="ann", reference="trial")
    assert time.monotonic() - began < 4


def test_the_shipped_fixture_shows_what_a_service_tracked(tmp_path: Path) -> None:
    (tmp_path / "test_service.py").write_text(
        """
from tokentide.producers import CreditLedger, UsageProducer

early = UsageProducer(broker="127.0.0.1:1")
ledger = CreditLedger(broker="127.0.0.1:1")

def test_events_are_seen(usage_events):
    UsageProducer().track(provider="openai", model="m", user_id="ann")
    early.track(provider="openai", model="m", user_id="bob")
    early.close(0)
    assert ledger.grant(1, user_id="ann", reference="trial", timeout=0)

    assert [event.user_id for event in usage_events] == ["ann", "bob"]

def test_each_test_has_its_own(usage_events):
    assert usage_events == []
"""
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_service.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
