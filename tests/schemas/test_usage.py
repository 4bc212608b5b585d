"""Version 1 of the event: its fields, and what it refuses."""

import os
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tokentide.schemas import InvalidEventError, UsageEvent, event_id, new_event_id

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)

# reference/llm-usage-and-ecosystem.md, section 3.1, line by line.
FIELDS = """
event_id schema_version timestamp
user_id team_id org_id session_id conversation_id subscription_tier service environment
operation operation_id prompt_id run_id agent_name
api_operation provider model request_model model_version request_id provider_created
system_fingerprint service_tier speed region finish_reason processing
input_tokens output_tokens
cache_read_tokens cache_write_tokens cache_write_1h_tokens reasoning_tokens
input_audio_tokens output_audio_tokens input_image_tokens output_image_tokens cache_audio_read_tokens
audio_seconds input_characters images image_size image_quality pages
web_searches tool_calls requests
total_tokens estimated
stream latency_ms ttft_ms status error_type error_message complexity_score provider_cost_usd
trace_id span_id tags metadata sdk_name sdk_version source
"""


def event(**changes: Any) -> UsageEvent:
    return UsageEvent(**{"timestamp": NOON, "provider": "openai", "model": "gpt-4o", **changes})


def test_the_event_has_every_field_that_was_promised() -> None:
    assert set(UsageEvent.model_fields) == set(FIELDS.split())


def test_only_time_provider_and_model_must_be_given() -> None:
    required = {name for name, field in UsageEvent.model_fields.items() if field.is_required()}

    assert required == {"timestamp", "provider", "model"}
    assert event().total_tokens == 0


