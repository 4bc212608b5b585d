"""What the traffic of a schedule holds."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from support.traffic import HARD, POISON, traffic

from tokentide.schemas import InvalidEventError, UsageEvent
from tokentide.streams.decode import decode

END = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", sorted(POISON))
def test_poison_of_every_class_is_refused_by_the_model_and_by_the_meter(name: str) -> None:
    with pytest.raises(InvalidEventError):
        UsageEvent.from_wire(POISON[name])
    assert list(decode([POISON[name]]).refused) == [0]


def test_the_same_seed_sends_the_same_records_whoever_begins_again() -> None:
    assert list(traffic(2000, seed=7, end=END, shares=HARD)) == list(
        traffic(2000, seed=7, end=END, shares=HARD)
    )


def test_it_holds_repeats_near_and_far_late_and_early_events() -> None:
    sent = [record for record in traffic(20_000, seed=7, end=END, shares=HARD) if not record.is_poison]
    events = [json.loads(record.value or b"") for record in sent]
    ahead = [datetime.fromisoformat(event["timestamp"]) - END for event in events]
    moments: dict[str, list[timedelta]] = {}
    for event, lead in zip(events, ahead, strict=True):
        moments.setdefault(event["event_id"], []).append(lead)
    apart = Counter(round(abs((each[1] - each[0]).total_seconds())) for each in moments.values() if each[1:])

    assert {0, 3, 240, 3660} <= apart.keys()
    assert any(record.key.startswith(b"elsewhere-") for record in sent)
    assert any(timedelta(0) < lead < timedelta(hours=1) for lead in ahead)
    assert any(lead > timedelta(hours=2) for lead in ahead)
    assert any(lead < -timedelta(days=60) for lead in ahead)
    assert any(timedelta(hours=-28) < lead < timedelta(days=-1) for lead in ahead)
    assert any(event["input_tokens"] == 10**9 for event in events)


def test_every_event_that_is_no_poison_is_one() -> None:
    for record in traffic(3000, seed=8, end=END, shares=HARD):
        if not record.is_poison:
            UsageEvent.from_wire(record.value)
