"""From an event to a refusal: a budget, a real meter, and a guard in the service."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tokentide.console.budgets import new_budget, write_budget
from tokentide.console.stack import Stack
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.producers.decision import BudgetExceeded
from tokentide.producers.guard import Guard
from tokentide.producers.guard_settings import GuardSettings

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


def wait_for(guard: Guard, left: int) -> None:
    """Return when the team has so many tokens left."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while (decision := guard.check(None, "maths")).remaining_tokens != left:
        assert time.monotonic() < deadline, decision
        time.sleep(0.05)
