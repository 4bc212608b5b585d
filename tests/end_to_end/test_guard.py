"""From an event to a refusal: a budget, a real meter, and a guard in the service."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tokentide.console.budgets import new_budget, write_budget
from tokentide.console.kafka import KafkaCluster
from tokentide.console.stack import Stack
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.producers.decision import BudgetExceeded
from tokentide.producers.guard import Guard
from tokentide.producers.guard_settings import GuardSettings
from tokentide.schemas import BudgetLimit, KafkaSettings, Limits, Period, Scope, Unit

WITHIN_SECONDS = 30.0


@pytest.mark.slow
def test_a_team_that_spent_its_budget_is_refused_within_seconds(tmp_path: Path) -> None:
    with Stack(tmp_path, partitions=2) as stack:
        names, kafka = stack.settings.topics, stack.settings.kafka
        write_budget(
            kafka,
            names.budgets,
            new_budget(
                budget_id="maths-day",
                scope="team",
                scope_id="maths",
                period="day",
                unit="tokens",
                limit=Decimal(100),
            ),
        )
        with (
            UsageProducer(ProducerSettings(kafka=kafka, topic=names.events)) as producer,
            Guard(GuardSettings(kafka=kafka, topic=names.limits), fail_closed={"maths-day"}) as guard,
        ):
            assert guard.ready(WITHIN_SECONDS)
            call: dict[str, Any] = {
                "provider": "openai",
                "model": "gpt-4o-mini",
                "input_tokens": 60,
                "output_tokens": 1,
            }

            producer.track(user_id="ada", team_id="maths", **call)
            wait_for(guard, left=39)
            assert guard.check("ada", "maths", estimated_tokens=39).allowed
            assert guard.check("ada", "maths", estimated_tokens=40).cause == "budget"

            producer.track(user_id="bob", team_id="maths", **call)
            wait_for(guard, left=0)

            with pytest.raises(BudgetExceeded, match=r"team maths, 100 tokens a day, is used up") as refused:
                guard.require("ada", "maths")
            resets_at = refused.value.decision.resets_at
            assert resets_at is not None
            assert resets_at > datetime.now(UTC)
            assert guard.check("ada", "physics").allowed


@pytest.mark.slow
def test_a_topic_that_is_made_anew_and_a_broker_that_comes_back_are_read_again(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path) as kafka:
        make_topic(kafka.bootstrap)
        for version in (6, 7, 8):
            publish(kafka.bootstrap, version, left=8 - version)
        with Guard(
            GuardSettings(kafka=KafkaSettings(kafka.bootstrap), topic="limits"), fail_closed={"b"}
        ) as guard:
            assert guard.ready(WITHIN_SECONDS)
            assert guard.check(None, "maths").cause == "budget"

            admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
            admin.delete_topics(["limits"])["limits"].result(30)
            make_topic(kafka.bootstrap)
            publish(kafka.bootstrap, version=1, left=5)
            wait_for(guard, left=5)

            kafka.kill(1)
            assert guard.check(None, "maths").remaining_tokens == 5
            kafka.restart(1)
            publish(kafka.bootstrap, version=2, left=4)
            wait_for(guard, left=4)


def make_topic(broker: str) -> None:
    """Return when it is there; the deletion of one of the same name may still be going on."""
    admin = AdminClient({"bootstrap.servers": broker})
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        try:
            admin.create_topics([NewTopic("limits", 2, 1)])["limits"].result(30)
            return
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def publish(broker: str, version: int, left: int) -> None:
    """Publish the limits of a team of 10 tokens a day."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    limit = BudgetLimit(
        budget_id="b",
        unit=Unit.TOKENS,
        limit=Decimal(10),
        used=Decimal(10 - left),
        left=Decimal(left),
        exceeded=not left,
        period=Period.DAY,
        period_start=today,
        until=today + timedelta(days=2),
    )
    record = Limits(
        scope=Scope.TEAM,
        scope_id="maths",
        budgets_version=0,
        version=version,
        exceeded=not left,
        limits=(limit,),
    )
    producer = Producer({"bootstrap.servers": broker, "log_level": 0})
    producer.produce("limits", record.model_dump_json().encode(), b"team:maths", partition=1)
    assert not producer.flush(WITHIN_SECONDS)


def wait_for(guard: Guard, left: int) -> None:
    """Return when the team has so many tokens left."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while (decision := guard.check(None, "maths")).remaining_tokens != left:
        assert time.monotonic() < deadline, decision
        time.sleep(0.05)