def test_new_ids_are_version_7_and_sort_by_time() -> None:
    ids = [new_event_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert {uuid.UUID(name).version for name in ids} == {7}
    assert {uuid.UUID(name).variant for name in ids} == {uuid.RFC_4122}
    stamps = [uuid.UUID(name).int >> 80 for name in ids]
    assert stamps == sorted(stamps)
    assert abs(stamps[0] - datetime.now(UTC).timestamp() * 1000) < 60_000


def random_part(name: str) -> str:
    """The digits that do not tell the time."""
    return name[15:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    new_event_id()
    reading, writing = os.pipe()

    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(new_event_id() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = {random_part(name) for name in os.read(reading, 10_000).decode().split()}
    ours = {random_part(new_event_id()) for _ in range(100)}

    assert len(theirs) == len(ours) == 100
    assert not theirs & ours


def test_a_process_that_is_restored_twice_from_one_snapshot_makes_other_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new_event_id()
    state, seeded_ns, clock_ns = event_id._generator.getstate(), event_id._seeded_ns, time.time_ns
    restored = []

    for seconds in (3600, 7200):
        event_id._generator.setstate(state)
        monkeypatch.setattr(event_id, "_seeded_ns", seeded_ns)
        monkeypatch.setattr(time, "time_ns", lambda seconds=seconds: clock_ns() + seconds * 10**9)
        restored.append({random_part(new_event_id()) for _ in range(100)})

    assert not restored[0] & restored[1]


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        event().input_tokens = 7


def test_the_total_is_the_sum_of_both_counts() -> None:
    assert event(input_tokens=5, output_tokens=3).total_tokens == 8
    assert event(input_tokens=5, output_tokens=3, total_tokens=8).total_tokens == 8


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"input_tokens": 5, "total_tokens": 6}, "total_tokens = 6, but input_tokens"),
        (
            {"input_tokens": 5, "cache_read_tokens": 3, "cache_write_tokens": 3},
            "cannot exceed input_tokens = 5",
        ),
        (
            {"input_tokens": 5, "cache_write_tokens": 1, "cache_write_1h_tokens": 2},
            "exceed cache_write_tokens = 1",
        ),
        ({"output_tokens": 5, "reasoning_tokens": 6}, "reasoning_tokens = 6 cannot exceed output_tokens = 5"),
        ({"input_tokens": 5, "input_audio_tokens": 3, "input_image_tokens": 3}, "cannot exceed input_tokens"),
        (
            {"output_tokens": 5, "output_audio_tokens": 3, "output_image_tokens": 3},
            "cannot exceed output_tokens",
        ),
        (
            {"input_tokens": 9, "cache_read_tokens": 1, "cache_audio_read_tokens": 2},
            "exceed cache_read_tokens",
        ),
        (
            {"input_tokens": 9, "cache_read_tokens": 9, "cache_audio_read_tokens": 2},
            "exceed input_audio_tokens",
        ),
        ({"input_tokens": -1}, "greater than or equal to 0"),
        ({"input_tokens": 10**9 + 1}, "less than or equal to 1000000000"),
        ({"input_tokens": True}, "valid integer"),
        ({"input_tokens": 5.0}, "valid integer"),
        ({"requests": 0}, "greater than or equal to 1"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        event(**counts)


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": 5, "cache_read_tokens": 2, "cache_write_tokens": 3, "cache_write_1h_tokens": 3},
        {"output_tokens": 5, "reasoning_tokens": 5},
        {"input_tokens": 10**9, "output_tokens": 10**9},
        {"input_tokens": 5, "input_audio_tokens": 5, "cache_read_tokens": 5, "cache_audio_read_tokens": 5},
    ],
)
def test_counts_at_their_limits_are_accepted(counts: dict[str, int]) -> None:
    assert event(**counts).total_tokens == counts.get("input_tokens", 0) + counts.get("output_tokens", 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"timestamp": NOON.replace(tzinfo=None)}, "timezone"),
        ({"timestamp": datetime(2009, 12, 31, 23, 59, 59, tzinfo=UTC)}, "between the years 2010 and 2100"),
        ({"timestamp": datetime(2100, 1, 1, tzinfo=UTC)}, "between the years 2010 and 2100"),
        ({"event_id": ""}, "at least 1 character"),
        ({"event_id": "x" * 129}, "at most 128 characters"),
        ({"event_id": "a\n"}, "match pattern"),
        ({"user_id": "a\x00"}, "match pattern"),
        ({"model": ""}, "at least 1 character"),
        ({"user_id": "x" * 257}, "at most 256 characters"),
        ({"error_message": "x" * 2049}, "at most 2048 characters"),
        ({"tags": {f"{number}": "" for number in range(33)}}, "at most 32 items"),
        ({"metadata": {"a": "x" * 8192}}, "metadata must fit in 8192 bytes of JSON"),
        ({"metadata": {"a": object()}}, "JSON"),
        ({"processing": "soon"}, "'standard' or 'batch'"),
        ({"latency_ms": float("nan")}, "finite number"),
        ({"provider_cost_usd": Decimal("1e-13")}, "decimal places"),
        ({"provider_cost_usd": Decimal(-1)}, "greater than or equal to 0"),
    ],
)
def test_values_that_cannot_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        event(**changes)


def test_the_time_of_an_event_is_kept_in_utc() -> None:
    moment = event(timestamp=NOON.astimezone(timezone(timedelta(hours=-5)))).timestamp

    assert (moment, moment.tzinfo) == (NOON, UTC)


def test_a_reason_is_one_line_with_at_most_five_problems() -> None:
    wrong = b'{"input_tokens":-1,"output_tokens":-1,"images":-1,"pages":-1,"user_id":1,"stream":1}'

    with pytest.raises(InvalidEventError) as caught:
        UsageEvent.from_wire(wrong)

    text = str(caught.value)
    assert text.count("; ") == 5
    assert text.endswith("; and 4 more")
    assert "\n" not in text


def test_a_reason_is_never_longer_than_a_cell() -> None:
    with pytest.raises(InvalidEventError) as caught:
        UsageEvent.from_wire(b'{"tags": {"' + b"x" * 5000 + b'": 1, "' + b"y" * 5000 + b'": 1}}')

    assert len(str(caught.value)) <= 2000
