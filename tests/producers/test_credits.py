"""The ledger of credits: every entry reaches Kafka once by its id, or the caller is told."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Message
from pydantic import ValidationError

from tokentide.producers import ProducerSettings, credits
from tokentide.producers.credit_entry import CreditEntry, credit_entry
from tokentide.producers.ledger import CreditLedger
from tokentide.schemas import KafkaSettings

Read = Callable[[], list[Message]]
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def ledger(broker: str, topic: str) -> Iterator[CreditLedger]:
    settings = ProducerSettings(kafka=KafkaSettings(broker=broker))
    with CreditLedger(settings, topic=topic) as ledger:
        yield ledger


def test_a_purchase_is_in_kafka_when_it_returns(ledger: CreditLedger, read: Read) -> None:
    done = ledger.purchase(
        Decimal("500.50"),
        user_id="ada",
        unit="usd",
        reference="order-17",
        reason="token pack",
        timestamp=NOW,
        expires_at=datetime(2027, 11, 27, tzinfo=UTC),
    )

    assert done
    (record,) = read()
    assert record.key() == b"user:ada"
    assert json.loads(record.value() or b"") == {
        "credit_id": credit_entry("purchase", 1, user_id="ada", unit="usd", reference="order-17").credit_id,
        "schema_version": 1,
        "timestamp": "2026-11-27T12:00:00Z",
        "kind": "purchase",
        "scope": "user",
        "scope_id": "ada",
        "amount": "500.50",
        "unit": "usd",
        "reason": "token pack",
        "reference": "order-17",
        "expires_at": "2027-11-27T00:00:00Z",
    }


def test_the_same_reference_is_the_same_entry(ledger: CreditLedger, read: Read) -> None:
    assert ledger.grant(10, team_id="maths", reference="trial")
    assert ledger.grant(10, team_id="maths", reference="trial")
    assert ledger.grant(10, team_id="physics", reference="trial")
    assert ledger.adjust(-3, team_id="maths", reference="trial", unit="tokens")

    entries = [CreditEntry.model_validate_json(record.value() or b"") for record in read()]
    assert len(entries) == 4
    assert sorted(entry.amount for entry in {entry.credit_id: entry for entry in entries}.values()) == [
        -3,
        10,
        10,
    ]


@pytest.mark.parametrize(
    ("kind", "amount", "fields", "words"),
    [
        ("grant", 1.5, {"user_id": "a"}, "Decimal"),
        ("grant", True, {"user_id": "a"}, "Decimal"),
        ("grant", 0, {"user_id": "a"}, "cannot be 0"),
        ("purchase", -1, {"user_id": "a"}, "cannot be -1"),
        ("adjustment", Decimal("NaN"), {"user_id": "a"}, "amount"),
        ("grant", "many", {"user_id": "a"}, "amount"),
        ("grant", "1.5", {"user_id": "a", "unit": "tokens"}, "whole"),
        ("grant", 1, {"user_id": "a", "unit": "gold"}, "unit"),
        ("grant", 1, {}, "belongs to one of"),
        ("grant", 1, {"user_id": "a", "team_id": "b"}, "belongs to one of"),
        ("grant", 1, {"user_id": "a", "reference": ""}, "reference"),
        ("grant", 1, {"user_id": "a", "timestamp": NOW, "expires_at": NOW}, "expires_at must lie after"),
    ],
)
def test_what_is_no_entry_is_refused(kind: Any, amount: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, ValidationError), match=words):
        credit_entry(kind, amount, **{"reference": "r", **fields})


def test_a_service_is_told_and_never_broken(ledger: CreditLedger, caplog: pytest.LogCaptureFixture) -> None:
    wrong: Any = 1.5

    assert not ledger.grant(wrong, user_id="secret-user", reference="r")

    assert "an amount must be a Decimal" in caplog.text
    assert "secret-user" not in caplog.text


def test_without_a_broker_it_says_no_in_time(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    ledger = CreditLedger(ProducerSettings(kafka=KafkaSettings(broker=nowhere)), topic="t")
    began = time.monotonic()

    assert not ledger.grant(1, user_id="ada", reference="trial", timeout=0.3)

    assert time.monotonic() - began < 5
    assert "did not answer within 0.3 s" in caplog.text
    ledger.close(0.1)


def test_many_threads_share_a_ledger(ledger: CreditLedger, read: Read) -> None:
    done: list[bool] = []

    def buy(number: int) -> None:
        done.append(ledger.purchase(1, user_id="ada", reference=f"order-{number}"))

    threads = [threading.Thread(target=buy, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert done == [True] * 20
    assert len({record.value() for record in read()}) == 20


def test_a_wrong_environment_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOKENTIDE_PRODUCER_LINGER_MS", "soon")

    for _ in range(3):
        assert not credits.grant(1, user_id="ada", reference="trial")

    assert sum("TOKENTIDE_PRODUCER_LINGER_MS" in line for line in caplog.messages) == 1


SCRIPT = """
import os, sys, warnings
from tokentide.producers import credits

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
assert credits.grant(1, user_id="ada", reference="trial")
child = os.fork()
if child == 0:
    assert credits.purchase(2, user_id="ada", reference="order-1")
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert credits.adjust(-1, user_id="ada", reference="refund")
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_the_ledger_of_the_environment_works_before_and_after_a_fork(
    broker: str, topic: str, read: Read
) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env={**os.environ, "TOKENTIDE_BROKER": broker, "TOKENTIDE_TOPIC_CREDITS": topic},
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    kinds = {json.loads(record.value() or b"")["kind"] for record in read()}
    assert kinds == {"grant", "purchase", "adjustment"}
